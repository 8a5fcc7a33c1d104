"""DICOM headers without a certain meaning: refused, with their own reason."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dicom_files import dicom, pydicom, rewritten, saved, table, uid
from medr1.data.dicom import decode_dicom
from medr1.errors import DataError

GREY = np.random.default_rng(3).integers(0, 4096, (9, 14)).astype("u2")
WINDOWED = dicom(GREY, WindowCenter=40, WindowWidth=400)
SCALED = dicom(GREY, RescaleSlope=2, RescaleIntercept=3)
REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "slope 0": ("slope of 0", lambda: dicom(GREY, RescaleSlope=0, RescaleIntercept=3)),
    "slope empty": ("half a rescale", lambda: dicom(GREY, RescaleSlope="", RescaleIntercept=-1024)),
    "slope alone": ("half a rescale", lambda: dicom(GREY, RescaleSlope=2)),
    "intercept alone": ("half a rescale", lambda: dicom(GREY, RescaleIntercept=-1024)),
    "slope of letters": ("rescale slope is no number", lambda: rewritten(SCALED, RescaleSlope=("LO", "one"))),
    "centre with a comma": ("window center is no number", lambda: rewritten(WINDOWED, WindowCenter=("LO", "4,"))),
    "decimal comma": ("window width is no number", lambda: rewritten(WINDOWED, WindowWidth=("LO", "4,5"))),
    "width not a number": ("window width is no number", lambda: rewritten(WINDOWED, WindowWidth=("FD", float("nan")))),
    "width 0": ("wider than 0", lambda: dicom(GREY, WindowCenter=0, WindowWidth=0)),
    "width below 0": ("wider than 0", lambda: dicom(GREY, WindowCenter=0, WindowWidth=-3)),
    "width alone": ("half a window", lambda: dicom(GREY, WindowWidth=30)),
    "first centre empty": ("half a window", lambda: dicom(GREY, WindowCenter=["", "40"], WindowWidth=[1, 2])),
    "unknown function": ("unknown function", lambda: rewritten(WINDOWED, VOILUTFunction=("CS", "GAMMA"))),
    "padding of letters": ("padding value is no number", lambda: rewritten(SCALED, PixelPaddingValue=("LO", "air"))),
    "left-aligned values": ("lowest bits", lambda: dicom(GREY, BitsStored=12, HighBit=15)),
    "short table": ("shorter than it says", lambda: dicom(GREY, VOILUTSequence=[short()])),
    "table beyond its bits": ("beyond the bits", lambda: dicom(GREY, VOILUTSequence=[table(0, [0, 9000], 10)])),
    "float pixels": ("floating-point", lambda: float_pixels()),
    "samples of grey": ("number of samples", lambda: dicom(GREY, SamplesPerPixel=3)),
    "segmented palette": ("missing or in segments", lambda: dicom(GREY, PhotometricInterpretation="PALETTE COLOR")),
    "colours for some": ("supplemental", lambda: dicom(GREY, RedPaletteColorLookupTableDescriptor=[9, 4000, 16])),
    "colours of JPEG 2000": (
        "JPEG 2000",
        lambda: dicom(np.zeros((2, 2, 3), "u1"), PhotometricInterpretation="YBR_ICT"),
    ),
    "several frames": ("several frames", lambda: dicom(GREY, NumberOfFrames=2)),
}


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode_dicom(data, "x.dcm", max_pixels=10**6).image)


def short() -> Any:
    item = table(0, [1] * 9, 16)
    item.LUTDescriptor = [90, 0, 16]
    return item


def float_pixels() -> bytes:
    header = pydicom.dcmread(io.BytesIO(dicom(GREY)))
    del header.PixelData
    header.FloatPixelData, header.BitsAllocated = np.zeros(GREY.shape, "<f4").tobytes(), 32
    return saved(header)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_certain_meaning_is_refused_with_its_reason(what: str):
    reason, make = REFUSED[what]
    data = make()
    with pytest.raises(DataError) as raised:
        decode_dicom(data, "x.dcm", max_pixels=10**6)
    said = str(raised.value)
    assert reason in said
    assert "x.dcm" in said
    assert "damaged" not in said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": "", "RescaleIntercept": ""},
        {"RescaleSlope": 1},
        {"RescaleIntercept": 0},
        {"WindowCenter": "", "WindowWidth": ""},
        {"PixelPaddingValue": None},
        {"VOILUTFunction": ""},
    ],
)
def test_what_is_empty_is_not_there(elements: dict[str, Any]):
    assert np.array_equal(shown(dicom(GREY, **elements)), shown(dicom(GREY)))


def test_narrow_windows_of_fractions_are_windows():
    elements = {"RescaleSlope": "0.0001", "RescaleIntercept": "0", "WindowCenter": "0.2", "WindowWidth": "0.3"}
    expected = np.rint(255 * np.clip((GREY * 0.0001 - 0.2) / 0.3 + 0.5, 0, 1))
    assert np.abs(shown(dicom(GREY, BitsStored=12, **elements)) - expected).max() <= 1


def test_a_deflated_file_is_unpacked_up_to_a_limit():
    whole = dicom(GREY)
    header = pydicom.dcmread(io.BytesIO(whole))
    header.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    deflated = saved(header)
    assert np.array_equal(shown(deflated), shown(whole))
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    meta = deflated[: 144 + int.from_bytes(deflated[140:144], "little")]
    bomb = meta + b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    assert len(bomb) < 2**21
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 7 MiB"):
        decode_dicom(bomb, "x.dcm", max_pixels=10**6)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLSLossless"])
def test_pixels_of_another_size_than_the_header_says_are_not_decoded(syntax: str):
    pytest.importorskip({"JPEG2000Lossless": "openjpeg", "JPEGLSLossless": "jpeg_ls"}[syntax])
    whole = dicom(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), getattr(uid, syntax))
    assert shown(whole).shape == (64, 64)
    if syntax == "JPEG2000Lossless":
        at = whole.index(b"\xff\x4f\xff\x51") + 8
        huge = whole[:at] + struct.pack(">II", 60_000, 60_000) + whole[at + 8 :]
    else:
        at = whole.index(b"\xff\xf7") + 5
        huge = whole[:at] + struct.pack(">HH", 60_000, 60_000) + whole[at + 4 :]
    with pytest.raises(DataError, match="another size than its header says"):
        shown(huge)
