"""The engine on a server: any chat endpoint that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, hosted models).

Every completion is a request of its own, with its own seed, so that what fails or is repeated never touches another.
A request that cannot be answered becomes a completion with the finish reason `error` and the cause as its text.
"""

import asyncio
import base64
import io
import os
import re
import time
from asyncio import sleep
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from PIL import Image

from medr1.engines.cache import ResponseCache, request_hash
from medr1.engines.engine import Request, SamplingParams, Show
from medr1.engines.pace import LOST_AFTER, PATIENCE, SILENCE, Pace, retry_delay, spoken, wished_delay
from medr1.engines.replies import (
    RETRIED_STATUSES,
    SHORTEST_PART_OF_ANSWER,
    Pieces,
    ReplyError,
    completion_from,
    masked,
)
from medr1.errors import ConfigError, EngineError
from medr1.prompts import chat
from medr1.streams import stream_bytes
from medr1.types import Completion

T = TypeVar("T")

API_KEY_VARIABLE = "MEDR1_API_KEY"
"""The only place a key is read from. Its name is our own, so that no key goes to a server that it was not meant for."""

SECONDS_TO_CONNECT = 4.0
"""Within which a server takes a connection, or nobody is there."""

MOST_WORDS = 300
"""Characters of what a server says that are kept."""


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
    return int.from_bytes(stream_bytes(seed, key, draw)[:4]) >> 1


SAMPLED_BY = {
    "vllm": (
        *("n", "seed", "temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens"),
        *("top_k", "min_p", "repetition_penalty"),
    ),
    "openai": ("n", "seed", "temperature", "top_p", "presence_penalty", "frequency_penalty", "max_completion_tokens"),
}
"""Fields of each dialect that may be left out."""


def chat_body(
    request: Request,
    params: SamplingParams,
    draw: int,
    model: str,
    dialect: Dialect,
    omit: Collection[str] = (),
) -> dict[str, Any]:
    """Arguments of `chat.completions.create`, every sampling field among them but those to `omit`.

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
        return _without(body | {"max_completion_tokens": params.max_new_tokens}, omit)
    further: dict[str, Any] = {
        "top_k": params.top_k or -1,  # off: -1 is understood by all of these servers, 0 is not
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
    }
    if request.completion_prefix:
        further |= {"continue_final_message": True, "add_generation_prompt": False}
    return _without(body | {"max_tokens": params.max_new_tokens}, omit) | {"extra_body": _without(further, omit)}


def _without(body: Mapping[str, Any], omit: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in omit}


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
    patience: float = PATIENCE
    """Seconds that one request waits in all between its tries; a server that asks for more is told no."""
    omit: tuple[str, ...] = ()
    """Sampling fields that are not sent, for models that refuse them: reasoning models take no temperature."""
    cache: ResponseCache | None = None
    _pace: Pace = field(init=False, repr=False)
    _lost: int = field(init=False, repr=False, default=0)
    """Requests that the server failed since the last answer."""
    _silent_since: float | None = field(init=False, repr=False, default=None)
    """Clock time of the first failure since the last answer."""

    def __post_init__(self) -> None:
        self._pace = Pace(self.requests_per_minute)
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.base_url!r} is no address of an endpoint; write it like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ConfigError(f"the endpoint's address holds a user or password; put the key into {API_KEY_VARIABLE}")
        unknown = [name for name in self.omit if name not in SAMPLED_BY[self.dialect]]
        if unknown:
            known = ", ".join(SAMPLED_BY[self.dialect])
            raise ConfigError(f"the dialect {self.dialect} sends no field {unknown[0]!r} to omit; choose of {known}")

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest, without the address: it may name a machine, and its port may change."""
        omitted = {"omit": ",".join(sorted(self.omit))} if self.omit else {}
        return {"engine": "endpoint", "model": self.model, "dialect": self.dialect, **omitted}

    def check(self) -> None:
        """Ask for the list of models once. Raises `EngineError` where nobody answers or the key is refused."""
        _run(self._check())

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request, in order: `result[request][draw]`; failed ones have the finish reason `error`.

        Raises `ConfigError` for sampling that the dialect cannot express.
        """
        self._check_sayable(requests, params)
        return _run(self._generate(requests, params))

    def stream(self, request: Request, params: SamplingParams, show: Show) -> Completion:
        """One completion, shown as the server sends it; at once where it does not send it in pieces."""
        self._check_sayable([request], params)

        async def ask() -> Completion:
            async with self._client() as client:
                return await self._completion(client, asyncio.Semaphore(1), request, params, 0, show)

        return _run(ask())

    def _check_sayable(self, requests: Sequence[Request], params: SamplingParams) -> None:
        """Raise `ConfigError` for sampling that the dialect cannot express."""
        unsaid = (params.top_k, params.min_p, params.repetition_penalty) != (0, 0.0, 1.0)
        if self.dialect == "openai" and (unsaid or any(request.completion_prefix for request in requests)):
            raise ConfigError(
                "the dialect openai has no top_k, min_p, repetition_penalty and no completion that is begun already; "
                "leave them out or choose --dialect vllm"
            )
        unset = SamplingParams()
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
            if name in self.omit and getattr(params, name) != getattr(unset, name):
                flag = f"--{name.replace('_', '-')} {getattr(params, name)}"
                raise ConfigError(f"{flag} is not sent, since --omit names {name}; leave one of them out")

    def _client(self) -> AsyncOpenAI:
        # Time-outs and retries are ours: they must pass the pace and include replies that are no completions.
        key = os.environ.get(API_KEY_VARIABLE) or "none"
        stay = DefaultAsyncHttpxClient(event_hooks={"request": [self._refuse_other_hosts]}, timeout=None)
        patience = Timeout(None, connect=SECONDS_TO_CONNECT)
        return AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=patience, max_retries=0, http_client=stay)

    async def _refuse_other_hosts(self, request: Any) -> None:
        """Raise `ReplyError` where a redirect leads away: the pictures were meant for one server."""
        ours, asked = urlsplit(self.base_url), urlsplit(str(request.url))
        becomes_safe = (ours.scheme, ours.port, asked.scheme, asked.port) == ("http", None, "https", None)
        if ours.hostname != asked.hostname or not (_door(ours) == _door(asked) or becomes_safe):
            raise ReplyError(
                f"{self.base_url} sends requests on to {asked.scheme}://{asked.netloc}, which was not asked for: "
                "nothing was sent there; give that address as --base-url if it is the right one",
                retry=False,
            )

    async def _check(self) -> None:
        try:
            async with self._client() as client, asyncio.timeout(self.timeout):
                await client.models.with_raw_response.list()
        except (APIConnectionError, TimeoutError) as error:
            if isinstance(error.__cause__, ReplyError):
                raise error.__cause__ from None
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
        self,
        client: AsyncOpenAI,
        slots: asyncio.Semaphore,
        request: Request,
        params: SamplingParams,
        draw: int,
        show: Show | None = None,
    ) -> Completion:
        """One completion, from the cache where it has it."""
        async with slots:
            if self.cache is None:
                return await self._ask(client, request, params, draw, show)
            key = request_hash({**self.describe(), "base_url": self.base_url}, request, params, draw, self.omit)
            completion = self.cache.get(key)
            if completion is None:
                completion = await self._ask(client, request, params, draw, show)
                if completion.finish_reason != "error":
                    self.cache.put(key, completion)
            elif show is not None:
                show(completion.text)
            return completion

    async def _ask(
        self, client: AsyncOpenAI, request: Request, params: SamplingParams, draw: int, show: Show | None
    ) -> Completion:
        """Try until there is an answer, a final refusal, no try or no patience left."""
        body = await asyncio.to_thread(chat_body, request, params, draw, self.model, self.dialect, self.omit)
        failure, waited = None, 0.0
        for attempt in range(self.max_retries + 1):
            if failure is not None:
                delay = retry_delay(attempt, self.first_delay, failure.delay)
                if waited + delay > self.patience:
                    failure = self._impatient(failure, delay)
                    break
                waited += delay
                await sleep(delay)
            await sleep(self._pace.reserve(time.monotonic()))
            if lost := self._why_lost():
                return Completion(text=f"not asked: {lost}", finish_reason="error")
            try:
                completion = await self._try(client, body, request.completion_prefix, show)
            except ReplyError as error:
                failure = error
                if not failure.retry:
                    break
                self._silent_since = self._silent_since or time.monotonic()
                if failure.delay is not None and failure.delay <= self.patience:  # the server speaks to all of us
                    self._pace.hold(time.monotonic() + failure.delay)
            else:
                self._lost, self._silent_since = 0, None
                return completion
        assert failure is not None, "there is at least one try"
        self._lost += failure.retry
        return Completion(text=str(failure), finish_reason="error")

    def _why_lost(self) -> str | None:
        """Why the server is given up; None where it is not."""
        if self._lost >= LOST_AFTER:
            return f"the server had failed {LOST_AFTER} requests in a row"
        if self._silent_since is not None and time.monotonic() - self._silent_since > SILENCE:
            return f"nothing but failures had come from the server for {spoken(SILENCE)}"
        return None

    def _impatient(self, failure: ReplyError, delay: float) -> ReplyError:
        wish = f"the server asks to wait {spoken(delay)} (Retry-After)" if failure.delay else f"{spoken(delay)} to wait"
        return ReplyError(
            f"{failure}; {wish}, and a request waits at most {spoken(self.patience)} in all: call again later"
        )

    async def _try(
        self, client: AsyncOpenAI, body: Mapping[str, Any], prefix: str, show: Show | None = None
    ) -> Completion:
        """One request. Raises `ReplyError` for whatever brings no completion."""
        key = os.environ.get(API_KEY_VARIABLE)
        try:
            async with asyncio.timeout(self.timeout):
                if show is None:
                    reply = (await client.chat.completions.with_raw_response.create(**body)).content
                else:
                    reply = await _streamed(client, body, prefix, show)
            completion = completion_from(reply, prefix)
        except TimeoutError:
            raise ReplyError(f"no reply within {self.timeout:g} s") from None
        except APIStatusError as error:
            said = " ".join(_cause(error).split()).removeprefix(f"Error code: {error.status_code} - ")
            said = masked(said[:MOST_WORDS], key)
            refused = [name for name in SAMPLED_BY[self.dialect] if re.search(rf"\b{name}\b", said)]
            hint = f"; leave out what the model refuses with --omit {','.join(refused)}" if refused else ""
            raise ReplyError(
                f"HTTP {error.status_code}: {said}{hint if error.status_code in (400, 422) else ''}",
                retry=error.status_code in RETRIED_STATUSES,
                delay=wished_delay(error.response.headers),
            ) from None
        except APIConnectionError as error:
            cause = error.__cause__ or error
            if isinstance(cause, ReplyError):
                raise cause from None
            said = masked(f"{type(cause).__name__}: {cause}", key)
            raise ReplyError(f"the connection failed or broke ({said})") from None
        except ReplyError as error:
            raise ReplyError(masked(str(error)[:MOST_WORDS], key), retry=error.retry, delay=error.delay) from None
        shortest = min(len(key or ""), SHORTEST_PART_OF_ANSWER)
        return replace(completion, text=masked(completion.text, key, shortest) if shortest >= 8 else completion.text)


async def _streamed(client: AsyncOpenAI, body: Mapping[str, Any], prefix: str, show: Show) -> bytes:
    """The whole reply to a request, its text shown as it comes. Raises `ReplyError` for one that breaks off."""
    pieces = Pieces(show, prefix)
    told: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    async with client.chat.completions.with_streaming_response.create(**body, **told) as reply:
        if "event-stream" not in reply.headers.get("content-type", ""):
            whole = await reply.read()
            show(completion_from(whole, prefix).text)
            return whole
        try:
            async for line in reply.iter_lines():
                pieces.take(line)
        except ReplyError:
            raise
        except Exception as error:  # noqa: BLE001 - the client's kinds have another home in every version
            raise ReplyError(f"the connection broke ({error})", retry=not pieces.shown) from None
    return pieces.whole()


def _cause(error: APIStatusError) -> str:
    """What the server says; older clients show it with all that is around it."""
    body = error.body.get("error", error.body) if isinstance(error.body, dict) else None
    message = body.get("message") if isinstance(body, dict) else body
    return message if isinstance(message, str) else error.message


def _door(address: SplitResult) -> tuple[str, int | None]:
    return address.scheme, address.port or {"http": 80, "https": 443}.get(address.scheme)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
