"""What a DICOM header says of its picture, whatever it was written with: one frame's elements, numbers, tables.

Files of old archives lack the preamble, and writers put numbers as text into binary elements and the other way round,
signed 16-bit values as unsigned ones, entries of 8 bits in pairs or one a word. Each has one meaning that fits the
values beside it; where it has none, `Refusal` says what is wrong, without any value of the header.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medr1.data import depth
from medr1.data.depth import Range

if TYPE_CHECKING:
    from pydicom import Dataset

FRAME = (
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
"""Elements that the functional groups of a multi-frame file tell of a frame."""
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime", "EffectiveEchoTime",
         "TemporalPositionIdentifier", "TemporalPositionIndex")  # fmt: skip
"""Elements that tell where and when a slice was taken."""
SHARED_AND_OWN = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
GROUPS = (
    *("FrameVOILUTSequence", "PixelValueTransformationSequence"),
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("MREchoSequence", "FrameContentSequence"),
    *("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence"),
)
"""Functional groups that hold elements of `FRAME` and `PLACE`."""
MAGIC = b"DICM"
DEFLATED = b"1.2.840.10008.1.2.1.99"
BYTES_A_PIXEL = 8
"""Of a file once it is unpacked: colours of 16 bits take 6."""
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT IS LO LT OB OW PN SH SQ ST TM UI UL UN US UT".split())
"""What the first elements of a file without preamble may be written with."""


class Refusal(Exception):  # noqa: N818 - it is none of the reader's errors
    """Why a picture cannot be shown for certain, as what follows "image NAME is DICOM "."""


def is_dicom(data: bytes) -> bool:
    """Whether the data are DICOM: "DICM" behind 128 bytes or at the start, or at once an element of group 2 or 8.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\\x08\\x00\\x05\\x00CS\\x0a\\x00ISO_IR 100"), is_dicom(b"\\x89PNG")
    (True, True, False)
    """
    if data[128:132] == MAGIC or data[:4] == MAGIC:
        return True
    if data[:2] in (b"\2\0", b"\x08\0"):
        length = int.from_bytes(data[4:8], "little")
        return data[4:6] in SHORT_VRS or (data[3:4] == b"\0" and 0 < length <= 64 and length % 2 == 0)
    return data[:2] in (b"\0\2", b"\0\x08") and data[4:6] in SHORT_VRS


def read_header(data: bytes, keywords: Sequence[str], *, max_pixels: int) -> "Dataset":
    """The elements of a file with these keywords and its transfer syntax; of a single frame those of the frame."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _check_inflated(data, BYTES_A_PIXEL * max_pixels)
    has_preamble = data[128:132] == MAGIC
    stream = io.BytesIO(data if has_preamble else data.removeprefix(MAGIC))
    header = dcmread(stream, force=not has_preamble, specific_tags=[*keywords, *SHARED_AND_OWN])
    if "TransferSyntaxUID" not in header.file_meta:
        is_implicit, is_little = header.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    if num_frames(header) == 1:
        _take_up_functional_groups(header, 0)
    return header


def num_frames(header: "Dataset") -> int:
    """How many frames a file has."""
    return int(header.get("NumberOfFrames") or 1)


def of_frame(header: "Dataset", index: int) -> "Dataset":
    """What a header without pixels says of one of its frames."""
    from pydicom import Dataset

    frame = Dataset()
    frame.update(header)  # pyright: ignore[reportArgumentType] -- a data set is as good as a dictionary
    frame.file_meta = header.file_meta
    if num_frames(header) > 1:
        _take_up_functional_groups(frame, index)
    return frame


def _check_inflated(data: bytes, limit: int) -> None:
    """Refuse a deflated file that would unpack to more than `limit` bytes; pydicom unpacks it without asking."""
    start = data.find(MAGIC, 0, 132) + len(MAGIC)
    end = start + 12 + int.from_bytes(data[start + 8 : start + 12], "little")  # group 2 begins with its length
    if data.find(DEFLATED, start) < 0:  # anywhere: a false length of group 2 must not hide it
        return
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, room = data[end:], limit
    while rest and room > 0 and not unpacker.eof:
        room -= len(unpacker.decompress(rest, min(room, 2**24)))
        rest = unpacker.unconsumed_tail
    if not room:
        raise Refusal(f"that unpacks to more than {limit // 2**20} MiB; export it again with a smaller picture")


def codestream_size(pixels: bytes) -> tuple[int, int] | None:
    """Height and width that JPEG 2000 or JPEG-LS data claim; None for others. Decoders make room for them unasked."""
    at = pixels.find(b"\xff\x4f\xff\x51")
    if at >= 0 and len(pixels) >= at + 24:
        right, bottom, left, top = struct.unpack_from(">IIII", pixels, at + 8)
        return bottom - top, right - left
    at = pixels.find(b"\xff\xf7", pixels.find(b"\xff\xd8") + 2) if b"\xff\xd8" in pixels[:4096] else -1
    if at >= 0 and len(pixels) >= at + 9:
        height, width = struct.unpack_from(">HH", pixels, at + 5)
        return height, width
    return None


def _take_up_functional_groups(header: "Dataset", index: int) -> None:
    """Put what the functional groups say of a frame to the top: first the shared, then the frame's own."""
    for keyword, at in zip(SHARED_AND_OWN, (0, index), strict=True):
        for frame in list(header.get(keyword) or ())[at : at + 1]:
            for group in GROUPS:
                for item in list(frame.get(group) or ())[:1]:
                    for name in (*FRAME, *PLACE):
                        if name in item:
                            header[name] = item[name]


def number(header: "Dataset", keyword: str) -> float | None:
    """The first number of an element, as text or binary; None where it is empty or not there."""
    value = header.get(keyword)
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace").split("\\")[0]
    elif not isinstance(value, (str, int, float)) and hasattr(value, "__iter__"):
        value = next(iter(value), None)
    if value is None or str(value).strip(" \0") == "":
        return None
    try:
        found = float(str(value).strip(" \0"))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Refusal(f"whose {_spelled(keyword)} is no number; mend its header or export it as PNG")
    return found


def _spelled(keyword: str) -> str:
    """`RescaleSlope` as "rescale slope".

    >>> _spelled("RescaleSlope"), _spelled("WindowCenter")
    ('rescale slope', 'window center')
    """
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in keyword).strip()


def signed_bits(value: float, bits: int, *, is_signed: bool) -> int:
    """A whole number that was written in `bits` bits, with the sign that it should have been written with.

    >>> signed_bits(63536, 16, is_signed=True), signed_bits(-2000, 16, is_signed=False)
    (-2000, 63536)
    """
    unsigned = int(value) % 2**bits
    return unsigned - 2**bits if is_signed and unsigned >= 2 ** (bits - 1) else unsigned


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table: entry 0 for the value `first` and all below, the last entry for all above."""

    first: int
    entries: NDArray[np.uint16]
    bits: int
    """Declared depth of the entries."""
    container: int
    """8 or 16: bits that an entry takes in the file."""

    @classmethod
    def of(cls, descriptor: Any, data: Any, possible: Range, *, is_little_endian: bool) -> "Table":
        """The table of a descriptor (number of entries, first value, bits) for inputs in the range `possible`."""
        try:
            count, first, bits = (int(value) for value in descriptor)
        except (TypeError, ValueError):
            raise Refusal("whose lookup table has no usable descriptor; export it as PNG") from None
        count, bits = count % 2**16 or 2**16, bits % 2**16
        packed = data if isinstance(data, bytes) else np.atleast_1d(np.asarray(data, np.int64)).astype("<u2").tobytes()
        if isinstance(data, bytes) and not is_little_endian:
            packed = np.frombuffer(packed[: len(packed) // 2 * 2], ">u2").astype("<u2").tobytes()
        if len(packed) >= 2 * count:
            container, entries = 16, np.frombuffer(packed, "<u2")[:count]
        elif len(packed) >= count:
            container, entries = 8, np.frombuffer(packed, np.uint8)[:count].astype(np.uint16)
        else:
            raise Refusal("whose lookup table is shorter than it says; export it as PNG")
        if not 1 <= bits <= 16 or entries.max() >= 2**bits:
            raise Refusal("whose lookup table has values beyond the bits that it declares; export it as PNG")
        return cls(_fitting(first, possible), entries, bits, container)

    def look_up(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """The entries of the values, in their shape."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]

    def bits_in_use(self, depths: Sequence[int]) -> int:
        """Bits that white takes, by the rule of `medr1.data.depth`."""
        return depth.bits_in_use(self.entries, self.bits, self.container, depths)


def _fitting(first: int, possible: Range) -> int:
    """The first value of a table, signed as the standard has it for such inputs, unless only the other reading fits."""
    low, high = possible
    readings = [signed_bits(first, 16, is_signed=is_signed) for is_signed in (low < 0, low >= 0)]
    return next((reading for reading in readings if low <= reading <= high), readings[0])
