"""What the readers of all source formats share: finding files, naming the record in an error, building a sample."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medr1.data.images import resolve_inside
from medr1.errors import DataError
from medr1.records import parse_jsonl, sample_id, short_hash
from medr1.types import LETTERS, ImageRef, Modality, Sample, Task

Record = Mapping[str, Any]
Parse = Callable[[Record, Path], Sample]

JSON_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
CSV_SUFFIXES = (".csv", ".csv.gz")

RECORD_FIELDS = "record_fields"
"""Key of `Sample.extra` that lists the fields of the source's record, in order."""
SPLITS = "splits"
"""Key of `Sample.extra` with the published splits that hold the record, where folder names tell them."""


@dataclass(frozen=True, slots=True)
class Source:
    """One published or generic file format of questions."""

    name: str
    description: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Record], bool]
    """Whether a record has this format's fields."""
    parse: Parse
    """One record, and the file it is from, to a sample whose images are the names that the record gives."""
    write_back: Callable[[Sample], dict[str, Any]] | None = None
    """The source's own record of a sample that `read` returned, equal as a JSON value."""

    def read(self, path: Path, image_root: Path | None = None) -> Iterator[Sample]:
        """Samples of a file, or of all files under a folder; `DataError` names file and record.

        Images stay the names in the records (enough for work on text); with `image_root` they are paths under it.
        One file must not hold a question twice. A question that several files hold is one sample with what each file
        knows: this is how Med-R1's modality and question-type files are joined.
        """
        files = data_files(path, self.suffixes)
        samples = self._read_file(files[0]) if len(files) == 1 else merged(self._read_file(file) for file in files)
        for sample in samples:
            yield sample if image_root is None else _with_paths(sample, image_root)

    def _read_file(self, file: Path) -> Iterator[Sample]:
        first_seen: dict[str, int] = {}
        for number, record in enumerate(load_records(file), start=1):
            with located(file, number):
                sample = self.parse(record, file)
                if sample.id in first_seen:
                    raise DataError(f"repeats the question of record {first_seen[sample.id]}; remove one of them")
            first_seen[sample.id] = number
            yield sample


@contextmanager
def located(file: Path, number: int) -> Iterator[None]:
    """Put file and record number (counted from 1) before the message of a `DataError`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file} record {number}: {error}") from error


def _with_paths(sample: Sample, root: Path) -> Sample:
    paths = [resolve_inside(root, ref.path) for ref in sample.images if ref.path is not None]
    return replace(sample, images=tuple(ImageRef(path=str(path)) for path in paths))


# --- Files --------------------------------------------------------------------------------------------------------


def data_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file itself, or all files with one of the suffixes under a folder, in order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; check the path")
    found = (file for file in path.rglob("*") if file.name.lower().endswith(tuple(suffixes)) and file.is_file())
    files = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not files:
        raise DataError(f"{path} holds no {', '.join(suffixes)} file; name the file or folder with the questions")
    return files


def load_records(file: Path) -> list[Record]:
    """Records of a JSON list, a JSON-lines or a CSV file, gzipped or not; `DataError` for anything else."""
    data = _file_bytes(file)
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        records: Any = parse_jsonl(data, str(file))
    elif name.endswith(".csv"):
        records = _csv_records(data, file)
    else:
        records = _json_list(data, file)
    if not records:
        raise DataError(f"{file} holds no records; check that it is the right file")
    return records


def _file_bytes(file: Path) -> bytes:
    try:
        data = file.read_bytes()
        return gzip.decompress(data) if file.name.lower().endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); check or copy it again") from error


def _json_list(data: bytes, file: Path) -> list[Record]:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}); mend or replace the file") from error
    if not isinstance(value, list):
        raise DataError(f"{file} is a JSON {type(value).__name__}, not a list of records; give a file with a list")
    for number, record in enumerate(value, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{file} record {number}: is not a JSON object; write one object for each question")
    return value


def _csv_records(data: bytes, file: Path) -> list[Record]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        records: list[Record] = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not CSV in UTF-8 ({error}); export it again") from error
    for number, record in enumerate(records, start=1):
        if None in record or None in record.values():
            raise DataError(f"{file} record {number}: has more or fewer cells than the header; quote texts with commas")
    return records


# --- From a record to a sample --------------------------------------------------------------------------------------


def text(record: Record, name: str) -> str:
    """The text in a field of a record; `DataError` when it is missing, empty or something else."""
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{name} is missing, empty or not a text; fill it in or remove the record")
    return _storable(value, name)


def texts(record: Record, name: str) -> tuple[str, ...]:
    """The non-empty list of texts in a field of a record; `DataError` when it is missing or something else."""
    value = record.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        raise DataError(f"{name} is missing, empty or not a list of texts; fill it in or remove the record")
    return tuple(_storable(item, name) for item in value)


def _storable(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} has half of a surrogate pair, which is no character; mend the text") from error
    return value


def gold_index(solution: str, num_options: int) -> int:
    """Position of the letter in `B` or `<answer> B </answer>`; `DataError` when it is not a letter of an option.

    >>> gold_index("<answer> C </answer>", num_options=4)
    2
    """
    found = re.fullmatch(r"\s*(?:<answer>)?\s*([A-Za-z])\s*(?:</answer>)?\s*", solution, re.IGNORECASE)
    if found is None:
        raise DataError(f"the solution {solution[:80]!r} is not a letter; write it as 'B' or '<answer> B </answer>'")
    index = ord(found[1].upper()) - ord("A")
    if index >= num_options:
        last = LETTERS[num_options - 1]
        raise DataError(f"the gold letter {found[1]} is outside the options A to {last}; correct the letter")
    return index


def option_index(answer: str, options: Sequence[str]) -> int:
    """Position of an option given by its exact text (the first of equal ones); `DataError` when there is none."""
    if answer not in options:
        raise DataError(f"the answer {answer[:80]!r} is not among the options; write it exactly as its option")
    return list(options).index(answer)


def choice_sample(
    *,
    source: str,
    image_names: Sequence[str],
    question: str,
    options: Sequence[str],
    answer_index: int,
    modality: Modality = "unknown",
    task: Task = "unknown",
    group: str | None = None,
    rationale: str | None = None,
) -> Sample:
    """A multiple-choice sample with its identity; outer white space of question and options is dropped.

    `group` defaults to a hash of the image names: the names themselves contain the diagnosis.
    """
    question, options = question.strip(), tuple(option.strip() for option in options)
    if not question:
        raise DataError("the question is empty; fill it in or remove the record")
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"the question has {len(options)} options; give it 2 to {len(LETTERS)}")
    if not all(options):
        raise DataError(f"option {LETTERS[options.index('')]} is empty; fill it in or remove the record")
    return Sample(
        id=sample_id(source, image_names, question, options),
        images=tuple(ImageRef(path=name) for name in image_names),
        question=question,
        options=options,
        answer_index=answer_index,
        modality=modality,
        task=task,
        source=source,
        group=short_hash(group if group is not None else list(image_names)),
        rationale=rationale,
    )


def with_record(sample: Sample, record: Record, rebuilt: Mapping[str, Any]) -> Sample:
    """The sample with what `restored_record` needs: the field names, and the fields that `rebuilt` does not equal."""
    for name in (RECORD_FIELDS, SPLITS):
        if name in record:
            raise DataError(f"the field name {name} is reserved; rename the field")
    extra = {name: json.dumps(value) for name, value in record.items() if name not in rebuilt or rebuilt[name] != value}
    return replace(sample, extra={**extra, RECORD_FIELDS: json.dumps(list(record))})


def restored_record(sample: Sample, rebuilt: Mapping[str, Any]) -> dict[str, Any]:
    """The record that `with_record` was given; `rebuilt` are the fields that follow from the sample."""
    if RECORD_FIELDS not in sample.extra:
        raise DataError(f"sample {sample.id} was not read from this format; there is no record to write back")
    names = json.loads(sample.extra[RECORD_FIELDS])
    return {name: json.loads(sample.extra[name]) if name in sample.extra else rebuilt[name] for name in names}


# --- Joining files ------------------------------------------------------------------------------------------------


def merged(files: Iterable[Iterable[Sample]]) -> Iterator[Sample]:
    """Samples of several files in order of their first appearance, one for each id, with what every file knows."""
    samples: dict[str, Sample] = {}
    for file in files:
        for sample in file:
            known = samples.get(sample.id)
            samples[sample.id] = sample if known is None else _merge(known, sample)
    yield from samples.values()


def _merge(one: Sample, other: Sample) -> Sample:
    for name in ("answer_index", "modality", "task"):
        values = {getattr(one, name), getattr(other, name)} - {"unknown"}
        if len(values) > 1:
            raise DataError(
                f"two files disagree about the {name} of the question {one.question[:80]!r} (sample {one.id}): "
                f"{' and '.join(map(str, values))}; correct one of them"
            )
    splits = " ".join(filter(None, (one.extra.get(SPLITS), other.extra.get(SPLITS))))
    return replace(
        one,
        modality=other.modality if one.modality == "unknown" else one.modality,
        task=other.task if one.task == "unknown" else one.task,
        extra={**one.extra, **({SPLITS: splits} if splits else {})},
    )
