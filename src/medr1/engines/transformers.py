"""The engine on transformers: prompts prefilled once, images encoded once, any number of draws.

And the probabilities of the option letters after the model's own thinking, from one more forward over its completion.

Axes: N completions, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, TextStreamer
from transformers.processing_utils import ProcessorMixin

from medr1.engines.engine import AnswerPlace, Request, SamplingParams, Show
from medr1.engines.sampler import sample
from medr1.models import literal
from medr1.models.loading import checkpoint_identity, identity_in_memory, image_backend, load_model, load_processor
from medr1.models.pixels import image_tokens
from medr1.models.shared.pack import PromptTensors, encode_prompts, left_padded
from medr1.prompts import chat
from medr1.types import LETTERS, Completion

IMAGE_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
"""Never sampled: the next forward would look for pixels that are not there."""


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def declared_ends(generation: GenerationConfig, tokenizer: Any) -> list[int]:
    """Every token that ends a completion: those of the checkpoint's generation settings and the tokenizer's."""
    declared = generation.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return [*declared, *({tokenizer.eos_token_id} - set(declared))]


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a completion: the model's own and the tokenizer's."""
    assert model.generation_config is not None, "every model that generates has generation settings"
    return declared_ends(model.generation_config, tokenizer)


def image_token_ids(tokenizer: Any) -> list[int]:
    """Ids of those image tokens that the tokenizer has."""
    ids = tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
    return [i for i in ids if i is not None and i != tokenizer.unk_token_id]


def chat_text(processor: ProcessorMixin, request: Request) -> str:
    """The request after the checkpoint's chat template, one placeholder per image, control text of its own marked."""
    images = [{"type": "image"} for _ in request.images]
    messages = chat(request.text, images, system=request.system, image_first=request.image_first, record=request.record)
    return literal.chat_text(processor, messages)


def forced_ids(tokenizer: Any, request: Request) -> list[int]:
    """Tokens that the completion is forced to begin with."""
    return literal.token_ids(tokenizer, literal.literal(tokenizer, request.completion_prefix))


def refusal(processor: Any, request: Request) -> Completion | None:
    """Why a checkpoint cannot be asked a question, as a completion that failed; None where it can."""
    try:
        literal.token_ids(processor.tokenizer, chat_text(processor, request))
        forced_ids(processor.tokenizer, request)
    except literal.TEXT_ERRORS as error:
        said = f"its text is refused by the checkpoint's template or tokenizer ({error})"
        return Completion(text=said, finish_reason="error", failure="text")
    for number, image in enumerate(request.images, start=1):
        try:
            image_tokens(image.width, image.height, processor.image_processor)
        except ValueError as error:
            said = (
                f"picture {number} ({image.width} × {image.height}) is refused by the checkpoint's processor ({error})"
            )
            return Completion(text=said, finish_reason="error", failure="picture")
    return None


def askable(
    processor: Any, requests: Sequence[Request], num_draws: int, generate: Callable[..., list[list[Completion]]]
) -> list[list[Completion]]:
    """Completions by `generate(requests)` of those that the checkpoint can be asked, and of the others what refuses."""
    refused = [refusal(processor, request) for request in requests]
    asked = [request for request, why in zip(requests, refused, strict=True) if why is None]
    drawn = iter(generate(asked))
    return [next(drawn) if why is None else [why] * num_draws for why in refused]


class _Words(TextStreamer):
    """Hands the text of a completion on as soon as its words are whole."""

    def __init__(self, tokenizer: Any, show: Show) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self.show = show

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called by the parent with what is whole."""
        self.show(text)


class TransformersEngine:
    """Completions from a checkpoint folder, or from a model in memory.

    Args:
        model: a checkpoint folder, that of an adapter, or a loaded model.
        processor: needed with a loaded model only.
        device: `cpu`, `cuda`, …; None takes the GPU where there is one.
        dtype: of the weights; `auto` is that of the checkpoint.
        batch_size: rows (prompts × draws) that are decoded together.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        *,
        processor: ProcessorMixin | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 64,
        attn_implementation: str = "sdpa",
    ) -> None:
        self.batch_size = batch_size
        self.model: Any
        if isinstance(model, nn.Module):
            assert processor is not None, "a model in memory comes with its processor"
            self.model, self.processor = model.eval(), processor
            self.name = type(model).__name__
            self.identity = identity_in_memory(model, processor)
        else:
            self.processor = load_processor(model)
            device = device or default_device()
            self.model = load_model(model, device=device, dtype=dtype, attn_implementation=attn_implementation)
            self.name = Path(model).name
            self.identity = checkpoint_identity(model)
        self.tokenizer: Any = self.processor.tokenizer

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest."""
        return {
            "engine": "transformers",
            "model": self.name,
            **self.identity,
            "family": self.model.config.model_type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "image_backend": image_backend(),
        }

    def chat_text(self, request: Request) -> str:
        """The request after the checkpoint's chat template."""
        return chat_text(self.processor, request)

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request: `result[request][draw]`. float32 results do not depend on the batch size.

        A request that the checkpoint cannot be asked gets completions with the finish reason `error`.
        """
        return askable(self.processor, requests, params.num_draws, lambda some: self._generate(some, params))

    def stream(self, request: Request, params: SamplingParams, show: Show) -> Completion:
        """One completion, shown word by word as it is drawn; the same as `generate` draws."""
        why = refusal(self.processor, request)
        if why is not None:
            return why
        words = _Words(self.tokenizer, show)
        show(request.completion_prefix)
        drawn = self._generate_batch([request], replace(params, num_draws=1), lambda tokens: words.put(tokens.cpu()))
        words.end()
        return drawn[0][0]

    def _generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        step = max(1, self.batch_size // params.num_draws)
        results: list[list[Completion]] = []
        for start in range(0, len(requests), step):
            results += self._generate_batch(requests[start : start + step], params)
        return results

    def prompts(self, requests: Sequence[Request]) -> list[PromptTensors]:
        """The requests as the model takes them, each with the tokens that its completion is forced to begin with."""
        texts = [self.chat_text(request) for request in requests]
        prompts = encode_prompts(self.processor, self.model, texts, [request.images for request in requests])
        forced = [forced_ids(self.tokenizer, request) for request in requests]
        return [prompt.followed_by(ids) for prompt, ids in zip(prompts, forced, strict=True)]

    def _generate_batch(
        self,
        requests: Sequence[Request],
        params: SamplingParams,
        on_tokens: Callable[[Tensor], None] | None = None,
    ) -> list[list[Completion]]:
        prompts = self.prompts(requests)
        drawn = sample(
            self.model,
            [prompt.to(self.model.device) for prompt in prompts],
            [[f"{request.key}/{draw}" for draw in range(params.num_draws)] for request in requests],
            params,
            eos_token_ids=end_token_ids(self.model, self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            forbidden_token_ids=image_token_ids(self.tokenizer),
            on_tokens=on_tokens,
        )
        return [
            [
                Completion(
                    text=request.completion_prefix + self.tokenizer.decode(draw.token_ids, skip_special_tokens=True),
                    token_ids=tuple(draw.token_ids),
                    num_tokens=len(draw.token_ids),
                    finish_reason="stop" if draw.finished else "length",
                    logprobs=tuple(draw.logprobs),
                    image_tokens=self._image_tokens(prompt),
                )
                for draw in draws
            ]
            for request, prompt, draws in zip(requests, prompts, drawn, strict=True)
        ]

    def _image_tokens(self, prompt: PromptTensors) -> tuple[int, ...]:
        """Of each picture, counted in the prompt as the model takes it."""
        if prompt.image_grid_thw is None:
            return ()
        merged = self.processor.image_processor.merge_size**2  # type: ignore[attr-defined]
        return tuple((prompt.image_grid_thw.prod(-1) // merged).tolist())


def letter_token_ids(tokenizer: Any, letter: str, head: str = "") -> list[int]:
    """Ids of the single tokens that are `head` and the letter, without and with a space between; often two or one.

    `head` is what a token has before the letter: Qwen's tokenizer writes `<answer>B` as `<`, `answer`, `>B`.
    """
    variants = [tokenizer(head + space + letter, add_special_tokens=False).input_ids for space in ("", " ")]
    return [ids[0] for ids in variants if len(ids) == 1]


def split_at(tokenizer: Any, token_ids: Sequence[int], start: int) -> tuple[int, int]:
    """The token that holds the character at `start` of the decoded ids: its index, and the character it begins at."""
    for count in reversed(range(len(token_ids))):
        begin = len(tokenizer.decode(token_ids[:count], skip_special_tokens=True))
        if begin <= start:
            return count, begin
    raise AssertionError("no tokens, so no character to find")


class TransformersOptionScorer:
    """Option log-probabilities from the model of a `TransformersEngine`.

    They are those of the whole vocabulary at temperature 1, before the token with which the answer begins: for every
    letter the sum over the tokens that stand for it there. They need not add up to 1 over the options. Prompt and
    completion go through the model as they were, token by token; nothing is tokenized anew.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    def option_logprobs(self, places: Sequence[AnswerPlace]) -> list[tuple[float, ...] | None]:
        """Log-probabilities of the K letters of every completion.

        None where the answer began in what the completion was forced to begin with, or where the tokenizer has no
        single token for a letter.
        """
        results: list[tuple[float, ...] | None] = []
        for start in range(0, len(places), self.engine.batch_size):
            results += self._score_batch(places[start : start + self.engine.batch_size])
        return results

    @torch.no_grad()
    def _score_batch(self, places: Sequence[AnswerPlace]) -> list[tuple[float, ...] | None]:
        engine, tokenizer = self.engine, self.engine.tokenizer
        found = [self._candidates(place) for place in places]
        rows = [n for n, candidates in enumerate(found) if candidates is not None]
        results: list[tuple[float, ...] | None] = [None] * len(places)
        if not rows:
            return results
        prompts = engine.prompts([places[n].request for n in rows])
        continued = []
        for n, prompt in zip(rows, prompts, strict=True):
            before, _ = found[n]  # type: ignore[misc]
            continued.append(prompt.followed_by(places[n].completion.token_ids[:before]).to(engine.model.device))
        batch = left_padded(continued, tokenizer.pad_token_id)
        log_NV = engine.model(**batch, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
        for n, log_V in zip(rows, log_NV, strict=True):
            _, ids_of_letters = found[n]  # type: ignore[misc]
            results[n] = tuple(float(log_V[ids].logsumexp(0)) for ids in ids_of_letters)
        return results

    def _candidates(self, place: AnswerPlace) -> tuple[int, list[list[int]]] | None:
        """How many tokens come before the answer's first one, and the ids that stand for each letter in its place."""
        completion, tokenizer = place.completion, self.engine.tokenizer
        start = place.start - len(place.request.completion_prefix)
        if start < 0:
            return None
        before, begin = split_at(tokenizer, completion.token_ids, start)
        generated = completion.text.removeprefix(place.request.completion_prefix)
        head = generated[begin:start].rstrip()
        ids = [letter_token_ids(tokenizer, letter, head) for letter in LETTERS[: place.num_options]]
        return (before, ids) if all(ids) else None
