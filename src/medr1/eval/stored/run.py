"""Completions that another program stored, with the questions as it stored them."""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from medr1.answers import parse_answer
from medr1.answers.wording import word_rows
from medr1.data.names import modality_of, task_of
from medr1.data.options import absent, given_options, gold_index
from medr1.data.record_files import Record
from medr1.data.typed import YES_NO, kind_of_answer
from medr1.errors import DataError
from medr1.eval.files import asked_of
from medr1.records import short_hash
from medr1.types import LETTERS, Failure, Modality, Prediction, Sample, Task

OPTION_FIELDS = ("options", "choices")
MODALITY_FIELDS = ("modality_type", "modality")
TASK_FIELDS = ("question_type", "task")
SOURCE_FIELDS = ("dataset", "source")
IMAGE_FIELDS = ("image_path", "image_name", "img_name", "image")
"""Fields in which the kits keep these facts; the first that is there counts."""

FAILED_CALLS = [(row["where"], row["words"]) for row in word_rows("failed_calls", "medr1.eval")]
MOST_WORDS = 300
"""Characters of a failure that are kept."""

_LABELLED_LINE = re.compile(r"^\s*\(?([A-Z])[).:]\s*(\S.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What a file or folder of predictions holds."""

    kind: str
    """Name of the program whose format it is; `medr1` for our own."""
    samples: Sequence[Sample]
    predictions: Sequence[Prediction]
    """One or more draws of every sample."""
    failures: Sequence[Failure] = ()
    """Calls that had failed when the file was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """One question of another program and the completions that it has for it."""

    sample: Sample
    completions: Sequence[str]


def stored_run(kind: str, answers: Sequence[StoredAnswer]) -> StoredRun:
    """The run of another program. A question that is there again is kept, under another id.

    Raises `DataError` where no call had brought an answer.
    """
    times = Counter[str]()
    samples, predictions, failures = [], [], []
    for answer in answers:
        sample = answer.sample
        times[sample.id] += 1
        if times[sample.id] > 1:
            sample = replace(sample, id=short_hash([sample.id, times[sample.id]]))
        samples.append(sample)
        for draw, text in enumerate(answer.completions):
            if is_failed_call(text):
                failures.append(_failure_of(sample, text, draw, kind))
            else:
                predictions.append(prediction_of(sample, text, draw, kind))
    if failures and not predictions:
        raise DataError(
            f"all {len(failures)} calls had failed when the answers were stored ({failures[0].message!r}); "
            "evaluate again"
        )
    return StoredRun(kind=kind, samples=samples, predictions=predictions, failures=failures)


def is_failed_call(text: str) -> bool:
    """Whether a stored text says that there is no completion (`words/failed_calls.tsv`).

    >>> is_failed_call("Failed to obtain answer via API."), is_failed_call("I failed to see a lesion.")
    (True, False)
    """
    said = text.strip()
    return any(
        words in said if where == "anywhere" else said.startswith(words) if where == "start" else said == words
        for where, words in FAILED_CALLS
    )


def _failure_of(sample: Sample, text: str, draw: int, prompt_style: str) -> Failure:
    return Failure(
        id=sample.id,
        variant=sample.variant,
        draw=draw,
        kind="engine",
        message=" ".join(text.split())[:MOST_WORDS],
        **asked_of(sample, prompt_style),
    )


def prediction_of(sample: Sample, completion: str, draw: int, prompt_style: str) -> Prediction:
    """A completion as a line of `predictions.jsonl`: what it was asked is unknown, so tags may be missing."""
    parsed = parse_answer(completion, sample, "letter")
    return Prediction(
        id=sample.id,
        variant=sample.variant,
        draw=draw,
        group=sample.group,
        modality=sample.modality,
        task=sample.task,
        source=sample.source,
        options=sample.options,
        gold=sample.gold,
        prompt_style=prompt_style,
        completion=completion,
        answer=parsed.letter,
        parse_status=str(parsed.status),
        num_tokens=0,
    )


def question_of(prediction: Prediction | Failure) -> Sample:
    """What a line of our own `predictions.jsonl` tells of its question: all that scoring needs, no text and images."""
    return Sample(
        id=prediction.id,
        variant=prediction.variant,
        images=(),
        question="",
        options=prediction.options,
        answer_index=None if prediction.gold is None else LETTERS.index(prediction.gold),
        modality=cast(Modality, prediction.modality),
        task=cast(Task, prediction.task),
        source=prediction.source,
        group=prediction.group,
    )


def sample_of(facts: Record, *, identity: Sequence[Any], question: str, options: Sequence[str], gold: Any) -> Sample:
    """The question of a record, without its images; open where it has neither options nor a yes or no as gold.

    `gold` is a letter, a position, the text of an option, or both. `DataError` where it is none of the options.
    """
    image = _first(facts, IMAGE_FIELDS)
    known = Sample(
        id=short_hash(list(identity)),
        images=(),
        question=question,
        modality=modality_of(_first(facts, MODALITY_FIELDS)),
        task=task_of(_first(facts, TASK_FIELDS)),
        source=_first(facts, SOURCE_FIELDS) or str(identity[0]),
        group=short_hash(image) if image else "",
    )
    text = "" if gold is None else str(gold).strip()
    if options:
        position = gold if isinstance(gold, int) else gold_index(text, options)
        if not 0 <= position < min(len(options), len(LETTERS)) or not options[position]:
            raise DataError(f"the gold answer {text[:80]!r} is none of the options; correct it or remove the record")
        return replace(known, options=tuple(options), answer_index=position)
    if absent(text):
        raise DataError("has no gold answer; add it or remove the record")
    if re.fullmatch(r"[A-Za-z]", text):
        raise DataError(
            f"has the letter {text} as gold answer but no options; evaluate again with options in the output"
        )
    if kind_of_answer(text) == "yes_no":
        return replace(known, options=YES_NO, answer_index=gold_index(text, YES_NO), answer_type="yes_no")
    return replace(known, answers=(text,), answer_type=kind_of_answer(text))


def options_of(record: Record) -> tuple[str, ...]:
    """Option texts without their labels: of a list or object (or its text), or of the fields A, B, … or option_A, …

    Letters keep their places where one is empty: the completions speak of them.
    """
    value: Any = next((record[name] for name in OPTION_FIELDS if record.get(name)), None)
    if isinstance(value, str):
        value = _literal(value)
    if value is None:
        value = [record.get(letter, record.get(f"option_{letter}")) for letter in LETTERS]
    if isinstance(value, Mapping):
        value = [value.get(letter) for letter in LETTERS]
    if not isinstance(value, list):
        raise DataError("its options are neither a list nor an object of letters; write them as one of these")
    return given_options([option if absent(option) else str(option) for option in value])


def options_in_prompt(prompt: str) -> list[str]:
    """The options that a prompt lists as lines "A. text"; the last list where it has examples."""
    options: list[str] = []
    for letter, text in _LABELLED_LINE.findall(prompt):
        if letter == "A":
            options = []
        if len(options) < len(LETTERS) and letter == LETTERS[len(options)]:
            options.append(text)
    return options


def _first(record: Record, names: Sequence[str]) -> str:
    return next((str(record[name]) for name in names if isinstance(record.get(name), str)), "")


def _literal(text: str) -> Any:
    """The value that JSON or Python notation stands for; the text itself where it is neither.

    Two texts side by side are how NumPy writes an array; Python would make one text of them.
    """
    if re.search(r"""['"]\s+['"]""", text):
        raise DataError(f"its options {text[:80]!r} have no commas between them; write them as a JSON list")
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
