"""Damaged input: every reader returns samples or ends in one `DataError`, and no folder is left half written."""

import copy
import functools
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medr1.data import SOURCES
from medr1.data.convert import convert
from medr1.data.images import open_image
from medr1.data.settings import ConvertSettings
from medr1.errors import DataError
from medr1.types import ImageRef
from source_cases import CASES, drawn, picture, write

READERS = [(name, suffix) for name, source in SOURCES.items() for suffix in source.suffixes if suffix != "state.json"]
TEXT_READERS = [name for name in CASES if Path(CASES[name].file).suffix in (".json", ".jsonl", ".csv", ".tsv")]
few = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(few, max_examples=80)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["A", "B", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("A"), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with a few of them changed, taken out or put in, and perhaps cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(len(data) - 1, 0)))
        piece = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b"\n", b",", b"\xff", b"\0"]))
        data[position : position + draw(st.integers(0, 3))] = piece
    return bytes(data[: draw(st.integers(1, len(data) or 1))] if draw(st.booleans()) else data)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


def converted(path: Path, name: str, **options: Any) -> str | None:
    """None where it could be converted, else the message; never half a folder."""
    out = path.parent / "out" if path.is_file() else path.with_name("out")
    try:
        convert(ConvertSettings(path=path, out=out, source=name, allow_missing_images=True, **options))
    except DataError as error:
        assert not out.exists()
        assert not list(out.parent.glob(".out*"))
        return str(error)
    assert (out / "data-00000.parquet").is_file()
    return None


@functools.cache
def good_bytes(name: str, suffix: str) -> bytes:
    """The good file of a source in the container of that suffix, as far as its rows fit there."""
    with folder() as made:
        rows = drawn(CASES[name].rows)
        path = made / f"good{suffix}"
        if suffix == ".parquet":
            pq.write_table(
                pa.Table.from_pylist([{k: v for k, v in row.items() if k != "prompt"} for row in rows]), path
            )
        else:
            as_text = json.dumps(rows, default=str).encode()
            path.write_bytes(as_text if suffix.startswith(".json") and "l" not in suffix else as_text[1:-1])
            if Path(CASES[name].file).suffix == suffix:
                write(made, CASES[name], CASES[name].rows)
                path = made / CASES[name].file
        return path.read_bytes()


@pytest.mark.parametrize(("name", "suffix"), READERS)
@few
@given(data=st.data())
def test_damaged_files(name: str, suffix: str, data: st.DataObject):
    content = data.draw(damaged(good_bytes(name, suffix)) | st.binary(max_size=40))
    with folder() as made:
        path = made / f"broken{suffix}"
        path.write_bytes(content)
        message = converted(path, name)
        assert message is None or path.name in message


@pytest.mark.parametrize("name", TEXT_READERS)
@few
@given(data=st.data())
def test_damaged_records(name: str, data: st.DataObject):
    rows = copy.deepcopy(CASES[name].rows)
    number = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(sorted(rows[number])))
    value = data.draw(json_values)
    is_table = CASES[name].file.endswith(("csv", "tsv"))
    rows[number][field] = str(value).encode(errors="replace").decode() if is_table else value
    with folder() as made:
        path = write(made, CASES[name], rows)
        message = converted(path, name)
        if message is not None:
            assert path.name in message
            assert re.search(r"record \d+: |line \d+ ", message)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].file.endswith(".parquet")])
@few
@given(data=st.data())
def test_damaged_columns(name: str, data: st.DataObject):
    rows = drawn(CASES[name].rows)
    field = data.draw(st.sampled_from(sorted(rows[0])))
    kind = st.text(max_size=5) | st.just("\0")
    column = data.draw(
        st.lists(st.none() | kind, min_size=5, max_size=5)
        | st.lists(st.integers(-9, 9), min_size=5, max_size=5)
        | st.lists(st.none() | st.lists(kind, max_size=2), min_size=5, max_size=5)
        | st.lists(st.none() | st.binary(max_size=5), min_size=5, max_size=5)
        | st.lists(st.datetimes(), min_size=5, max_size=5)
    )
    with folder() as made:
        path = made / "broken.parquet"
        pq.write_table(
            pa.Table.from_pylist([row | {field: cell} for row, cell in zip(rows, column, strict=True)]), path
        )
        message = converted(path, name)
        assert message is None or path.name in message or "image" in message


@few
@given(data=st.data())
def test_damaged_saved_folders(data: st.DataObject):
    with folder() as made:
        saved = made / "saved"
        saved.mkdir()
        table = pa.Table.from_pylist(drawn(CASES["rows"].rows))
        with (
            pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as w,
        ):
            w.write_table(table)
        (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (saved / "dataset_info.json").write_text("{}")
        assert converted(saved, "rows") is None
        shutil.rmtree(made / "out")
        broken = data.draw(st.sampled_from(sorted(file.name for file in saved.iterdir())))
        (saved / broken).write_bytes(data.draw(damaged((saved / broken).read_bytes())))
        message = converted(saved, "rows")
        assert message is None or str(saved) in message or "image" in message


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    (image.quantize(9) if kind == "GIF" else image).save(buffer, kind)
    return buffer.getvalue()


@functools.cache
def dicom(syntax: str) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.PatientID, header.Rows, header.Columns, header.SamplesPerPixel = "SECRET", 40, 40, 1
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PhotometricInterpretation, header.WindowCenter, header.WindowWidth = "MONOCHROME2", 700, 900
    header.RescaleSlope, header.RescaleIntercept = 1, -3
    header.PixelData = np.arange(1600, dtype=np.uint16).tobytes()
    if syntax != "ExplicitVRLittleEndian":
        header.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
@many
@given(data=st.data())
def test_damaged_images(kind: str, data: st.DataObject):
    opens_or_is_named(data.draw(damaged(encoded(kind))))


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless", "JPEG2000Lossless", "JPEGLSLossless"])
@many
@given(data=st.data())
def test_damaged_dicom(syntax: str, data: st.DataObject):
    whole = dicom(syntax)
    start = data.draw(st.integers(0, 1)) * 132  # most of the damage must hit something that is read
    opens_or_is_named(whole[:start] + data.draw(damaged(whole[start:])))


def opens_or_is_named(content: bytes) -> None:
    said = None
    try:
        assert open_image(ImageRef(path="folder/broken.bin", data=content)).mode == "RGB"
    except DataError as error:
        said = str(error)
    assert said is None or ("folder/broken.bin" in said and "SECRET" not in said)


@pytest.mark.filterwarnings("ignore")
@few
@given(data=st.data())
def test_a_damaged_image_leaves_no_folder(data: st.DataObject):
    rows = CASES["med-r1"].rows
    with folder() as made:
        path = write(made, CASES["med-r1"], rows)
        for row in rows:
            (made / row["image"]).parent.mkdir(parents=True, exist_ok=True)
            (made / row["image"]).write_bytes(picture(1, "image")["bytes"])
        (made / rows[3]["image"]).write_bytes(data.draw(damaged(encoded("PNG")) | st.just(dicom("RLELossless")[:700])))
        message = converted(path, "med-r1")
        assert message is None or Path(rows[3]["image"]).name in message
