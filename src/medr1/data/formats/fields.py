"""What plain rows call the facts of a question: one field a fact, and a sample made from them."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from medr1.data.formats.conversations import asked_in_text
from medr1.data.names import modality_of, task_of
from medr1.data.options import Says, absent, given_options, gold_index
from medr1.data.record_files import Record
from medr1.data.source import Facts, text, texts
from medr1.data.typed import (
    answer_type_of,
    as_text,
    data_name,
    image_refs,
    json_cell,
    listed_options,
    other_fields,
    split_of_file,
    typed_sample,
)
from medr1.errors import DataError
from medr1.types import LETTERS, ImageRef, Sample

Names = tuple[str, ...]
"""Fields of which the first one that is filled counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a format calls the facts of a question."""

    needs: frozenset[str] | None
    """Fields by which its rows are known; None for rows that look like any other's and must be asked for by name."""
    images: Names = ("image", "images")
    question: str = "question"
    options: str | None = None
    """A list, an object by letter, or lines."""
    columns: Names = ()
    """What stands before the letter in the names of fields that hold one option each."""
    answer: Names = ("answer",)
    says: Says = "either"
    same: str | None = None
    """A further field that names the right option, and must name the same one."""
    place: str | None = None
    """A field with the position of the right option, from 0."""
    open_letters: bool = False
    """Whether an open question may have a letter as its answer: where the format has no options, it has no letters."""
    source: Names = ()
    title: str | None = None
    """Name of the data set, where the rows do not tell."""
    modality: Names = ()
    modality_is: str = "unknown"
    task: Names = ()
    rationale: Names = ()
    group: Names = ()
    required: Names = ()
    """Further fields that must be filled."""
    answer_type: Names = ()
    split: Callable[[Record, Path], dict[str, str]] = lambda record, file: split_of_file(file)
    """The published part that a record is in."""
    mend: Callable[[Record], Record] = lambda record: record
    """Brings what is odd in a format into the fields above."""

    used: frozenset[str] = field(init=False)
    """All these fields but the option columns: the others are kept beside the sample."""

    def __post_init__(self) -> None:
        several = (self.images, self.answer, self.source, self.modality, self.task, self.rationale, self.group)
        single = (self.question, self.options or "", self.same or "", self.place or "", *self.answer_type)
        object.__setattr__(self, "used", frozenset(itertools.chain(single, *several)) - {""})

    def sniff(self, record: Record) -> bool:
        """Whether a record has the fields of the format."""
        placed = self.place in record and "variant" not in record  # those with a variant are medr1's own samples
        return self.needs is not None and self.needs <= record.keys() and (self.answer[-1] in record or placed)

    def parse(self, record: Record, file: Path) -> Sample:
        """The sample of a record."""
        given, record = record, self.mend(record)
        columns, used = _places(tuple(record), self.columns, self.used)
        options = self._options(record, columns)
        answers = _answers(record, self.answer)
        index = self._index(record, options, answers)
        facts: Facts = {
            "source": optional(record, self.source) or self.title or data_name(file),
            "modality": modality_of(optional(record, self.modality) or self.modality_is),
            "task": task_of(optional(record, self.task) or ""),
            "group": optional(record, self.group),
            "rationale": optional(record, self.rationale),
        }
        kind = answer_type_of(optional(record, self.answer_type))
        extra = self.split(given, file) | other_fields(record, used)
        for name in self.required:
            text(record, name)
        images, question = _images(record, self.images), text(record, self.question)
        if options:
            return typed_sample(
                images=images,
                question=question,
                options=options,
                answers=answers,
                answer_index=index,
                extra=extra,
                **facts,
            )
        if self.open_letters and len(answers) == 1 and answers[0].strip().isalpha() and len(answers[0].strip()) == 1:
            kind = "text"
        if len(answers) == 1 and kind in (None, "choice") and not self.open_letters:
            return asked_in_text(question, answers[0], images, answer_type=kind, extra=extra, **facts)
        return typed_sample(images=images, question=question, answers=answers, answer_type=kind, extra=extra, **facts)

    def _options(self, record: Record, columns: Sequence[str]) -> tuple[str, ...]:
        if self.options is not None and not absent(record.get(self.options)) and record[self.options] != []:
            return listed_options(record, self.options)
        return given_options([record[name] for name in columns])

    def _index(self, record: Record, options: Sequence[str], answers: Sequence[str]) -> int | None:
        """Position of the right option; None for an open question. `DataError` where fields disagree about it."""
        found: list[int] = []
        if self.place is not None and not absent(record.get(self.place)):
            found.append(_position(record[self.place], len(options)))
        if options and (answers or not found):
            if len(answers) != 1:
                raise DataError(f"the question has {len(answers)} answers and options; name the one right option")
            found.append(gold_index(answers[0], options, self.says))
        if options and self.same is not None and not absent(record.get(self.same)):
            found.append(gold_index(text(record, self.same), options, "text"))
        if len(set(found)) > 1:
            raise DataError("two of its fields name different right options; correct one of them")
        return found[0] if found else None


def optional(record: Record, names: Names) -> str | None:
    """The text of the first of these fields that is filled, or None."""
    name = _filled(record, names)
    return None if name is None else as_text(record[name], name)


def _filled(record: Record, names: Names) -> str | None:
    """The first of these fields that holds something."""
    for name in names:
        if (value := record.get(name)) is not None and not absent(value):
            return name
    return None


def _images(record: Record, names: Names) -> tuple[ImageRef, ...]:
    name = _filled(record, names) or names[0]
    return image_refs({name: json_cell(record.get(name))}, name)


@lru_cache
def _places(names: Names, prefixes: Names, used: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The fields that hold an option each, and all that a sample has a place for: alike in all rows of a file."""
    columns = option_columns(names, prefixes)
    return columns, used.union(columns)


def option_columns(names: Names, prefixes: Names) -> list[str]:
    """Of the names of fields those that hold an option each, from A on without a gap, in any case."""
    by_name = {name.lower(): name for name in names}
    for prefix in prefixes:
        wanted = [f"{prefix}{letter}".lower() for letter in LETTERS]
        found = [by_name[name] for name in itertools.takewhile(by_name.__contains__, wanted)]
        if found:
            return found
    return []


def _answers(record: Record, names: Names) -> tuple[str, ...]:
    """The answers in the first of these fields that is filled; none where all are empty."""
    name = _filled(record, names)
    if name is None:
        return ()
    value = json_cell(record[name])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = as_text(value, name)
    return texts({name: value}, name) if isinstance(value, list) else (text({name: value}, name),)


def _position(value: Any, num_options: int) -> int:
    digits = str(value).strip().removesuffix(".0")
    if isinstance(value, bool) or not digits.isdecimal() or int(digits) >= num_options:
        raise DataError(f"answer_index {value!r} is no place of the {num_options} options; they are counted from 0")
    return int(digits)
