"""DICOM files as the 8-bit pictures that a viewer shows first.

The rule (PS3.3 C.11, PS3.4 N.2); `medr1.data.depth` scales what is deeper than 8 bits:

- one frame: a multi-frame file is refused, for which frame a question means nobody can tell. What its functional
  groups say of the frame (window, rescale, padding), shared or its own, goes before the same elements at the top;
- stored values → modality LUT, or rescale slope and intercept;
- → VOI LUT, or the first window (LINEAR, LINEAR_EXACT or SIGMOID) to 0 … 255; without either linearly from the
  smallest to the largest value, padding left out;
- → MONOCHROME1 is inverted, so that air is black everywhere; palettes are looked up; YBR becomes RGB; colours and
  tables of more than 8 bits keep the highest 8 of the bits in use.

Numbers are read whatever they were written with (`medr1.data.dicom_header`). A header that contradicts itself or leaves
two readings is refused with its reason, never guessed: half a window or rescale, a slope or width of 0, values that are
not in the lowest bits, palettes for some of the values only. So are floating-point pixels.

Compressed pixels are unpacked by pydicom, Pillow (JPEG), pylibjpeg-openjpeg (JPEG 2000) and pyjpegls (JPEG-LS).
Lossless JPEG (processes 14) has no decoder with a free enough licence here and is refused with the mend.

Only the elements in `DISPLAY` and `OWNER` are ever read, and of a study those in `dicom_header.PLACE` and the modality;
`docs/pictures.md` lists them all. Those of `OWNER` leave this module as a hash that lives as long as the conversion,
never in a file; no message holds a value of a header, nor what pydicom says about one.
"""

import hashlib
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.data import depth
from medr1.data.depth import Range
from medr1.data.dicom_header import (
    FRAME,
    PLACE,
    Refusal,
    Table,
    codestream_size,
    num_frames,
    number,
    of_frame,
    read_header,
    signed_bits,
)
from medr1.doors import Most
from medr1.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
DISPLAY = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *FRAME,
    *(
        f"{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue")
        for what in ("Descriptor", "Data")
    ),
    "BurnedInAnnotation",
)
OWNER = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""What must not be split between train and test: the patient, or the study where the patient's number was removed."""

GREY = ("MONOCHROME1", "MONOCHROME2")
JPEG_2000_COLOURS = ("YBR_ICT", "YBR_RCT")
JPEG_2000_SYNTAXES = ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20")
JPEG_LS_SYNTAXES = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", *JPEG_2000_COLOURS)
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

HEADER_ERRORS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, TypeError, ValueError),
    *(struct.error, zlib.error, RecursionError),
)
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


def decode_dicom(data: bytes, name: str, *, max_pixels: int) -> DicomImage:
    """The picture by the rule of this module; `DataError` names the file (`name`) and never anything of its header."""
    with refusals(name):
        header = read_header(data, [*DISPLAY, *PIXELS, *OWNER], max_pixels=max_pixels)
        if num_frames(header) > 1:
            raise DataError(
                f"image {name} has several frames; save the one you mean as a file of its own, or convert with --slices"
            )
        stored = _stored(header, 0, name, max_pixels)
        return DicomImage(
            image=Image.fromarray(_pixels(stored, header)), burned_in=burned_in(header), owner=owner_of(header)
        )


def read_frames(data: bytes, name: str, *, max_pixels: int) -> list["Dataset"]:
    """What a file says of each of its frames, without pixels."""
    with refusals(name):
        header = read_header(data, [*DISPLAY, *OWNER, *PLACE, "Modality"], max_pixels=max_pixels)
        return [of_frame(header, index) for index in range(num_frames(header))]


def read_pixels(data: bytes, name: str, *, max_pixels: int) -> "Dataset":
    """What a file says of its pixels, with them, still packed."""
    with refusals(name):
        return read_header(data, [*DISPLAY, *PIXELS], max_pixels=max_pixels)


def grey_of(pixels: "Dataset", index: int, frame: "Dataset", name: str, *, max_pixels: int) -> "Grey":
    """The values of one frame of a file, of which `frame` is what `read_frames` says of it."""
    with refusals(name):
        if str(pixels.PhotometricInterpretation) not in GREY:
            raise Refusal("in colours, and a volume is of grey values; convert its pictures one by one")
        stored, possible = _unpacked(_stored(pixels, index, name, max_pixels), pixels)
        measured, possible = _measured(frame, possible)
        return Grey(measured(stored), possible, _padding(stored, frame))


@dataclass(frozen=True, slots=True)
class Grey:
    """What the grey values of a frame stand for."""

    values: NDArray[np.float64]
    possible: Range
    """That the values can have."""
    is_padding: NDArray[np.bool_]


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """What goes wrong with a file becomes a `DataError` that names it, and nothing of its header."""
    try:
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise DataError(f"image {name} is DICOM, which needs pydicom; run `pip install 'medr1[dicom]'`") from error
    with _silent():
        try:
            yield
        except DataError:
            raise
        except Refusal as reason:
            raise DataError(f"image {name} is DICOM {reason}") from None
        except (*HEADER_ERRORS, BytesLengthException, InvalidDicomError):
            raise DataError(f"image {name} is damaged DICOM (its header cannot be read); export it again") from None


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


def _check(header: "Dataset", index: int, name: str, max_pixels: int) -> None:
    from pydicom.encaps import get_frame

    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise Refusal("with floating-point pixels, which are measurements and have no display; export it as PNG")
    if "PixelData" not in header:
        raise DataError(f"image {name} is DICOM without pixels; export the image itself")
    is_costly = int(header.get("SamplesPerPixel") or 1) > 1 or int(header.BitsAllocated) > 16
    most = min(max_pixels, Most.COSTLY_PIXELS) if is_costly else max_pixels
    if int(header.Rows) * int(header.Columns) > most:
        deep = " of colour or more than 16 bits" if is_costly else ""
        raise DataError(f"image {name} has more than {most // 10**6} million pixels{deep}; resize it first")
    claimed = (
        codestream_size(get_frame(header.PixelData, index, number_of_frames=num_frames(header)))
        if str(header.file_meta.TransferSyntaxUID).startswith((*JPEG_2000_SYNTAXES, *JPEG_LS_SYNTAXES))
        else None
    )
    if claimed not in (None, (int(header.Rows), int(header.Columns))):
        raise Refusal("whose pixels have another size than its header says; export it again")
    colours, samples = str(header.PhotometricInterpretation), int(header.get("SamplesPerPixel") or 1)
    if colours not in (*GREY, *COLOURS, "PALETTE COLOR"):
        raise Refusal("of a colour model that is not supported; export it as PNG")
    if samples != (3 if colours in COLOURS else 1):
        raise Refusal("whose number of samples is not that of its colour model; mend its header")
    if colours in JPEG_2000_COLOURS and not str(header.file_meta.TransferSyntaxUID).startswith(JPEG_2000_SYNTAXES):
        raise Refusal("of a colour model that JPEG 2000 alone has, in another transfer syntax; mend its header")
    stored = int(header.BitsStored)
    if not 1 <= stored <= int(header.BitsAllocated) or int(header.get("HighBit", stored - 1)) != stored - 1:
        raise Refusal("whose values are not in the lowest bits (bits stored, high bit); export it as PNG")
    if colours in GREY and "RedPaletteColorLookupTableDescriptor" in header:
        raise Refusal("that shows some grey values in colours (a supplemental palette); export it as PNG")


def burned_in(header: "Dataset") -> bool:
    """Whether a file says that text is burned into its pixels."""
    return str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES"


def owner_of(header: "Dataset") -> bytes | None:
    """Hash of what must not be split between train and test."""
    for keyword in OWNER:
        value = str(header.get(keyword) or "").strip()
        if value:
            return hashlib.blake2b(f"{keyword} {value}".encode(errors="replace"), digest_size=16).digest()
    return None


def _stored(header: "Dataset", index: int, name: str, max_pixels: int) -> NDArray[Any]:
    """The stored values of a frame, unpacked; `DataError` where that cannot be done."""
    from pydicom.pixels import pixel_array

    _check(header, index, name, max_pixels)
    try:
        stored = pixel_array(header, index=index)
    except PIXEL_ERRORS:
        stored = None
    if stored is None or stored.shape[:2] != (int(header.Rows), int(header.Columns)):
        syntax = header.file_meta.TransferSyntaxUID
        kind = "unknown" if syntax.is_private else syntax.name
        raise DataError(
            f"the pixels of DICOM image {name} (transfer syntax: {kind}) are damaged or no installed decoder reads "
            "them; copy it again, or unpack it first (`gdcmconv --raw`, `dcmdjpeg`)"
        )
    return stored


def _pixels(stored: NDArray[Any], header: "Dataset") -> depth.Shades:
    """`[height, width]` or `[height, width, 3]` of bytes."""
    bits, colours = int(header.BitsStored), str(header.PhotometricInterpretation)
    stored, possible = _unpacked(stored, header)
    if colours == "PALETTE COLOR":
        return _palette(stored, header, possible)
    if colours in GREY:
        shares = _shares(stored, header, possible)
        is_inverted = colours == "MONOCHROME1"
        return depth.in_strips(stored, lambda part: depth.to_bytes(1 - shares(part) if is_inverted else shares(part)))
    return depth.highest_bits(stored, depth.bits_in_use(stored, bits, int(header.BitsAllocated)))


def _unpacked(stored: NDArray[Any], header: "Dataset") -> tuple[NDArray[Any], Range]:
    """The values without foreign bits, and the range that they can have."""
    bits = int(header.BitsStored)
    unused = 8 * stored.itemsize - bits
    stored = stored << unused >> unused  # overlays of old files are there, which pydicom leaves in JPEG 2000
    possible = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if header.PixelRepresentation else (0.0, 2.0**bits - 1)
    return stored, possible


def _table(holder: "Dataset", prefix: str, possible: Range, header: "Dataset") -> Table:
    """The table `prefix` + `Descriptor` and `Data` of a data set, for inputs in the range `possible`."""
    if f"{prefix}Data" not in holder:
        raise Refusal("whose lookup table is missing or in segments; export it as PNG")
    is_little_endian = header.file_meta.TransferSyntaxUID.is_little_endian
    return Table.of(
        holder[f"{prefix}Descriptor"].value, holder[f"{prefix}Data"].value, possible, is_little_endian=is_little_endian
    )


def _palette(stored: NDArray[Any], header: "Dataset", possible: Range) -> depth.Shades:
    """Red, green and blue of stored values."""
    tables = [
        _table(header, f"{colour}PaletteColorLookupTable", possible, header) for colour in ("Red", "Green", "Blue")
    ]
    looked_up = np.stack([table.look_up(stored) for table in tables], axis=-1)
    return depth.highest_bits(looked_up, max(table.bits_in_use(depth.COLOUR_DEPTHS) for table in tables))


Shown = Callable[[NDArray[Any]], NDArray[np.float64]]
"""What some rows of values stand for."""


def _shares(stored: NDArray[Any], header: "Dataset", possible: Range) -> Shown:
    """How grey values of one frame go through modality LUT or rescale, then VOI LUT or window, to 0 … 1."""
    measured, possible = _measured(header, possible)
    shown = window_of(header, possible)
    if shown is not None:
        return lambda part: shown(measured(part))
    ends = _ends(stored, measured, header)
    return lambda part: depth.shares(measured(part), ends)


def window_of(header: "Dataset", possible: Range) -> Shown | None:
    """The VOI LUT or the first window of a header, from values to 0 … 1; None where it has neither."""
    if header.get("VOILUTSequence"):
        table = _table(header.VOILUTSequence[0], "LUT", possible, header)
        white = 2 ** table.bits_in_use(range(8, 17)) - 1  # writers declare what an entry takes
        return lambda values: table.look_up(values) / white
    centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    if centre is None and width is None:
        return None
    if centre is None or width is None:
        raise Refusal("with half a window (center and width belong together); mend its header or export it as PNG")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in FUNCTIONS:
        raise Refusal("with a window of an unknown function; mend its header or export it as PNG")
    if width <= 0:
        raise Refusal("with a window that is not wider than 0; mend its header or export it as PNG")
    return lambda values: window(values.astype(np.float64), centre, width, function)


def _ends(stored: NDArray[Any], measured: Shown, header: "Dataset") -> Range:
    """The smallest and largest value inside of the field of view; of all, where there is nothing but padding."""
    spans = [depth.span(measured(part), ~_padding(part, header)) for part in depth.strips(stored)]
    known = list(filter(None, spans)) or [depth.span(measured(part)) or (0.0, 0.0) for part in depth.strips(stored)]
    return min(low for low, _ in known), max(high for _, high in known)


def _measured(header: "Dataset", possible: Range) -> tuple[Shown, Range]:
    """What stored values stand for, and the range that these values can have."""
    if header.get("ModalityLUTSequence"):
        table = _table(header.ModalityLUTSequence[0], "LUT", possible, header)
        return lambda part: table.look_up(part).astype(np.float64), (0.0, 2.0**table.bits - 1)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if slope == 0:
        raise Refusal("with a rescale slope of 0, which makes all values one; mend its header or export it as PNG")
    if (slope is None) != (intercept is None) and (slope, intercept) not in ((1, None), (None, 0)):
        raise Refusal("with half a rescale (slope and intercept belong together); mend its header")
    slope, intercept = 1 if slope is None else slope, intercept or 0
    low, high = sorted(end * slope + intercept for end in possible)
    if not math.isfinite(high - low):
        raise Refusal("with a rescale to values that are not finite; mend its header or export it as PNG")
    return lambda part: part.astype(np.float64) * slope + intercept, (low, high)


def window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values through a VOI window to 0 … 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    LINEAR is for whole numbers: narrower than 1, which fractional slopes make useful, it is read as LINEAR_EXACT.

    >>> window(np.array([-200.0, 40.0, 300.0]), centre=40, width=400, function="LINEAR_EXACT").tolist()
    [0.0, 0.5, 1.0]
    """
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT" or width < 1:
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _padding(stored: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Pixels outside the field of view: their value is no measurement."""
    value, limit = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, bool)
    bits, is_signed = int(header.BitsStored), bool(header.PixelRepresentation)
    ends = (signed_bits(end, bits, is_signed=is_signed) for end in (value, value if limit is None else limit))
    low, high = sorted(ends)
    return (stored >= low) & (stored <= high)
