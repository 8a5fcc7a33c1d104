"""PNG, JPEG, BMP, TIFF, GIF and WebP as 8-bit RGB, in full depth where Pillow keeps the high byte alone.

Pillow unpacks the files; what it does not know of them is put right here, by what the file declares:

- colours of 16 bits are unpacked twice, for their high and for their low bytes, and scaled by `medr1.data.depth`;
- TIFF: unsigned 32-bit and signed 8-bit values are taken as such, min-is-white is inverted at every depth, compressed
  values of big-endian files are not swapped twice, colour maps of 8-bit values are not shifted away;
- transparent pictures are shown on white: alpha channels, palettes with opacity, and transparent colours, which are
  compared at the depth of the file. A picture that is transparent everywhere is refused, since nobody sees it;
- CMYK becomes RGB by Pillow's plain formula, Lab by its colour management; profiles in files are not heeded.

What cannot be read for certain is refused with its reason: several frames or pages, planes of 16 bits stored apart,
TIFF that does not say whether 0 is black, CMYK of 16 bits, CMYK JPEG without Adobe's marker.
"""

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImagePalette, TiffImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from medr1.data import depth
from medr1.doors import Most
from medr1.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
PLAIN_MODES = ("L", "RGB")
DEEP_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
ORIENTATION_TAG = 0x0112
UNSIGNED, SIGNED = 1, 2
"""SampleFormat of TIFF."""
NATIVE_ORDER = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""libtiff hands values over in the order of this machine; Pillow knows that of unsigned ones only."""
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Unpacking 16 bits in the other order of bytes gives the low ones."""
TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
LEAST_OPACITY = 0.1
DECODER_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on damaged files: most of it is its way to say so, the rest was met with random damage."""


def decode_raster(data: bytes, name: str, *, max_pixels: int) -> tuple[Image.Image, bool]:
    """The upright picture as 8-bit grey or RGB, and whether Pillow alone gets those pixels from `data` too.

    `DataError` names the file (`name`) and says what is the matter with it.
    """
    if not data:
        raise DataError(f"image {name} is empty; copy it again from its source")
    try:
        image = _opened(data)
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(too_large(name, max_pixels))
        if width * height > Most.COSTLY_PIXELS and _is_costly(image):
            raise DataError(
                f"image {name} has more than {Most.COSTLY_PIXELS // 10**6} million pixels that are deep colours, "
                "32-bit grey or transparent; resize it first"
            )
        reason = _refused(image)
        if reason:
            raise DataError(f"image {name} {reason}")
        return _shown(image, data, name)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(too_large(name, max_pixels)) from error
    except UnidentifiedImageError as error:
        raise DataError(f"image {name} {_unidentified(data)}") from error
    except DECODER_ERRORS as error:
        raise DataError(f"image {name} is damaged or cut off ({error}); copy it again from its source") from error


class _Tiff(TiffImageFile):
    """TIFF of which Pillow is told what it can unpack, where the bits are the same; what they mean is kept here."""

    is_negative = False
    """0 is white, and Pillow does not invert it: in deep and in signed values."""
    form = UNSIGNED
    """SampleFormat of the file."""

    def _setup(self) -> None:
        tags = self.tag_v2
        bits, self.form = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]
        is_deep = max(bits) > 8 or self.form == SIGNED
        if is_deep and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            self.is_negative = True
            tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1
        if bits == (32,) and self.form == UNSIGNED:
            tags[TiffImagePlugin.SAMPLEFORMAT] = SIGNED
        super()._setup()


def _opened(data: bytes) -> Image.Image:
    """The file with its header read; raises what Pillow does."""
    if data[:4] not in TiffImagePlugin.PREFIXES:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    try:
        return _Tiff(io.BytesIO(data))
    except SyntaxError as error:
        raise UnidentifiedImageError(str(error)) from error


def too_large(name: str, max_pixels: int) -> str:
    """What is said of a picture with more pixels than are decoded."""
    return f"image {name} has more than {max_pixels // 10**6} million pixels; resize it first"


def _unidentified(data: bytes) -> str:
    """What is said of a file that Pillow does not open: its own reason, where the signature is one that it knows."""
    Image.preinit()
    for kind in FORMATS:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            factory(io.BytesIO(data), "")
        except DECODER_ERRORS as error:
            return f"is {kind} that is damaged or of a kind that is not read here ({error}); save it as 8-bit PNG"
    return f"is none of {', '.join(FORMATS)}, DICOM; convert it to PNG"


def _refused(image: Image.Image) -> str | None:
    """Why a file is refused by what it declares; None where it can be read."""
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return "has several frames; save the one you mean as a PNG of its own"
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        return "is a CMYK JPEG that does not say whether its inks are inverted; save it as RGB"
    if image.mode == "CMYK" and _is_deep(image, _raw_mode(image)):
        return "is CMYK of 16 bits; save it as RGB"
    if isinstance(image, _Tiff):
        tags = image.tag_v2
        if TiffImagePlugin.PHOTOMETRIC_INTERPRETATION not in tags and image.info.get("compression") != "tiff_jpeg":
            return "is TIFF that does not say whether 0 is black or white (tag 262); save it as PNG"
        separate = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
        if separate and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8:
            return "is TIFF with planes of more than 8 bits stored apart; save it with its channels side by side"
    return None


def _raw_mode(image: Image.Image) -> str:
    """How Pillow is going to unpack a file that is open but not loaded (`RGB;16B`); empty where it does not say."""
    for *_, arguments in getattr(image, "tile", ()):
        raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return raw if isinstance(raw, str) else ""
    return ""


def _is_costly(image: Image.Image) -> bool:
    """Whether a picture takes several times the room of one of 8-bit colours while it is unpacked."""
    is_transparent = image.mode in TRANSPARENT_MODES or "transparency" in image.info
    return is_transparent or image.mode in ("I", "F") or _is_deep(image, _raw_mode(image))


def _is_deep(image: Image.Image, raw: str) -> bool:
    return ";16" in raw and image.mode in ("RGB", "RGBA", "CMYK")


def _shown(image: Image.Image, data: bytes, name: str) -> tuple[Image.Image, bool]:
    """Decoded and upright; see `decode_raster`."""
    raw = _raw_mode(image)
    is_deep = _is_deep(image, raw)
    _put_right(image, raw)
    image.load()
    grey = _deep_grey(image)
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    if is_deep:
        shown = _from_colours(data, raw, image.info.get("transparency"), name)
    elif grey is not None:
        shown = _from_grey(image, grey, name)
    elif image.mode in PLAIN_MODES and "transparency" not in image.info:
        ImageOps.exif_transpose(image, in_place=True)
        return image, orientation == 1
    else:
        shown = _from_modes(image, name)
    shown.getexif()[ORIENTATION_TAG] = orientation
    ImageOps.exif_transpose(shown, in_place=True)
    return shown, False


def _put_right(image: Image.Image, raw: str) -> None:
    """Correct what Pillow is about to unpack, before it does."""
    if isinstance(image, _Tiff):
        if raw in NATIVE_ORDER and image.tile[0][0] == "libtiff":
            _unpack_as(image, NATIVE_ORDER[raw])
        colours = image.tag_v2.get(TiffImagePlugin.COLORMAP)
        if image.mode in ("P", "PA") and colours and max(colours) < 256:
            image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    key = image.info.get("transparency")
    if image.format == "PNG" and raw in ("L;2", "L;4") and isinstance(key, int):
        highest = 2 ** int(raw[-1]) - 1  # the values are spread to 0 … 255 while they are unpacked, the key is not
        image.info["transparency"] = key * 255 // highest if key <= highest else key


def _deep_grey(image: Image.Image) -> NDArray[Any] | None:
    """Values of a grey picture of more than 8 bits, or of signed ones, high where it is bright; None for others."""
    form = image.form if isinstance(image, _Tiff) else None
    if image.mode == "L" and form == SIGNED:
        values = np.asarray(image).view(np.int8)
    elif image.mode in DEEP_GREY_MODES:
        values = np.asarray(image)
        if image.mode == "I" and form == UNSIGNED:
            values = values.view(np.uint32)
    else:
        return None
    if isinstance(image, _Tiff) and image.is_negative:
        values = values.astype(np.int32 if values.itemsize <= 2 else np.float64)
        np.negative(values, out=values)
    return values


def _from_grey(image: Image.Image, grey: NDArray[Any], name: str) -> Image.Image:
    if grey.dtype.kind == "f" and not np.isfinite(grey).all():
        raise DataError(f"image {name} has values that are not finite; save it as 16-bit grey")
    key = image.info.get("transparency")
    return _stretched(grey, None if key is None else (grey != key).astype(np.float64), name)


def _stretched(grey: NDArray[Any], opacity: NDArray[np.float64] | None, name: str) -> Image.Image:
    measured = None if opacity is None else _visible(opacity, name) > 0
    ends = depth.span(grey, measured)
    assert ends is not None, "something is visible"
    return _on_white(depth.in_strips(grey, lambda part: depth.to_bytes(depth.shares(part, ends))), opacity)


def _from_colours(data: bytes, raw: str, key: Any, name: str) -> Image.Image:
    """Colour, or grey and alpha, of 16 bits; `key` is the transparent colour, where there is one."""
    if raw.startswith("LA;16"):
        parts = _unpacked(data, "RGBA")
        grey, alpha = _joined(parts[..., 0], parts[..., 1]), _joined(parts[..., 2], parts[..., 3])
        return _stretched(grey, _opacity(alpha, grey), name)
    channels, order = raw.split(";16")
    swapped = OTHER_ORDER[order]
    unpack = "RGBA" if channels == "RGBa" else channels
    values = _joined(*(_unpacked(data, f"{unpack};16{way}") for way in (order, swapped)))
    colours, opacity = values[..., :3], None
    if values.shape[-1] == 4:
        opacity = _visible(_opacity(values[..., 3], colours), name)
        if channels == "RGBa":  # the file holds colours that are multiplied by their opacity
            colours = np.rint(np.minimum(colours / np.maximum(opacity, 1e-9)[..., None], 65535)).astype(np.uint16)
    elif key is not None:
        opacity = _visible((colours != np.asarray(key)).any(axis=-1).astype(np.float64), name)
    return _on_white(depth.highest_bits(colours, depth.bits_in_use(colours, declared=16, container=16)), opacity)


def _from_modes(image: Image.Image, name: str) -> Image.Image:
    """Palettes, bits, CMYK, and whatever of 8 bits is transparent."""
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        colours = np.asarray(image.convert("RGBA"))
        return _on_white(colours[..., :3], _visible(colours[..., 3] / 255, name))
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise DataError(f"image {name} has the colour mode {image.mode}, which has no RGB; save it as RGB") from error


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    values = high.astype(np.uint16)
    values *= np.uint16(256)
    values += low
    return values


def _unpacked(data: bytes, raw: str) -> NDArray[np.uint8]:
    """The pixels of a file, unpacked in another way than Pillow would."""
    image = _opened(data)
    _unpack_as(image, raw)
    return np.asarray(image)


def _unpack_as(image: Any, raw: str) -> None:
    """Have Pillow unpack an open file in another way."""
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
    ]


def _opacity(alpha: NDArray[np.uint16], colours: NDArray[np.uint16]) -> NDArray[np.float64]:
    bits = max(depth.bits_in_use(part, declared=16, container=16) for part in (alpha, colours))
    return alpha / (2**bits - 1)


def _visible(opacity: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The opacity itself; `DataError` where next to nothing could be seen."""
    if opacity.max() < LEAST_OPACITY:
        raise DataError(f"image {name} is transparent everywhere; save it without its alpha channel")
    return opacity


def _on_white(shades: depth.Shades, opacity: NDArray[np.float64] | None) -> Image.Image:
    return Image.fromarray(shades if opacity is None else depth.on_white(shades, opacity))
