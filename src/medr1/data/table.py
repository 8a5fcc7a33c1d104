"""Tables of questions: the format to bring your own data in, and what any Hugging Face data set can be mapped to.

Columns: `image` or `images` (a path, a list of them, or embedded images; in CSV a JSON list), `question`, the options
as one list in `options` (in CSV a JSON list) or one a column as `A`, `B`, … or `option_A`, `option_B`, …, and `answer`,
the letter or the exact text of an option. Without options the question is open: `answer` is a text, a number, yes or
no, or a list of them. Optional: `answer_type`, `modality`, `task`, `source` (or `dataset`), `group` (a patient or
series: what must not be split), `rationale`. Other columns are kept in `extra`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medr1.data.names import modality_of, task_of
from medr1.data.record_files import CSV_SUFFIXES, JSON_SUFFIXES, ROW_SUFFIXES, TSV_SUFFIXES, Record
from medr1.data.source import Source, option_index, text, texts
from medr1.data.typed import (
    answer_type_of,
    as_text,
    data_name,
    image_refs,
    lettered_options,
    other_fields,
    split_of_file,
    typed_sample,
)
from medr1.errors import DataError
from medr1.types import LETTERS, Sample

_USED_COLUMNS = frozenset(
    {"image", "images", "question", "options", "answer", "answer_type", "modality", "task", "source", "group"}
    | {"rationale"}
)


def _option_columns(record: Record) -> list[str]:
    """Names of the option columns in the order of their letters: `A` … or `option_A` …, in any case."""
    by_letter = {name.lower().removeprefix("option_"): name for name in record}
    return [by_letter[letter] for letter in LETTERS.lower() if letter in by_letter]


def _image_column(record: Record) -> str:
    return "image" if record.get("image") or "images" not in record else "images"


def _sniff(record: Record) -> bool:
    return {"question", "answer"} <= record.keys() and ("image" in record or "images" in record)


def _parse(record: Record, file: Path) -> Sample:
    options = _options(record)
    answers = _answers(record)
    column = _image_column(record)
    return typed_sample(
        source=_optional(record, "source") or _optional(record, "dataset") or data_name(file),
        images=image_refs({column: _cell(record[column]) if column in record else None}, column),
        question=text(record, "question"),
        options=options,
        answers=answers,
        answer_index=_answer_index(answers, options) if options else None,
        answer_type=answer_type_of(_optional(record, "answer_type")),
        modality=modality_of(_optional(record, "modality") or ""),
        task=task_of(_optional(record, "task") or ""),
        group=_optional(record, "group"),
        rationale=_optional(record, "rationale"),
        extra=split_of_file(file) | other_fields(record, _USED_COLUMNS.union(_option_columns(record))),
    )


def _options(record: Record) -> tuple[str, ...]:
    if isinstance(_cell(record.get("options")), dict):
        return lettered_options(record, "options")
    if record.get("options"):
        return tuple(option.strip() for option in _several(record, "options"))
    cells = [record[name] for name in _option_columns(record)]
    filled = [cell for cell in cells if cell not in (None, "")]
    if cells[: len(filled)] != filled:
        raise DataError("an option column is empty before a filled one; move the options together")
    if not all(isinstance(cell, str) for cell in filled):
        raise DataError("an option is not a text; put it in quotes")
    return tuple(cell.strip() for cell in filled)


def _answers(record: Record) -> tuple[str, ...]:
    value = _cell(record.get("answer"))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = as_text(value, "answer")
    return _several({"answer": value}, "answer") if isinstance(value, list) else (text({"answer": value}, "answer"),)


def _several(record: Record, name: str) -> tuple[str, ...]:
    value = _cell(record.get(name))
    if isinstance(value, str):
        raise DataError(f'{name} is not a JSON list; write it as ["x", "y"]')
    return texts({name: value}, name)


def _cell(value: Any) -> Any:
    """A JSON list or object in one cell of a CSV file, or the value itself."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _answer_index(answers: Sequence[str], options: tuple[str, ...]) -> int:
    if len(answers) != 1:
        raise DataError(f"the question has {len(answers)} answers and options; name the one right option")
    answer, letters = answers[0].strip(), LETTERS[: len(options)]
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
    return None if value in (None, "") else as_text(value, name)


JSONL = Source(
    name="jsonl",
    description="your own JSON lines or JSON list: image, question, options, answer",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    note="write it yourself: `pydoc medr1.data.table` lists the fields",
)
CSV = Source(
    name="csv",
    description="your own CSV or TSV: image, question, options or A, B, …, answer",
    suffixes=CSV_SUFFIXES + TSV_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    note="write it yourself: `pydoc medr1.data.table` lists the columns",
)
ROWS = Source(
    name="rows",
    description="any Hugging Face data set: parquet files or a `save_to_disk` folder, with --column to map its names",
    suffixes=ROW_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    note="medr1 data download OWNER/NAME",
)
