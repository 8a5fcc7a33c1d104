"""JSON files and JSON lines that survive a kill.

JSON is written aside and renamed; JSON lines are appended one flushed record at a time, and a torn last line is cut
when the file is opened again.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from medr1.doors import check_json, read_file
from medr1.errors import DataError
from medr1.results import Record

R = TypeVar("R", bound=Record)


def read_json(path: Path) -> Any:
    """The value in a JSON file; `DataError` when it is missing or is not JSON."""
    try:
        return json.loads(check_json(read_file(path).decode("utf-8-sig"), str(path)))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); check the file") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno} is not JSON ({error.msg}); mend or replace the file") from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply to be read; replace the file") from error


def checked(value: Any, kind: Any, path: Path) -> Any:
    """A value that was read back, where it has the type that it was written with; further fields stay as they are.

    Args:
        value: what the file holds.
        kind: a type that pydantic knows; typed dictionaries say what their fields are.
        path: of the file, for the error.

    Raises:
        DataError: naming the file, the place in it and what is expected there.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the value"
        said = first["msg"].removeprefix("Value error, ")
        fault = {"missing": "is missing", "extra_forbidden": "is not known to this version of medr1"}.get(
            first["type"], f"is {first['input']!r:.60}, but {said[0].lower()}{said[1:]}"
        )
        raise DataError(f"{path}: {place} {fault}; restore the file, or write it anew") from error


def read_record(path: Path, kind: type[R]) -> R:
    """The record of a JSON file. Raises `DataError` where the file does not hold one."""
    return checked(read_json(path), kind, path)


def as_json(value: Any, indent: int | None = None) -> str:
    """A value, which may hold records, as JSON text."""
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: object) -> dict[str, object]:
    if isinstance(value, Record):
        return value.written()
    raise TypeError(f"{type(value).__name__} is not JSON")


def write_json(path: Path, value: Any) -> None:
    """Write `value` with keys in the order given; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(as_json(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~umask())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def umask() -> int:
    """The process's umask: temporary files are private, what they become need not be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def parse_jsonl(data: bytes, name: str) -> list[dict[str, Any]]:
    """Every line of `data` as an object; blank lines are skipped and the last one needs no newline.

    `DataError` names `name` and the line (counted from 1) that is not a JSON object.
    """
    records = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            records.append(_parse_line(line, name, number))
    return records


def _parse_line(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{name} line {number} is not JSON ({error}); mend or remove the line") from error
    if not isinstance(record, dict):
        raise DataError(f"{name} line {number} is not a JSON object; write one object a line")
    return record


def _whole_part(data: bytes) -> bytes:
    """`data` without a torn last line: one that has no newline, or that is not JSON."""
    whole = data[: data.rfind(b"\n") + 1]
    last_start = whole.rstrip(b"\n").rfind(b"\n") + 1
    try:
        if whole[last_start:].strip():
            json.loads(whole[last_start:])
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return whole[:last_start]
    return whole


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records that `JsonlAppender` wrote. A torn last line is dropped; any other bad line is a `DataError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    return parse_jsonl(_whole_part(data), str(path))


class JsonlAppender:
    """Appends records to a JSON-lines file, one flushed line each; opening cuts a torn last line.

    >>> with tempfile.TemporaryDirectory() as folder, JsonlAppender(Path(folder, "log.jsonl")) as log:
    ...     log.append({"step": 1})
    ...     read_jsonl(Path(folder, "log.jsonl"))
    [{'step': 1}]
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            data = path.read_bytes()
            whole = len(_whole_part(data))
            if whole < len(data):
                os.truncate(path, whole)
        self.path = path
        self._file = path.open("ab")

    def append(self, record: Mapping[str, object] | Record) -> None:
        """Write one line and hand it to the operating system."""
        self._file.write(as_json(record).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
