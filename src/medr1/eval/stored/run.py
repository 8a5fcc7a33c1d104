"""Completions that another program stored, with the questions as it stored them."""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from medr1.answers import parse_answer
from medr1.answers.default import read_answer
from medr1.data.names import modality_of, task_of
from medr1.data.typed import YES_NO, kind_of_answer
from medr1.errors import DataError
from medr1.records import short_hash
from medr1.types import LETTERS, Failure, Modality, Prediction, Sample, Task

OPTION_FIELDS = ("options", "choices")
MODALITY_FIELDS = ("modality_type", "modality")
TASK_FIELDS = ("question_type", "task")
SOURCE_FIELDS = ("dataset", "source")
IMAGE_FIELDS = ("image_path", "image_name", "img_name", "image")
"""Fields in which the kits keep these facts; the first that is there counts."""

_LABELLED = re.compile(r"\s*\(?([A-J])\s?[).:]\s*(.*)", re.DOTALL)
_LABELLED_LINE = re.compile(r"^\s*\(?([A-J])[).:]\s*(\S.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What a file or folder of predictions holds."""

    kind: str
    """Name of the program whose format it is; `medr1` for our own."""
    samples: Sequence[Sample]
    predictions: Sequence[Prediction]
    """One or more draws of every sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """One question of another program and the completions that it has for it."""

    sample: Sample
    completions: Sequence[str]


def stored_run(kind: str, answers: Sequence[StoredAnswer]) -> StoredRun:
    """The run of another program. A question that is there again is kept, under another id."""
    times = Counter[str]()
    samples, predictions = [], []
    for answer in answers:
        sample = answer.sample
        times[sample.id] += 1
        if times[sample.id] > 1:
            sample = replace(sample, id=short_hash([sample.id, times[sample.id]]))
        samples.append(sample)
        predictions += [prediction_of(sample, text, draw, kind) for draw, text in enumerate(answer.completions)]
    return StoredRun(kind=kind, samples=samples, predictions=predictions)


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


def sample_of(
    facts: Mapping[str, Any], *, identity: Sequence[Any], question: str, options: Sequence[str], gold: Any
) -> Sample:
    """The question of a record, without its images; open where it has neither options nor a yes or no as gold.

    `gold` is a letter, a position, the text of an option, or both. `DataError` where it is none of the options.
    """
    image = _first(facts, IMAGE_FIELDS)
    known: dict[str, Any] = {
        "id": short_hash(list(identity)),
        "images": (),
        "question": question,
        "modality": modality_of(_first(facts, MODALITY_FIELDS)),
        "task": task_of(_first(facts, TASK_FIELDS)),
        "source": _first(facts, SOURCE_FIELDS) or str(identity[0]),
        "group": short_hash(image) if image else "",
    }
    text = "" if gold is None else str(gold).strip()
    if options:
        position = gold if isinstance(gold, int) else _position(text, options)
        if position is None or not 0 <= position < min(len(options), len(LETTERS)):
            raise DataError(f"the gold answer {text[:80]!r} is none of the options; correct it or remove the record")
        return Sample(**known, options=tuple(options), answer_index=position)
    if not text:
        raise DataError("has no gold answer; add it or remove the record")
    if text in LETTERS:
        raise DataError(
            f"has the letter {text} as gold answer but no options; evaluate again with options in the output"
        )
    if kind_of_answer(text) == "yes_no":
        return Sample(**known, options=YES_NO, answer_index=_position(text, YES_NO), answer_type="yes_no")
    return Sample(**known, answers=(text,), answer_type=kind_of_answer(text))


def options_of(record: Mapping[str, Any]) -> list[str]:
    """Option texts without their labels: of a list or object (or its text), or of the fields A, B, … or option_A, …"""
    value: Any = next((record[name] for name in OPTION_FIELDS if record.get(name)), None)
    if isinstance(value, str):
        value = _literal(value)
    if value is None:
        lettered = [record.get(letter, record.get(f"option_{letter}")) for letter in LETTERS]
        value = [option for option in lettered if option not in (None, "", "nan")]
    if isinstance(value, Mapping):
        value = [value[letter] for letter in LETTERS if value.get(letter) is not None]
    if not isinstance(value, list):
        raise DataError("its options are neither a list nor an object of letters; write them as one of these")
    return unlabelled([str(option) for option in value])


def unlabelled(options: Sequence[str]) -> list[str]:
    """The texts of options that may be written "A. text"; left alone unless all of them are, in order."""
    found = [_LABELLED.fullmatch(option) for option in options]
    labels = [match[1] for match in found if match]
    if labels == list(LETTERS[: len(options)]):
        return [match[2].strip() for match in found if match]
    return [option.strip() for option in options]


def options_in_prompt(prompt: str) -> list[str]:
    """The options that a prompt lists as lines "A. text"; the last list where it has examples."""
    options: list[str] = []
    for letter, text in _LABELLED_LINE.findall(prompt):
        if letter == "A":
            options = []
        if letter == LETTERS[len(options)]:
            options.append(text)
    return options


def _position(gold: str, options: Sequence[str]) -> int | None:
    letter = read_answer(gold, options).letter
    return None if letter is None else LETTERS.index(letter)


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(record[name]) for name in names if isinstance(record.get(name), str)), "")


def _literal(text: str) -> Any:
    """The value that JSON or Python notation stands for; the text itself where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
