"""Records out of files, one at a time: JSON lists, JSON lines, CSV, TSV, parquet, `save_to_disk` folders.

A reader holds one record (of parquet: one batch of rows) in memory, whatever the size of the file.
"""

import csv
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from medr1.doors import Most, check_json, resolve_inside, unpacked
from medr1.errors import DataError
from medr1.records import is_manifest
from medr1.records.tables import SAVED_STATE, parquet_batches, saved_batches

Record = Mapping[str, Any]

JSON_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
CSV_SUFFIXES = (".csv", ".csv.gz")
TSV_SUFFIXES = (".tsv", ".tsv.gz")
ROW_SUFFIXES = (".parquet", SAVED_STATE)

_CHUNK_CHARS = 2**18
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What parts the cells of a table."""
_BLANK = re.compile(r"[ \t\r\n]*")
_ROWS_AT_ONCE = 32
_BOOKKEEPING = frozenset({SAVED_STATE, "dataset_info.json", "dataset_dict.json"})


def data_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file itself, or all files with one of the suffixes under a folder, in order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; check the path")
    found = (file for file in path.rglob("*") if is_data(file, suffixes) and file.is_file() and not is_manifest(file))
    names = sorted(file.relative_to(path) for file in found)
    files = [resolve_inside(path, str(name)) for name in names if not any(part.startswith(".") for part in name.parts)]
    if not files:
        raise DataError(f"{path} holds no {', '.join(suffixes)} file; name the file or folder with the questions")
    return files


def is_data(file: Path, suffixes: Sequence[str]) -> bool:
    """Whether the name of a file has one of the ends; the JSON files that `save_to_disk` writes are no questions."""
    if file.name in _BOOKKEEPING:
        return file.name in suffixes
    return file.name.lower().endswith(tuple(suffixes))


def read_records(file: Path) -> Iterator[Record]:
    """Records of a file, by the end of its name; `DataError` names file and record of what cannot be read."""
    name = file.name.lower().removesuffix(".gz")
    reader = next((read for suffix, read in READERS.items() if name.endswith(suffix)), _json_list)
    empty = True
    for record in reader(file):
        empty = False
        yield record
    if empty:
        raise DataError(f"{file} holds no records; check that it is the right file")


# --- Text ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(file: Path, kind: str) -> Iterator[IO[str]]:
    """The text of a file, unpacked on the way; what goes wrong while it is read becomes a `DataError`."""
    try:
        with unpacked(file) as text:
            yield text
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not {kind} in UTF-8 ({error}); export it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); check or copy it again") from error


def _json_list(file: Path) -> Iterator[Record]:
    with _opened(file, "JSON") as stream:
        text = _Buffer(stream, str(file))
        opening = text.take()
        if opening != "[":
            what = "one JSON object, not a list of records" if opening == "{" else "not JSON"
            raise DataError(f"{file} is {what}; give a file with a list of objects (JSON lines are named .jsonl)")
        number, mark = 0, text.take() if text.peek() == "]" else ","
        while mark == ",":
            number += 1
            yield _json_object(text, file, number)
            mark = text.take()
        if mark != "]" or text.take():
            raise DataError(
                f"{file} record {number}: is not JSON (',' or the end of the list must follow); mend the file"
            )


class _Buffer:
    """The text of a file, as much of it as the next JSON value needs."""

    def __init__(self, stream: IO[str], name: str) -> None:
        self._stream, self._name = stream, name
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self._at < len(self._text) or not self._grow():
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """The same, taken out."""
        found = self.peek()
        self._at += len(found)
        return found

    def value(self) -> Any:
        """The JSON value that comes next; the decoder's error where there is none."""
        self.peek()
        while True:
            if len(self._text) > Most.JSON_PARTS:
                check_json(self._text, self._name)
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if len(self._text) - self._at > Most.RECORD_CHARS or not self._grow():
                    raise
            else:
                return value

    def _grow(self) -> bool:
        rest = self._text[self._at :]
        # Doubling keeps the time linear when one record is long.
        more = self._stream.read(max(_CHUNK_CHARS, len(rest)))
        self._text, self._at = rest + more, 0
        return bool(more)


def _json_object(text: _Buffer, file: Path, number: int) -> Record:
    if text.peek() not in ("{", ""):
        raise DataError(f"{file} record {number}: is not a JSON object; write one object for each question")
    try:
        return text.value()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} record {number}: is not JSON ({_reason(error)}); mend or replace the file") from error


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _json_lines(file: Path) -> Iterator[Record]:
    # Lines end at \n alone: JSON texts may hold other line ends unescaped.
    with _opened(file, "JSON lines") as stream:
        number = blank = 0
        while line := stream.readline(Most.RECORD_CHARS):
            number += 1
            if not line.strip():
                blank += 1
                if blank > Most.BLANK_LINES:
                    raise DataError(f"{file} has more than {Most.BLANK_LINES:,} blank lines; replace the file")
                continue
            try:
                record = json.loads(check_json(line, f"{file} line {number}"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file} line {number} is not JSON ({_reason(error)}); mend the line") from error
            if not isinstance(record, dict):
                raise DataError(f"{file} line {number} is not a JSON object; write one object a line")
            yield record


def _csv(file: Path) -> Iterator[Record]:
    return _table(file, "CSV", _delimiter(file))


def _delimiter(file: Path) -> str:
    """A comma, or what a spreadsheet of another language or habit puts in its place; told by the header."""
    with _opened(file, "CSV") as stream:
        header = stream.readline(Most.RECORD_CHARS)
    return max(",;\t", key=header.count)


def _tsv(file: Path) -> Iterator[Record]:
    return _table(file, "TSV", "\t")


def _table(file: Path, kind: str, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(Most.RECORD_CHARS)  # the default of 128 KiB is less than one embedded picture
    number = 0
    with _opened(file, kind) as stream:
        try:
            rows = csv.DictReader(stream, delimiter=delimiter, strict=True)
            repeated = [name for name, times in Counter(rows.fieldnames or ()).items() if times > 1]
            if repeated:
                raise DataError(f"{file} has the column {repeated[0]!r} twice; rename one of them")
            for number, record in enumerate(rows, start=1):
                if None in record or None in record.values():
                    raise DataError(
                        f"{file} record {number}: has more or fewer cells than the header; put texts with "
                        f"{DELIMITERS[delimiter]} in quotes"
                    )
                yield record
        except csv.Error as error:
            raise DataError(f"{file} record {number + 1}: is not {kind} ({error}); export the file again") from error


# --- Arrow --------------------------------------------------------------------------------------------------------


def _parquet(file: Path) -> Iterator[Record]:
    for batch in parquet_batches(file, _ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _saved(state: Path) -> Iterator[Record]:
    for batch in saved_batches(state, _ROWS_AT_ONCE):
        yield from batch.to_pylist()


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    SAVED_STATE: _saved,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".json": _json_list,
}
"""Readers by the end of the file's name, `.gz` aside."""
