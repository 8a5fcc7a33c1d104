"""Samples on disk: a folder of parquet shards that `datasets.load_dataset` reads as well.

One row a sample, one column a field of `Sample`; images are a list of Hugging Face `Image` (a struct of bytes and
path), `extra` is a JSON object in a string column.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1.doors import read_file, resolve_inside
from medr1.errors import DataError
from medr1.records.locks import Lock
from medr1.records.manifest import check_finished
from medr1.records.tables import SAVED_STATE, parquet_batches, saved_batches
from medr1.types import ANSWER_TYPES, LETTERS, MODALITIES, TASKS, ImageRef, Sample

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 256
ROW_GROUP_ROWS = 1000
ROW_GROUP_BYTES = 32 * 2**20
SHARD_BYTES = 512 * 2**20
"""Sizes are of the embedded images: a row group is what a reader must hold in memory, a shard is one file."""

FIRST_SHARD = "data-00000.parquet"
NEW, OLD = "new", "old"
"""What becomes of a folder, and what it was, while `write_samples` writes it."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
REQUIRED_COLUMNS = ("id", "images", "question")
ALLOWED_VALUES = {"modality": MODALITIES, "task": TASKS, "answer_type": ANSWER_TYPES}


def write_samples(
    folder: Path, samples: Iterable[Sample], *, embed_images: bool = True, overwrite: bool = False
) -> int:
    """Stream samples into `folder/data-00000.parquet`, `data-00001.parquet`, …; return how many there were.

    With `embed_images` the file behind every reference is read into the parquet (its path shrinks to the base name);
    otherwise references stay references. The folder appears whole or not at all; a killed call may leave a hidden one
    beside it, which the next call removes. `DataError` for a missing image, for two samples with the same id and
    variant, and for a folder that is not empty.
    """
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty; choose another folder or allow overwriting")
    aside = folder.with_name(f".{folder.name}.partial")
    aside.mkdir(parents=True, exist_ok=True)
    lock = Lock(aside)
    lock.acquire()
    try:
        for name in (NEW, OLD):  # of a call that was killed
            shutil.rmtree(aside / name, ignore_errors=True)
        (aside / NEW).mkdir()
        total = write_shards(aside / NEW, samples, embed_images=embed_images)
        if folder.exists():
            folder.rename(aside / OLD)
        (aside / NEW).rename(folder)
    finally:
        shutil.rmtree(aside)
        lock.release()
    return total


def write_shards(
    folder: Path, samples: Iterable[Sample], *, embed_images: bool = True, shard_bytes: float | None = None
) -> int:
    """`write_samples` into an existing folder, for callers that stage it; no file gets more than `shard_bytes`."""
    import pyarrow.parquet as pq

    schema = _arrow_schema()
    most = SHARD_BYTES if shard_bytes is None else shard_bytes
    writer: pq.ParquetWriter | None = None
    shard = written = total = 0
    for group, num_bytes in _row_groups(_unique(samples), embed_images):
        if writer is not None and written + num_bytes > most:
            writer.close()
            writer, shard, written = None, shard + 1, 0
        if writer is None:
            writer = pq.ParquetWriter(folder / f"data-{shard:05d}.parquet", schema)
        writer.write_table(_table(group, schema))
        written += num_bytes
        total += len(group)
    if writer is None:
        writer = pq.ParquetWriter(folder / FIRST_SHARD, schema)
    writer.close()
    return total


def read_samples(path: Path) -> Iterator[Sample]:
    """Samples of a parquet file, of a folder of parquet shards, or of a `datasets.save_to_disk` folder.

    Relative image references resolve against the folder. `DataError` for anything else, for missing columns, for
    values outside the contract, for two rows with the same id and variant, and for the data of a command that was
    stopped or still runs.
    """
    check_finished(path)
    return _unique(_samples_of_tables(_tables(path), path))


def _unique(samples: Iterable[Sample]) -> Iterator[Sample]:
    seen: set[tuple[str, str]] = set()
    for sample in samples:
        key = (sample.id, sample.variant)
        if key in seen:
            raise DataError(
                f"two samples have the id {sample.id} and the variant {sample.variant!r} ({sample.question[:60]!r}); "
                "remove one of them"
            )
        seen.add(key)
        yield sample


def _row_groups(samples: Iterable[Sample], embed_images: bool) -> Iterator[tuple[list[Sample], int]]:
    """Samples, with their images where asked for, in groups small enough to hold in memory, and the images' bytes."""
    group: list[Sample] = []
    num_bytes = 0
    for sample in samples:
        if embed_images:
            sample = replace(sample, images=tuple(_embedded(ref, sample.id) for ref in sample.images))
        group.append(sample)
        num_bytes += sum(len(ref.data or b"") for ref in sample.images)
        if len(group) >= ROW_GROUP_ROWS or num_bytes >= ROW_GROUP_BYTES:
            yield group, num_bytes
            group, num_bytes = [], 0
    if group:
        yield group, num_bytes


def _embedded(ref: ImageRef, name: str) -> ImageRef:
    if ref.data is not None:
        return ref
    if ref.path is None:
        raise DataError(f"sample {name} has an image without data and without a path; give it one of them")
    return ImageRef(path=Path(ref.path).name, data=read_file(Path(ref.path), "image"))


def _arrow_schema() -> "pa.Schema":
    """Columns with the metadata by which `datasets` knows that `images` are images (written without importing it)."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    special = {
        "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "options": texts,
        "answers": texts,
        "answer_index": pa.int32(),
    }
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, object] = dict.fromkeys((field.name for field in fields(Sample)), text)
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    features["options"] = features["answers"] = {"feature": text, "_type": "List"}
    features["answer_index"] = {"dtype": "int32", "_type": "Value"}
    columns = [(field.name, special.get(field.name, pa.string())) for field in fields(Sample)]
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _table(samples: Sequence[Sample], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    columns = {name: [getattr(sample, name) for sample in samples] for name in schema.names}
    columns["images"] = [[{"bytes": ref.data, "path": ref.path} for ref in sample.images] for sample in samples]
    columns["extra"] = [json.dumps(dict(sample.extra)) for sample in samples]
    return pa.Table.from_pydict(columns, schema=schema)


def _tables(path: Path) -> Iterator["pa.RecordBatch"]:
    if not path.exists():
        raise DataError(f"{path} does not exist; give a folder that `medr1 data convert` wrote")
    if path.is_dir() and (path / "dataset_dict.json").exists():
        splits = ", ".join(sorted(folder.name for folder in path.iterdir() if folder.is_dir()))
        raise DataError(f"{path} holds the splits {splits}; name the folder of one of them")
    if path.is_dir() and (path / SAVED_STATE).exists():
        yield from saved_batches(path / SAVED_STATE, ROWS_AT_ONCE)
        return
    shards = [resolve_inside(path, file.name) for file in sorted(path.glob("*.parquet"))] if path.is_dir() else [path]
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        raise DataError(f"{path} is an archive; unpack it, and convert what is in it with `medr1 data convert`")
    if path.is_file() and not is_parquet(path):
        raise DataError(
            f"{path} is no data set of medr1; make one of it first: medr1 data convert {path} --out DIR, then give DIR"
        )
    if not shards:
        raise DataError(f"{path} holds no parquet shards; convert the data first with `medr1 data convert`")
    for shard in shards:
        yield from parquet_batches(shard, ROWS_AT_ONCE)


def is_parquet(file: Path) -> bool:
    """Whether a file begins as parquet does, whatever its name; also one whose end is missing."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) == b"PAR1" or file.suffix == ".parquet"
    except OSError:
        return file.suffix == ".parquet"


def _samples_of_tables(tables: "Iterable[pa.RecordBatch]", path: Path) -> Iterator[Sample]:
    folder = path if path.is_dir() else path.parent
    number = 0
    for table in tables:
        missing = [name for name in REQUIRED_COLUMNS if name not in table.schema.names]
        if missing:
            raise DataError(f"{path} lacks the column {missing[0]!r}; convert it first with `medr1 data convert`")
        _check_types(table.schema, path)
        for row in table.to_pylist():
            number += 1
            yield _sample(row, folder, f"{path} row {number}")


def _check_types(schema: "pa.Schema", path: Path) -> None:
    """Raise `DataError` for a column of another type than ours has; wider texts and numbers are as good."""
    for ours in _arrow_schema():
        place = schema.get_field_index(ours.name)
        if place >= 0 and not _fits(schema.field(place).type, ours.type):
            raise DataError(
                f"{path}: the column {ours.name!r} is {schema.field(place).type} and should be {ours.type}; convert "
                "the data again with `medr1 data convert`"
            )


def _fits(found: "pa.DataType", ours: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    if kinds.is_null(found):
        return True
    if kinds.is_list(ours):
        lists = kinds.is_list(found) or kinds.is_large_list(found) or kinds.is_fixed_size_list(found)
        return lists and _fits(found.value_type, ours.value_type)
    if kinds.is_struct(ours):
        return kinds.is_struct(found)  # of pictures; what is in it is looked at one by one
    if kinds.is_integer(ours):
        return kinds.is_integer(found)
    return kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found) or _is_words(found)


def _is_words(found: "pa.DataType") -> bool:
    """Whether a column holds each of a few texts once, as pandas writes categories."""
    import pyarrow.types as kinds

    return kinds.is_dictionary(found) and kinds.is_string(found.value_type)


def _sample(row: Mapping[str, Any], folder: Path, where: str) -> Sample:
    for name in REQUIRED_COLUMNS:
        if row[name] is None:
            raise DataError(f"{where}: {name} is empty; give every sample one")
    known = {field.name for field in fields(Sample)}
    values = {name: value for name, value in row.items() if name in known and value is not None}
    for name, allowed in ALLOWED_VALUES.items():
        if name in values and values[name] not in allowed:
            raise DataError(f"{where}: {name} {values[name]!r} is unknown; use one of {', '.join(allowed)}")
    for name in ("options", "answers"):
        values[name] = tuple(values.get(name, ()))
        if None in values[name]:
            raise DataError(f"{where}: one of its {name} is empty; fill it in, since letters must not move")
    index = values.get("answer_index")
    if index is not None and not 0 <= index < min(len(values["options"]), len(LETTERS)):
        raise DataError(f"{where}: answer_index {index} is outside the {len(values['options'])} options")
    values["images"] = tuple(_image_ref(image, folder, where) for image in values["images"])
    try:
        values["extra"] = json.loads(values.get("extra", "{}"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: extra is not a JSON object ({error.msg}); convert the data again") from error
    return Sample(**values)


def _image_ref(image: object, folder: Path, where: str) -> ImageRef:
    if not isinstance(image, Mapping) or image.keys() != {"bytes", "path"}:
        raise DataError(f"{where}: images are not a list of bytes and path; store them as `datasets.Image`")
    data, path = image["bytes"], image["path"]
    if not isinstance(data, bytes | None) or not isinstance(path, str | None):
        raise DataError(f"{where}: images are not a list of bytes and path; store them as `datasets.Image`")
    if data is None and path is not None:
        try:
            path = str(resolve_inside(folder, path))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    return ImageRef(path=path, data=data)
