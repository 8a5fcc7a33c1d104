"""DICOM files as the 8-bit pictures that a viewer shows first.

The rule (PS3.3 C.11, PS3.4 N.2):

- one frame: a multi-frame file is refused, for which frame a question means nobody can tell;
- stored values → modality LUT, or rescale slope and intercept;
- → VOI LUT, or the first window (LINEAR, LINEAR_EXACT or SIGMOID) to 0 … 255; without either linearly from the
  smallest to the largest value, padding left out;
- → MONOCHROME1 is inverted, so that air is black everywhere; palettes are looked up; YBR becomes RGB; colours of more
  than 8 bits keep their highest 8.

Compressed pixels are unpacked by pydicom, Pillow (JPEG), pylibjpeg-openjpeg (JPEG 2000) and pyjpegls (JPEG-LS).
Lossless JPEG (processes 14) has no decoder with a free enough licence here and is refused with the mend.

Only the elements in `DISPLAY` and `OWNER` are ever read. Those of `OWNER` leave this module as a hash that lives as
long as the conversion, never in a file; no message holds a value of a header, nor what pydicom says about one.
"""

import hashlib
import io
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

DISPLAY = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(
        f"{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue")
        for what in ("Descriptor", "Data")
    ),
    *("PixelData", "BurnedInAnnotation"),
)
OWNER = ("PatientID", "SeriesInstanceUID")
"""What must not be split between train and test: the patient, or the series where the patient's number was removed."""

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

HEADER_ERRORS = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, TypeError, ValueError, struct.error)
"""What pydicom raises on damaged headers, beside its own two errors."""
PIXEL_ERRORS = (*HEADER_ERRORS, RuntimeError, MemoryError)
"""What its decoders raise on damaged or unsupported pixels (NotImplementedError is a RuntimeError)."""


@dataclass(frozen=True, slots=True)
class DicomImage:
    """The picture of a DICOM file."""

    image: Image.Image
    """8-bit grey or RGB."""
    burned_in: bool
    """The header says that annotations are burned into the pixels: a name may be among them."""
    owner: bytes | None
    """Hash of the patient's or series' number, for grouping while a conversion runs. Not to be stored."""


def is_dicom(data: bytes) -> bool:
    """Whether the data are a DICOM file (part 10: 128 bytes, then "DICM")."""
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes, name: str, *, max_pixels: int) -> DicomImage:
    """The picture by the rule of this module; `DataError` names the file (`name`) and never anything of its header."""
    try:
        from pydicom import dcmread
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise DataError(f"image {name} is DICOM, which needs pydicom; run `pip install 'medr1[dicom]'`") from error
    with _silent():
        try:
            header = dcmread(io.BytesIO(data), specific_tags=[*DISPLAY, *OWNER])
            _check(header, name, max_pixels)
            owner = _owner(header)
            burned_in = str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES"
            syntax = header.file_meta.get("TransferSyntaxUID")
        except DataError:
            raise
        except (*HEADER_ERRORS, BytesLengthException, InvalidDicomError):
            raise DataError(f"image {name} is damaged DICOM (its header cannot be read); export it again") from None
        try:
            pixels = _pixels(header)
        except (*PIXEL_ERRORS, BytesLengthException):
            kind = syntax.name if syntax is not None and not syntax.is_private else "unknown"
            raise DataError(
                f"the pixels of DICOM image {name} (transfer syntax: {kind}) are damaged or no installed decoder reads "
                "them; copy it again, or unpack it first (`gdcmconv --raw`, `dcmdjpeg`)"
            ) from None
        return DicomImage(image=Image.fromarray(pixels), burned_in=burned_in, owner=owner)


@contextmanager
def _silent() -> Iterator[None]:
    """pydicom quotes header values in its warnings and log lines; none of them may reach a screen or a log."""
    logger = logging.getLogger("pydicom")
    before, logger.propagate = logger.propagate, False  # its own handler is a NullHandler, its children have none
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate = before


def _check(header: "Dataset", name: str, max_pixels: int) -> None:
    if "PixelData" not in header:
        raise DataError(f"image {name} is DICOM without pixels; export the image itself")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"image {name} has several frames; save the one you mean as a file of its own")
    if int(header.Rows) * int(header.Columns) > max_pixels:
        raise DataError(f"image {name} has more than {max_pixels // 10**6} million pixels; resize it first")
    if str(header.PhotometricInterpretation) not in (*GREY, *COLOURS, "PALETTE COLOR"):
        raise DataError(f"image {name} is DICOM of a colour model that is not supported; export it as PNG")


def _owner(header: "Dataset") -> bytes | None:
    for keyword in OWNER:
        value = str(header.get(keyword) or "").strip()
        if value:
            return hashlib.blake2b(f"{keyword} {value}".encode(errors="replace"), digest_size=16).digest()
    return None


def _pixels(header: "Dataset") -> NDArray[np.uint8]:
    """`[height, width]` or `[height, width, 3]` of bytes."""
    from pydicom.pixels import apply_color_lut

    stored = header.pixel_array
    if stored.shape[:2] != (int(header.Rows), int(header.Columns)):
        raise ValueError
    colours = str(header.PhotometricInterpretation)
    if colours == "PALETTE COLOR":
        looked_up = apply_color_lut(stored, header)
        return _highest_bits(looked_up, 8 * looked_up.itemsize)
    if colours in GREY:
        grey = _windowed(stored, header)
        return 255 - grey if colours == "MONOCHROME1" else grey
    return _highest_bits(stored, int(header.BitsStored))


def _highest_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return (values >> max(bits - 8, 0)).astype(np.uint8)


def _windowed(stored: NDArray[Any], header: "Dataset") -> NDArray[np.uint8]:
    """Grey values of one frame through modality LUT and VOI LUT or window, 0 … 255."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    values = np.asarray(apply_modality_lut(stored, header), np.float64)
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = np.asarray(apply_voi(values.astype(np.int64), header, index=0), np.float64)
        return _to_bytes(looked_up / (2**bits - 1))
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return _to_bytes(window(values, centre, width, str(header.get("VOILUTFunction") or "LINEAR").upper()))
    return _to_bytes(_stretched(values, ~_padding(stored, header)))


def window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values through a VOI window to 0 … 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    >>> window(np.array([-200.0, 40.0, 300.0]), centre=40, width=400, function="LINEAR_EXACT").tolist()
    [0.0, 0.5, 1.0]
    """
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    """The first of several values, since a file may list one window for each tissue."""
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, (int, float, str)) or not hasattr(value, "__iter__") else list(value)
    return float(values[0]) if values else None


def _padding(stored: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Pixels outside the field of view: their value is no measurement."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted((int(value), int(header.get("PixelPaddingRangeLimit", value))))
    return (stored >= low) & (stored <= high)


def _stretched(values: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    """From the smallest to the largest measured value to 0 … 1; a constant image becomes black."""
    known = values[measured] if measured.any() else values
    low, high = known.min(), known.max()
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


def _to_bytes(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    if not np.isfinite(shares).all():
        raise ValueError
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
