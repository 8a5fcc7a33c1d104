"""Tables of questions in CSV, JSON lines or JSON: the format to bring your own data in.

Columns: `image` (a path, or a list of them; in CSV a JSON list), `question`, the options as one list in `options` (in
CSV a JSON list) or one a column as `A`, `B`, … or `option_A`, `option_B`, …, and `answer`, the letter or the exact text
of an option. Optional: `modality`, `task`, `source` (or `dataset`), `group` (a patient or series: what must not be
split), `rationale`. Other columns are kept in `extra`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from medr1.data.names import modality_of, task_of
from medr1.data.source import CSV_SUFFIXES, JSON_SUFFIXES, Record, Source, choice_sample, option_index, text, texts
from medr1.errors import DataError
from medr1.types import LETTERS, Sample

_USED_COLUMNS = frozenset(
    {"image", "question", "options", "answer", "modality", "task", "source", "group", "rationale"}
)


def _option_columns(record: Record) -> list[str]:
    """Names of the option columns in the order of their letters: `A` … or `option_A` …, in any case."""
    by_letter = {name.lower().removeprefix("option_"): name for name in record}
    return [by_letter[letter] for letter in LETTERS.lower() if letter in by_letter]


def _sniff(record: Record) -> bool:
    return {"image", "question", "answer"} <= record.keys() and ("options" in record or bool(_option_columns(record)))


def _parse(record: Record, file: Path) -> Sample:
    options = _options(record)
    option_columns = _option_columns(record)
    sample = choice_sample(
        source=_optional(record, "source") or _optional(record, "dataset") or file.name.split(".")[0],
        image_names=_texts_in_cell(record, "image"),
        question=text(record, "question"),
        options=options,
        answer_index=_answer_index(text(record, "answer").strip(), options),
        modality=modality_of(_optional(record, "modality") or ""),
        task=task_of(_optional(record, "task") or ""),
        group=_optional(record, "group"),
        rationale=_optional(record, "rationale"),
    )
    others = {name: value for name, value in record.items() if name not in _USED_COLUMNS and name not in option_columns}
    return replace(sample, extra={name: _as_text(value) for name, value in others.items()})


def _options(record: Record) -> tuple[str, ...]:
    if record.get("options"):
        return tuple(option.strip() for option in _texts_in_cell(record, "options"))
    cells = [record[name] for name in _option_columns(record)]
    filled = [cell for cell in cells if cell not in (None, "")]
    if cells[: len(filled)] != filled:
        raise DataError("an option column is empty before a filled one; move the options together")
    if not all(isinstance(cell, str) for cell in filled):
        raise DataError("an option is not a text; put it in quotes")
    return tuple(cell.strip() for cell in filled)


def _texts_in_cell(record: Record, name: str) -> tuple[str, ...]:
    """A list of texts, or one text: a JSON list where it starts like one, itself otherwise."""
    value = record.get(name)
    if isinstance(value, str) and (name == "options" or value.startswith('["')):
        try:
            return texts({name: json.loads(value)}, name)
        except json.JSONDecodeError as error:
            raise DataError(f'{name} is not a JSON list ({error.msg}); write it as ["x", "y"]') from error
    return (text(record, name),) if isinstance(value, str) else texts(record, name)


def _answer_index(answer: str, options: tuple[str, ...]) -> int:
    letters = LETTERS[: len(options)]
    if answer not in options and len(answer) == 1 and answer.isalpha():
        if answer not in letters:
            raise DataError(f"the gold letter {answer} is outside the options A to {letters[-1:]}; correct the letter")
        return letters.index(answer)
    index = option_index(answer, options)
    if answer in letters and letters.index(answer) != index:
        raise DataError(f"the answer {answer} is the letter of one option and the text of another; rewrite that option")
    return index


def _optional(record: Record, name: str) -> str | None:
    value = record.get(name)
    return None if value in (None, "") else _as_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table_source(name: str, description: str, suffixes: tuple[str, ...]) -> Source:
    return Source(name=name, description=description, suffixes=suffixes, sniff=_sniff, parse=_parse)


JSONL = _table_source("jsonl", "your own JSON lines or JSON list: image, question, options, answer", JSON_SUFFIXES)
CSV = _table_source("csv", "your own CSV: image, question, options or A, B, …, answer", CSV_SUFFIXES)
