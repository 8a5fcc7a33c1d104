"""DICOM files made in memory, with a made-up patient."""

import io
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
uid = pytest.importorskip("pydicom.uid")

STORED = (np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 7) % 4096
SECRETS = {"PatientName": "Doe^Jane", "PatientID": "SECRET-42", "InstitutionName": "Hidden Hospital"}


def dicom(pixels: np.ndarray = STORED, syntax: str | None = None, **elements: Any) -> bytes:
    """A DICOM file in memory with a made-up patient; elements of None are left out."""
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    depth = 8 * pixels.itemsize
    values = {
        **SECRETS,
        "SeriesInstanceUID": "1.2.840.1",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
        "BitsAllocated": depth,
        "BitsStored": depth,
        "HighBit": elements.get("BitsStored", depth) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if pixels.ndim == 3 else {}),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(header, keyword, value)
    header.PixelData = pixels.tobytes()
    if syntax:
        header.compress(syntax)
    return saved(header)


def saved(header: Any, **options: Any) -> bytes:
    """The file of a header."""
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True, **options)
    return buffer.getvalue()


def rewritten(data: bytes, **elements: tuple[str, Any]) -> bytes:
    """The file with elements written with another value representation."""
    header = pydicom.dcmread(io.BytesIO(data))
    for keyword, (vr, value) in elements.items():
        header[keyword] = pydicom.dataelem.DataElement(pydicom.datadict.tag_for_keyword(keyword), vr, value)
    return saved(header)


def table(first: int, entries: list[int] | np.ndarray, bits: int, *, vr: str = "OW", first_vr: str = "SS") -> Any:
    """An item of a LUT sequence."""
    item = pydicom.Dataset()
    sign = first % 2**16 if first_vr == "US" else first
    item.add_new("LUTDescriptor", first_vr, [len(entries), sign, bits])
    words = np.asarray(entries, "u1" if vr == "OB" else "<u2")
    item.add_new("LUTData", vr, words.tolist() if vr == "US" else words.tobytes() + b"\0" * (words.nbytes % 2))
    return item
