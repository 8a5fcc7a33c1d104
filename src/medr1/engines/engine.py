"""What evaluation and attacks ask of an engine, whatever runs behind it."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from medr1.prompts import PromptTemplate, record_span, render
from medr1.types import Completion, Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to draw completions. Every field is sent to every engine.

    Checkpoints ship `generation_config.json` files with top_k 1 and repetition_penalty 1.05; nothing is left to them.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 is greedy decoding."""
    top_p: float = 1.0
    top_k: int = 0
    """0 switches the filter off."""
    min_p: float = 0.0
    """Least probability as a share of the largest; 0 switches the filter off."""
    repetition_penalty: float = 1.0
    num_draws: int = 1
    """Completions per prompt."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt with its images."""

    key: str
    """Stable name of the request; together with the seed and the draw it fixes the random numbers used for it."""
    text: str
    """The user turn, without image placeholders."""
    images: tuple[Image.Image, ...] = ()
    image_first: bool = True
    """Whether the images stand before the text of the user turn, or behind it."""
    record: tuple[int, int] | None = None
    """Begin and end of what a record says in the text. No control token is live anywhere in it; there, the tags of
    answers are not either."""
    system: str | None = None
    """System turn; None leaves the chat template's own default."""
    completion_prefix: str = ""
    """What the completion is forced to begin with. It is part of the completion's text, not of its sampled tokens."""


def request_for(
    template: PromptTemplate, sample: Sample, images: Iterable[Image.Image], *, key: str, completion_prefix: str = ""
) -> Request:
    """The request that asks a sample's question under a template."""
    return Request(
        key=key,
        text=render(template, sample),
        images=tuple(images),
        image_first=template.image_first,
        record=record_span(template, sample),
        system=template.system,
        completion_prefix=completion_prefix,
    )


def about_pictures(sample: Sample, said: str) -> str:
    """What is said against a sample's pictures, with the names of their files."""
    files = ", ".join(ref.path for ref in sample.images if ref.path is not None and ref.path not in said)
    return f"{files}: {said}" if files else said


CONTROL_LIKE = re.compile(
    r"<[|｜][^<>\s]{1,40}[|｜]>|</?(?:s|think|answer|image|img|tool_call|tool_response|(?:start|end)_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>",
    re.IGNORECASE,
)
"""What templates and tokenizers of common families have for control tokens, where those of a server are unknown."""


def note_control_text(samples: Iterable[Sample], engine: Mapping[str, str]) -> None:
    """Warn once of questions that a server's own template may take for syntax; our own engines take text for text."""
    if engine.get("engine") != "endpoint":
        return
    found = [one.id for one in samples if CONTROL_LIKE.search("\n".join([one.question, *one.options]))]
    if found:
        logger.warning(
            "%d questions hold what reads like a control token (%s first); what the server's template makes of it is "
            "not checked.",
            len(found),
            found[0],
        )


class Engine(Protocol):
    """Turns requests into completions; results do not depend on how requests are batched (float32)."""

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request, in order: `result[request][draw]`."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest: engine, model, dtype, image processor back end, …"""
        ...


Show = Callable[[str], None]
"""Called with each further piece of a completion's text."""


class StreamingEngine(Engine, Protocol):
    """An engine that shows a completion while it is drawn."""

    def stream(self, request: Request, params: SamplingParams, show: Show) -> Completion:
        """One completion; `show` gets its text piece by piece. Failures are as of `generate`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlace:
    """Where a completion answers a question."""

    request: Request
    completion: Completion
    start: int
    """Characters of the completion's text before the answer."""
    num_options: int


class OptionScorer(Protocol):
    """Tells how probable each option letter was where a completion answers, for engines that can."""

    def option_logprobs(self, places: Sequence[AnswerPlace]) -> list[tuple[float, ...] | None]:
        """Log-probabilities of the letters at every place; None where they cannot be told."""
        ...
