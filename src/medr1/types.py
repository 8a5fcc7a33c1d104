"""The records that the parts of medr1 hand to each other: frozen, keyword-only, without behaviour.

The contracts on disk (`predictions.jsonl`, the parquet of samples) have the same field names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Option letters, in order."""

RECORD_FIELDS = "record_fields"
"""Key of `Sample.extra` that lists the fields of the record that a published format had, in order."""

Modality = Literal["CT", "MRI", "X-Ray", "Ultrasound", "Dermoscopy", "Fundus", "OCT", "Microscopy", "other", "unknown"]
Task = Literal[
    "Anatomy Identification",
    "Disease Diagnosis",
    "Lesion Grading",
    "Modality Recognition",
    "Other Biological Attributes",
    "other",
    "unknown",
]
AnswerType = Literal["choice", "yes_no", "multi", "number", "text"]
FailureKind = Literal["picture", "text", "length", "engine"]
"""Why a question could not be asked: its picture cannot be read or is refused, its text breaks the template or the
tokenizer, its prompt is too long, or the engine (or server) did not answer."""

MODALITIES: tuple[Modality, ...] = get_args(Modality)
TASKS: tuple[Task, ...] = get_args(Task)
ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """Where the pixels of one image are: embedded bytes, or a file.

    The path is for opening only: in this field it usually contains the diagnosis, so it is never shown to a model.
    """

    path: str | None = None
    """File to open; with `data` set, only the base name that the bytes came from."""
    data: bytes | None = None
    """Encoded file contents (PNG, JPEG, …), when embedded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about one or more images, with its gold answer."""

    id: str
    """Hash of source, image names, question and options; kept by attack, corruption and control sets."""
    images: tuple[ImageRef, ...]
    question: str
    """The question alone, without the options."""
    options: tuple[str, ...] = ()
    """Option texts in order; the letters A, B, … are their positions. An empty text is a letter that is not offered."""
    answer_index: int | None = None
    """Position of the right option (`choice` and two-option `yes_no`)."""
    answer_type: AnswerType = "choice"
    answers: tuple[str, ...] = ()
    """Accepted answers of the types without a single right option."""
    modality: Modality = "unknown"
    task: Task = "unknown"
    source: str = "unknown"
    """Data set that the question comes from."""
    group: str = ""
    """What must not be split: the image, or series and patient where they are known."""
    rationale: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """What a source has beyond these fields, kept so that conversion loses nothing."""
    variant: str = ""
    """Empty for the original; the name of the control, corruption or attack otherwise."""

    @property
    def gold(self) -> str | None:
        """Letter of the right option, where there is one."""
        return None if self.answer_index is None else LETTERS[self.answer_index]


class ParseStatus(StrEnum):
    """How a completion could be read. Everything but `OK` is unreadable, which is not the same as wrong."""

    OK = "ok"
    EMPTY = "empty"
    """Nothing but white space."""
    MISSING_TAG = "missing_tag"
    """The answer tags that the prompt asked for are not there."""
    TRUNCATED = "truncated"
    """A tag was opened and never closed: the completion ran into its limit."""
    SEVERAL_ANSWERS = "several_answers"
    """More than one pair of answer tags."""
    SEVERAL_LETTERS = "several_letters"
    """One answer that names more than one option ("A or B")."""
    NOT_AN_OPTION = "not_an_option"
    """An answer that is neither a letter nor the text of an option of this question."""
    CONTRADICTION = "contradiction"
    """A letter beside the text of another option ("B. Lung" where B is "Breast tissue")."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a protocol read from a completion."""

    letter: str | None
    """The answer. The published protocols put here whatever they extract, which need not be an option's letter."""
    status: ParseStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine returned for one prompt."""

    text: str
    """Decoded without special tokens."""
    token_ids: tuple[int, ...] = ()
    """Sampled ids up to and including the end token, where the engine tells them."""
    num_tokens: int = 0
    finish_reason: Literal["stop", "length", "error"] = "stop"
    logprobs: tuple[float, ...] = ()
    """Log-probability of each sampled token under the sampling distribution, where the engine tells them."""
    image_tokens: tuple[int, ...] | None = None
    """Tokens that each picture of the prompt became; None where the engine does not tell."""
    failure: FailureKind = "engine"
    """With the finish reason `error`: what kind of failure; `text` says more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The reward of one completion and what it is made of."""

    value: float
    answer: str | None = None
    breakdown: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A picture as an engine got it."""

    sha256: str
    """Of its pixels: 8-bit RGB, row by row."""
    width: int
    height: int
    tokens: int | None
    """That it became in the prompt; None where the engine does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One line of `predictions.jsonl`; (`id`, `variant`, `draw`) is the key."""

    id: str
    variant: str
    draw: int
    group: str
    modality: str
    task: str
    source: str
    options: tuple[str, ...]
    gold: str | None
    prompt_style: str
    question: str | None = None
    """As it was asked, without the options; None in older files and those of other programs."""
    completion: str
    answer: str | None
    parse_status: str
    num_tokens: int
    images: tuple[Receipt, ...] | None = None
    """Receipts of the pictures that the engine got, in order; None where there are none, as for `question`."""
    option_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A line of `predictions.jsonl` for what could not be asked: neither right nor wrong."""

    id: str
    variant: str
    draw: int
    group: str = ""
    modality: str = "unknown"
    task: str = "unknown"
    source: str = "unknown"
    options: tuple[str, ...] = ()
    """Empty in older files, which tell nothing of the question."""
    gold: str | None = None
    prompt_style: str = ""
    question: str | None = None
    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured number with its interval, and how that came about; None for what a file that held it did not tell."""

    value: float
    low: float
    high: float
    n: int | None
    """Observations behind it."""
    groups: int | None
    """Independent units behind it: images (or patients) where questions share them, questions otherwise."""
    method: str | None
    """Of the interval: `wilson`, `bonett-price` or `bootstrap`, with `-clustered` where questions share a unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The answers to one question before and after something was done: to the model, the image or its thinking."""

    before: Prediction
    after: Prediction
