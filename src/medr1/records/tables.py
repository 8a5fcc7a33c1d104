"""Rows of parquet files and of `save_to_disk` folders, as batches that fit into memory whatever the file holds.

A column of parquet may be packed a thousand times over, and a value of its dictionary be meant by every row: both are
told by the file's own footer and by the first page of a column, before any of it is unpacked. A footer that lies is
not found out here.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1.doors import MIB, Most, check_file, resolve_inside
from medr1.errors import DataError
from medr1.records.json_files import read_json

if TYPE_CHECKING:
    import pyarrow as pa

SAVED_STATE = "state.json"
"""File that marks a folder of `datasets.save_to_disk`; it stands for the folder."""


@contextmanager
def _errors(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"{file} cannot be read as Arrow rows ({reason}); copy or export it again") from error


# --- Parquet --------------------------------------------------------------------------------------------------------


def parquet_batches(path: Path, rows: int) -> "Iterator[pa.RecordBatch]":
    """Batches of at most so many rows; `DataError` for what is damaged or unpacks to more than `Most` allows."""
    import pyarrow.parquet as pq

    check_file(path)
    # Buffering ahead would keep every page of the file until it is closed.
    with _errors(path), pq.ParquetFile(path, pre_buffer=False) as file:
        if file.metadata.num_columns > Most.COLUMNS or file.metadata.num_rows > Most.ROWS:
            raise DataError(f"{path} has more than {Most.COLUMNS:,} columns or {Most.ROWS:,} rows; split it")
        for group in range(file.num_row_groups):
            at_once = min([rows, *(_rows_at_once(file, path, group, n) for n in range(file.metadata.num_columns))])
            yield from file.iter_batches(batch_size=at_once, row_groups=[group])


def _rows_at_once(file: Any, path: Path, group: int, number: int) -> int:
    """Rows of one column that may be unpacked together; at least 1."""
    rows, column = file.metadata.row_group(group).num_rows, file.metadata.row_group(group).column(number)
    unpacked, values = column.total_uncompressed_size, column.num_values
    if unpacked > max(Most.BATCH_BYTES, Most.COLUMN_TIMES * column.total_compressed_size):
        raise DataError(
            f"{path}: column {column.path_in_schema!r} unpacks to {unpacked // MIB:,} MiB, more than "
            f"{Most.COLUMN_TIMES} times itself; write it in smaller row groups"
        )
    if column.physical_type != "BYTE_ARRAY" or not column.has_dictionary_page or values * unpacked <= Most.BATCH_BYTES:
        return rows or 1
    row = _largest_value(path, column) * (1 if values == rows else _longest_list(file, group, number))
    if row > Most.ROW_BYTES:
        raise DataError(
            f"{path}: a row of column {column.path_in_schema!r} may have {row // MIB:,} MiB, more than "
            f"{Most.ROW_BYTES // MIB}; write it without repeated values"
        )
    return max(1, Most.BATCH_BYTES // max(row, 1))


def _largest_value(path: Path, column: Any) -> int:
    """Bytes of the longest entry in the dictionary of a column."""
    import pyarrow as pa

    with path.open("rb") as file:
        file.seek(column.dictionary_page_offset)
        page = file.read(column.data_page_offset - column.dictionary_page_offset)
    # The header, in Thrift's compact protocol, begins with the kind of the page and its two sizes.
    numbers, at = [], 0
    for _ in range(3):
        number, at = _number(page, at + 1)
        numbers.append(number)
    _, size, packed = numbers
    if not 0 <= packed <= len(page) or not 0 <= size <= max(Most.BATCH_BYTES, Most.COLUMN_TIMES * packed):
        raise DataError(f"{path}: the dictionary of column {column.path_in_schema!r} is damaged; write the file again")
    data, codec = page[len(page) - packed :], column.compression.lower()
    if codec != "uncompressed":
        codec = pa.Codec("lz4_raw" if codec == "lz4" else codec)
        data = codec.decompress(data, decompressed_size=size, asbytes=True)
    largest = at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        largest, at = max(largest, length), at + 4 + length
    return largest


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag number of Thrift's compact protocol, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            break
    return (value >> 1) ^ -(value & 1), at


def _longest_list(file: Any, group: int, number: int) -> int:
    """Most values of one row in a column of lists: told by the lightest column of the same lists."""
    parts = file.metadata.row_group(group)
    ours = parts.column(number)
    name = ours.path_in_schema.split(".")[0]
    columns = (parts.column(n) for n in range(parts.num_columns))
    lists = [column for column in columns if column.path_in_schema.split(".")[0] == name]
    lightest = min(lists, key=lambda column: column.total_uncompressed_size * column.num_values)
    if ours.path_in_schema.count(".list.") != 1 or lightest.path_in_schema.count(".list.") != 1:
        return ours.num_values - parts.num_rows + 1
    if lightest.total_uncompressed_size * lightest.num_values > Most.BATCH_BYTES:
        return ours.num_values - parts.num_rows + 1
    listed = file.read_row_group(group, columns=[lightest.path_in_schema]).column(0).to_pylist()
    return max(map(len, filter(None, listed)), default=1)


# --- Folders of `save_to_disk` --------------------------------------------------------------------------------------


def saved_batches(state: Path, rows: int) -> "Iterator[pa.RecordBatch]":
    """Batches of at most so many rows of the Arrow streams that a `state.json` lists."""
    import pyarrow as pa

    for file in _saved_files(state):
        check_file(file)
        with _errors(file), pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                batch.validate(full=True)  # or a false length reads memory that is not the file's
                repeats = "dictionary<" in str(batch.schema) or "run_end" in str(batch.schema)
                at_once = min(rows, Most.BATCH_BYTES // max(batch.nbytes, 1)) if repeats else rows
                for start in range(0, batch.num_rows, max(at_once, 1)):
                    yield batch.slice(start, max(at_once, 1))


def _saved_files(state: Path) -> list[Path]:
    value = read_json(state)
    listed = value.get("_data_files") if isinstance(value, dict) else None
    entries = listed if isinstance(listed, list) else []
    names = [
        entry["filename"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
    ]
    if not names or len(names) < len(entries):
        raise DataError(f"{state} lists no data files; save the data set again with `save_to_disk`")
    return [resolve_inside(state.parent, name) for name in names]
