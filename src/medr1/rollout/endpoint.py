"""The engine on a server: any chat endpoint that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, hosted models).

Every completion is a request of its own, with its own seed, so that what fails or is repeated never touches another.
A request that cannot be answered becomes a completion with the finish reason `error` and the cause as its text.
"""

import asyncio
import base64
import hashlib
import io
import os
import time
from asyncio import sleep
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from medr1.errors import ConfigError, EngineError
from medr1.prompts import chat
from medr1.rollout.cache import ResponseCache, request_hash
from medr1.rollout.engine import Request, SamplingParams
from medr1.rollout.pace import Pace, asked_delay, retry_delay
from medr1.types import Completion

T = TypeVar("T")

API_KEY_VARIABLE = "MEDR1_API_KEY"
"""The only place a key is read from. Its name is our own, so that no key goes to a server that it was not meant for."""

RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
LONGEST_WAIT = 300.0
"""Seconds; where a server asks for more patience, its request has failed for this run."""
LOST_AFTER = 50
"""Requests in a row that the server itself failed: then the others are not tried, they would wait hours for nothing."""


Dialect = Literal["vllm", "openai"]
"""Which sampling fields a server takes: `vllm` also top_k, min_p and repetition_penalty, as vLLM, SGLang, llama.cpp and
most servers of open models do; `openai` only what OpenAI documents, since its servers refuse the others."""


def image_url(image: Image.Image) -> str:
    """The image as a `data:` address of a PNG, which keeps every pixel."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def request_seed(seed: int, key: str, draw: int) -> int:
    """Seed of one completion: 31 bits, which every server takes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}/{draw}".encode()).digest()[:4]) >> 1


def chat_body(request: Request, params: SamplingParams, draw: int, model: str, dialect: Dialect) -> dict[str, Any]:
    """Arguments of `chat.completions.create`, every sampling field among them.

    Servers fill what is missing from the checkpoint's `generation_config.json` (top_k 1, repetition_penalty 1.05).
    """
    images = [{"type": "image_url", "image_url": {"url": image_url(image)}} for image in request.images]
    messages = chat(request.text, images, system=request.system, image_first=request.image_first)
    if request.completion_prefix:
        messages.append({"role": "assistant", "content": request.completion_prefix})
    body = {
        "model": model,
        "messages": messages,
        "n": 1,
        "seed": request_seed(params.seed, request.key, draw),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if dialect == "openai":
        return body | {"max_completion_tokens": params.max_new_tokens}
    further = {
        "top_k": params.top_k or -1,  # off: -1 is understood by all of these servers, 0 is not
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
    }
    if request.completion_prefix:
        further |= {"continue_final_message": True, "add_generation_prompt": False}
    return body | {"max_tokens": params.max_new_tokens, "extra_body": further}


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int = Field(default=0, ge=0)


class _Reply(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _TryError(EngineError):
    """A try that brought no answer; `delay` is the server's wish for the next one."""

    def __init__(self, reason: str, *, retry: bool = True, delay: float | None = None) -> None:
        super().__init__(reason)
        self.retry, self.delay = retry, delay


def completion_from(body: bytes) -> Completion:
    """The completion in the body of a reply. Raises `EngineError` for what is none."""
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise _TryError(f"the reply is no chat completion ({where}: {first['msg']})") from None
    choice = reply.choices[0]
    text = choice.message.content
    match choice.finish_reason:
        case "stop" if text is not None:
            reason = "stop"
        case "length":  # without text where the server keeps the thinking apart and it did not end
            reason = "length"
        case other:
            what = "no text" if text is None else "an unfinished text"
            raise _TryError(f"the reply has {what} (finish reason {other!r})", retry=False)
    num_tokens = reply.usage.completion_tokens if reply.usage else 0
    return Completion(text=text or "", num_tokens=num_tokens, finish_reason=reason)


@dataclass(kw_only=True)
class EndpointEngine:
    """Completions from a chat endpoint; reads its key from the environment variable `MEDR1_API_KEY`, if it needs one.

    Raises `ConfigError` for an address that is none.
    """

    base_url: str
    """Up to and including `/v1`."""
    model: str
    """Name under which the server serves it."""
    dialect: Dialect = "vllm"
    concurrency: int = 8
    """Requests under way at a time."""
    requests_per_minute: float | None = None
    """Most requests that are started in a minute, tries that failed included; None sets no limit."""
    timeout: float = 120.0
    """Seconds for one try, from sending to the last byte."""
    max_retries: int = 5
    """Further tries after time-outs, lost connections, unusable replies and the statuses 408, 409, 425, 429, 5xx."""
    first_delay: float = 1.0
    """Seconds before the first of them; it doubles with each."""
    cache: ResponseCache | None = None
    _pace: Pace = field(init=False, repr=False)
    _lost: int = field(init=False, repr=False, default=0)
    """Requests that the server failed since the last answer."""

    def __post_init__(self) -> None:
        self._pace = Pace(self.requests_per_minute)
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.base_url!r} is no address of an endpoint; write it like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ConfigError(f"the endpoint's address holds a user or password; put the key into {API_KEY_VARIABLE}")

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest, without the address: it may name a machine, and its port may change."""
        return {"engine": "endpoint", "model": self.model, "dialect": self.dialect}

    def check(self) -> None:
        """Ask for the list of models once. Raises `EngineError` where nobody answers or the key is refused."""
        _run(self._check())

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request, in order: `result[request][draw]`; failed ones have the finish reason `error`.

        Raises `ConfigError` for sampling that the dialect cannot express.
        """
        unsaid = (params.top_k, params.min_p, params.repetition_penalty) != (0, 0.0, 1.0)
        if self.dialect == "openai" and (unsaid or any(request.completion_prefix for request in requests)):
            raise ConfigError(
                "the dialect openai has no top_k, min_p, repetition_penalty and no completion that is begun already; "
                "leave them out or choose --dialect vllm"
            )
        return _run(self._generate(requests, params))

    def _client(self) -> AsyncOpenAI:
        # Time-outs and retries are ours: they must pass the pace and include replies that are no completions.
        key = os.environ.get(API_KEY_VARIABLE) or "none"
        return AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=None, max_retries=0)

    async def _check(self) -> None:
        try:
            async with self._client() as client, asyncio.timeout(self.timeout):
                await client.models.with_raw_response.list()
        except (APIConnectionError, TimeoutError):
            raise EngineError(f"nobody answers at {self.base_url}; start the server or check the address") from None
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise EngineError(
                    f"{self.base_url} refuses the key (HTTP {error.status_code}); set {API_KEY_VARIABLE} to a valid one"
                ) from None
            # Not every server lists its models.

    async def _generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        slots = asyncio.Semaphore(self.concurrency)
        async with self._client() as client:
            draws = range(params.num_draws)
            jobs = [self._completion(client, slots, r, params, draw) for r in requests for draw in draws]
            completions = iter(await asyncio.gather(*jobs))
        return [[next(completions) for _ in draws] for _ in requests]

    async def _completion(
        self, client: AsyncOpenAI, slots: asyncio.Semaphore, request: Request, params: SamplingParams, draw: int
    ) -> Completion:
        """One completion, from the cache where it has it."""
        async with slots:
            if self.cache is None:
                return await self._ask(client, request, params, draw)
            key = request_hash({**self.describe(), "base_url": self.base_url}, request, params, draw)
            completion = self.cache.get(key)
            if completion is None:
                completion = await self._ask(client, request, params, draw)
                if completion.finish_reason != "error":
                    self.cache.put(key, completion)
            return completion

    async def _ask(self, client: AsyncOpenAI, request: Request, params: SamplingParams, draw: int) -> Completion:
        """Try until there is an answer, a final refusal, or no try left."""
        if self._lost >= LOST_AFTER:
            reason = f"not asked: the server had failed {LOST_AFTER} requests in a row"
            return Completion(text=reason, finish_reason="error")
        body = await asyncio.to_thread(chat_body, request, params, draw, self.model, self.dialect)
        failure = None
        for attempt in range(self.max_retries + 1):
            if failure is not None:
                await sleep(retry_delay(attempt, self.first_delay, failure.delay))
            await sleep(self._pace.reserve(time.monotonic()))
            try:
                completion = await self._try(client, body)
            except _TryError as error:
                failure = error
                if not failure.retry:
                    break
                if failure.delay is not None:  # the server speaks to all of us
                    self._pace.hold(time.monotonic() + failure.delay)
            else:
                self._lost = 0
                return replace(completion, text=request.completion_prefix + completion.text)
        assert failure is not None, "there is at least one try"
        self._lost += failure.retry
        return Completion(text=str(failure), finish_reason="error")

    async def _try(self, client: AsyncOpenAI, body: Mapping[str, Any]) -> Completion:
        """One request. Raises `_TryError` for whatever brings no completion."""
        try:
            async with asyncio.timeout(self.timeout):
                reply = await client.chat.completions.with_raw_response.create(**body)
        except TimeoutError:
            raise _TryError(f"no reply within {self.timeout:g} s") from None
        except APIStatusError as error:
            key = os.environ.get(API_KEY_VARIABLE)
            said = error.message.replace(key, "…") if key else error.message
            delay = asked_delay(error.response.headers.get("retry-after"))
            raise _TryError(
                f"HTTP {error.status_code}: {' '.join(said.split())[:300]}",
                retry=error.status_code in RETRIED_STATUSES and (delay or 0.0) <= LONGEST_WAIT,
                delay=delay,
            ) from None
        except APIConnectionError as error:
            cause = error.__cause__ or error
            raise _TryError(f"the connection failed or broke ({type(cause).__name__}: {cause})") from None
        return completion_from(reply.content)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
