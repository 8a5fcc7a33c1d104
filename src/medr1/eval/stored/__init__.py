"""Predictions that are on disk, ours and those of other programs, read without a model.

run.py     what is read: questions and completions; building them from the fields that the kits (VLMEvalKit, lmms-eval,
           MedEvalKit) share
seeds.py   the result files of MedVLM-R1, Med-R1 and AdvMed-R1, read and written
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from medr1.data import read_source
from medr1.data.record_files import Record, read_records
from medr1.data.source import located
from medr1.errors import DataError
from medr1.eval.files import FAILURE, failure_from, prediction_from
from medr1.eval.measures import key_of
from medr1.eval.stored.run import (
    StoredAnswer,
    StoredRun,
    options_in_prompt,
    options_of,
    question_of,
    sample_of,
    stored_run,
)
from medr1.eval.stored.seeds import clean_result, is_seed_result, read_seed_result, seed_result
from medr1.records import check_finished, read_json, read_jsonl, read_samples
from medr1.runs import stored_manifest
from medr1.types import Sample

FILES = ("predictions.jsonl", "results.json")
"""What is read of a folder: our predictions, or MedEvalKit's."""
KNOWN = (
    "a run folder or predictions.jsonl of medr1, a result file of MedVLM-R1, Med-R1 or AdvMed-R1, or what VLMEvalKit "
    "(xlsx, tsv, csv, json), lmms-eval (jsonl samples) or MedEvalKit (results.json) wrote"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """One format."""

    name: str
    sniff: Callable[[Record], bool]
    """Whether a record has its fields."""
    parse: Callable[[Record, int], StoredAnswer]
    """A record and its number."""


def _is_vlmevalkit(record: Record) -> bool:
    return {"question", "prediction", "answer"} <= record.keys()


def _vlmevalkit(record: Record, number: int) -> StoredAnswer:
    sample = sample_of(
        record,
        identity=["vlmevalkit", record.get("index", number)],
        question=_text(record["question"]),
        options=options_of(record),
        gold=record["answer"],
    )
    return StoredAnswer(sample=sample, completions=[_text(record["prediction"])])


def _is_lmms_eval(record: Record) -> bool:
    return "doc_id" in record and bool({"resps", "filtered_resps"} & record.keys()) and "target" in record


def _lmms_eval(record: Record, number: int) -> StoredAnswer:
    doc: Record = record["doc"] if isinstance(record.get("doc"), Mapping) else {}
    prompt = _prompt(record)
    sample = sample_of(
        doc,
        identity=["lmms-eval", record["doc_id"]],
        question=_text(doc.get("question")) or prompt,
        options=options_of(doc) or options_in_prompt(prompt),
        gold=record["target"],
    )
    completions = [_text(text) for text in _flat(record.get("resps") or record.get("filtered_resps") or [])]
    if not completions:
        raise DataError("has no response; evaluate it again with --log_samples")
    return StoredAnswer(sample=sample, completions=completions)


def _prompt(record: Record) -> str:
    """The text that the model was shown: `input`, or the first text of `arguments`."""
    if isinstance(record.get("input"), str):
        return record["input"]
    return next((text for text in _flat(record.get("arguments")) if isinstance(text, str)), "")


def _is_medevalkit(record: Record) -> bool:
    return {"response", "answer"} <= record.keys()


def _medevalkit(record: Record, number: int) -> StoredAnswer:
    sample = sample_of(
        record,
        identity=["medevalkit", number],
        question=_text(record.get("question") or record.get("prompt")),
        options=options_of(record),
        gold=record["answer"],
    )
    return StoredAnswer(sample=sample, completions=[_text(record["response"])])


def _flat(value: Any) -> list[Any]:
    """The members of lists inside lists."""
    return [leaf for member in value for leaf in _flat(member)] if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """A cell as text; an empty one (which pandas calls NaN) as nothing."""
    return "" if value is None or value != value else str(value)


KITS = (
    Kit(name="vlmevalkit", sniff=_is_vlmevalkit, parse=_vlmevalkit),
    Kit(name="lmms-eval", sniff=_is_lmms_eval, parse=_lmms_eval),
    Kit(name="medevalkit", sniff=_is_medevalkit, parse=_medevalkit),
)
"""The first that fits a file's first record reads it."""


def read_stored(path: Path, data: Sequence[Sample] | None = None) -> StoredRun:
    """The questions and completions in a file or run folder.

    Args:
        path: what `KNOWN` lists.
        data: the questions that were asked. Ours are found in them by id; those of other programs must be in the same
            order, with the same gold answers.

    Raises:
        DataError: the file cannot be read, is of no known format or of an evaluation that is not finished, or does not
            fit the data.
    """
    file = _file_of(path)
    check_finished(file)
    if file.suffix == ".json" and is_seed_result(value := read_json(file)):
        return read_seed_result(value, file, data)
    if file.name == "predictions.jsonl":
        return _ours(file, read_jsonl(file), data)
    records = list(_spreadsheet(file) if file.suffix == ".xlsx" else _records(file))
    first = next((record for record in records if FAILURE not in record), records[0])
    if {"id", "completion", "gold", "options"} <= first.keys():
        return _ours(file, records, data)
    kit = next((kit for kit in KITS if kit.sniff(first)), None)
    if kit is None:
        fields = ", ".join(islice(map(str, first), 12))
        raise DataError(f"{file} holds no predictions that can be read (its fields: {fields}); give {KNOWN}")
    return _of_kit(kit, file, records, data)


def holds_evaluation(folder: Path) -> bool:
    """Whether `medr1 eval`, of any version, wrote the folder: what is made of its predictions may stand beside them."""
    stored = stored_manifest(folder) if folder.is_dir() else None
    return stored is not None and stored.command in ("eval", None) and (folder / FILES[0]).exists()


def asked_questions(path: Path) -> list[Sample]:
    """The samples of a converted folder or of a file of any source; their images are not opened."""
    converted = path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))
    saved = (path / "dataset_info.json").exists()
    return list(read_samples(path) if converted or saved else read_source(path))


def _file_of(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path} does not exist; give {KNOWN}")
    if path.is_file():
        return path
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found:
        raise DataError(f"{path} holds neither {' nor '.join(FILES)}; name the file with the predictions")
    return found[0]


def _records(file: Path) -> Iterator[Record]:
    if not file.name.lower().removesuffix(".gz").endswith((".json", ".jsonl", ".csv", ".tsv")):
        raise DataError(f"{file} is of no kind that is known by its name; give {KNOWN}")
    return read_records(file)


def _spreadsheet(file: Path) -> Iterator[Record]:
    """Rows of the first sheet, under the names of its first row."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(file, read_only=True, data_only=True)
        rows = book.worksheets[0].iter_rows(values_only=True)
        header = [str(name) for name in next(rows, ())]
        records = [dict(zip(header, row, strict=False)) for row in rows if any(cell is not None for cell in row)]
        book.close()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, InvalidFileException) as error:
        raise DataError(f"{file} is no spreadsheet that can be read ({error}); save it again as xlsx") from error
    if not records:
        raise DataError(f"{file} has no rows; give the file with the predictions")
    yield from records


def _of_kit(kit: Kit, file: Path, records: Sequence[Record], data: Sequence[Sample] | None) -> StoredRun:
    answers = []
    for number, record in enumerate(records, start=1):
        with located(file, number):
            if not kit.sniff(record):
                raise DataError(f"lacks fields of {kit.name} that the first record has; remove it or fill them in")
            answers.append(kit.parse(record, number))
    if data is None:
        return stored_run(kit.name, answers)
    if len(data) != len(answers):
        raise DataError(f"{file} has {len(answers)} questions and the data {len(data)}; give the data that were asked")
    for number, (answer, sample) in enumerate(zip(answers, data, strict=True), start=1):
        if (answer.sample.gold, answer.sample.answers) != (sample.gold, sample.answers):
            raise DataError(f"{file} record {number}: its gold answer is not that of the data; give the data in order")
    joined = [replace(answer, sample=sample) for answer, sample in zip(answers, data, strict=True)]
    return stored_run(kit.name, joined)


def _ours(file: Path, lines: Sequence[Record], data: Sequence[Sample] | None) -> StoredRun:
    """Predictions of `medr1 eval`: those on the original images, where there are controls beside them."""
    predictions, failures = [], []
    for number, line in enumerate(lines, start=1):
        with located(file, number):
            if FAILURE in line:
                failures.append(failure_from(line))
            else:
                predictions.append(prediction_from(line))
    originals = [p for p in predictions if p.variant == ""] or predictions
    if not originals:
        raise DataError(f"{file} holds no predictions yet; evaluate first with `medr1 eval`")
    variants = {p.variant for p in originals}
    by_key = {key_of(p): question_of(p) for p in (*originals, *failures) if p.variant in variants}
    if data is not None:
        known = {key_of(sample): sample for sample in data}
        missing = [key for key in by_key if key not in known]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(by_key)} questions of {file} are not in the data, {missing[0][0]} first; "
                "give the data that were evaluated"
            )
        by_key = {key: known[key] for key in by_key}
    told = [failure for failure in failures if failure.variant in variants]
    return StoredRun(kind="medr1", samples=list(by_key.values()), predictions=originals, failures=told)


__all__ = [
    "KNOWN",
    "StoredRun",
    "asked_questions",
    "clean_result",
    "holds_evaluation",
    "read_stored",
    "seed_result",
]
