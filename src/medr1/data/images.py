"""Opening image files safely, as the 8-bit RGB that every engine sees.

The rule, whatever the file:

- formats: PNG, JPEG, BMP, TIFF, and DICOM by the rule of `medr1.data.dicom`; at most `MAX_PIXELS` pixels; a stack of
  several frames is refused (of a JPEG with previews behind it, the main picture is taken);
- the EXIF orientation is applied, as `datasets.Image` does;
- 16-bit, 32-bit and floating-point grey is stretched linearly from its own minimum and maximum to 0 … 255 (a constant
  image becomes black): scanners store 12 bits in 16, so the range of the stored type would come out near black;
- palette, grey, CMYK and alpha go through Pillow's `convert("RGB")`: palettes are looked up, grey is repeated, an alpha
  channel is dropped without blending, as both published systems do.
"""

import io
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medr1.data.dicom import decode_dicom, is_dicom
from medr1.errors import DataError
from medr1.records import short_hash
from medr1.types import ImageRef, Sample

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unpack to gigabytes."""

DEEP_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
PLAIN_MODES = ("L", "RGB")
ORIENTATION_TAG = 0x0112
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


def open_image(ref: ImageRef) -> Image.Image:
    """Decode an image to 8-bit RGB by the rule of this module; `DataError` names the file that cannot be used."""
    data = _encoded_bytes(ref)
    if is_dicom(data):
        return decode_dicom(data, _name(ref), max_pixels=MAX_PIXELS).image.convert("RGB")
    image, _ = _decode(data, _name(ref))
    return _to_rgb(image, _name(ref))


def resolve_inside(root: Path, relative: str) -> Path:
    """`root / relative` for a name taken from a data file; `DataError` if it could lead out of `root`.

    Names are used as they are: `%`, `#`, `&`, spaces and brackets mean themselves, nothing is decoded or expanded.
    """
    name = PurePosixPath(relative)
    if not relative or "\0" in relative or name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"image path {relative!r} is empty, absolute or has '..'; write it relative to the image folder"
        )
    path = root / relative
    inside = os.path.realpath(root)
    if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
        raise DataError(f"image path {relative!r} leaves {root} through a link; copy the file into the folder")
    return path


BURNED_IN = "burned_in_annotation"
"""Key of `Sample.extra` that warns of text in the pixels; scrubbing a header does not remove it."""


def embed_images(
    sample: Sample, root: Path, *, allow_missing: bool = False, owners: dict[bytes, str] | None = None
) -> Sample:
    """The sample with the bytes of its images, read from `root` and checked by decoding them.

    File bytes are kept where Pillow decodes them to 8-bit grey or RGB as they are; other images (DICOM, 16-bit,
    palette, alpha, rotated by EXIF …) are stored as PNG of what `open_image` returns, so that every reader sees the
    same pixels. A missing file is a `DataError`, or stays a reference with `allow_missing`.

    A DICOM header that tells of burned-in text puts `BURNED_IN` into `extra`. With `owners`, which the caller keeps
    through one conversion, samples that show one patient (or series) get the group of the first of them, unless the
    source named a group itself.
    """
    images = [_embedded(ref, root, allow_missing) for ref in sample.images]
    group = sample.group
    own_group = group == short_hash([ref.path for ref in sample.images])
    if owners is not None and own_group:
        known = [owners[image.owner] for image in images if image.owner in owners]
        group = min(known, default=group)
        owners.update({image.owner: group for image in images if image.owner is not None})
    warned = {BURNED_IN: "yes"} if any(image.burned_in for image in images) else {}
    refs = tuple(image.ref for image in images)
    return replace(sample, images=refs, group=group, extra={**sample.extra, **warned})


@dataclass(frozen=True, slots=True)
class _Embedded:
    ref: ImageRef
    burned_in: bool = False
    owner: bytes | None = None


def _embedded(ref: ImageRef, root: Path, allow_missing: bool) -> _Embedded:
    if ref.data is None:
        assert ref.path is not None, "a reference has a path or data"
        path = resolve_inside(root, ref.path)
        if not path.exists():
            if allow_missing:
                return _Embedded(ref)
            raise DataError(f"image {path} does not exist; check --image-root, or pass --allow-missing-images")
        ref = ImageRef(path=str(path))
    name = Path(_name(ref))
    data = _encoded_bytes(ref)
    if is_dicom(data):
        shown = decode_dicom(data, str(name), max_pixels=MAX_PIXELS)
        return _Embedded(_as_png(shown.image, name), burned_in=shown.burned_in, owner=shown.owner)
    image, is_plain = _decode(data, str(name))
    if is_plain:
        return _Embedded(ImageRef(path=name.name, data=data))
    return _Embedded(_as_png(_to_rgb(image, str(name)), name))


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _as_png(image: Image.Image, name: Path) -> ImageRef:
    return ImageRef(path=name.with_suffix(".png").name, data=png_bytes(image))


def _name(ref: ImageRef) -> str:
    return ref.path or "embedded image"


def _encoded_bytes(ref: ImageRef) -> bytes:
    if ref.data is not None:
        return ref.data
    assert ref.path is not None, "a reference has a path or data"
    try:
        return Path(ref.path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"image {ref.path} does not exist; check the image folder") from error
    except (OSError, ValueError) as error:
        raise DataError(f"image {ref.path} cannot be read ({error}); check the path and its permissions") from error


def _decode(data: bytes, name: str) -> tuple[Image.Image, bool]:
    """The upright picture in its own mode, and whether any reader of `data` gets those pixels as 8-bit grey or RGB."""
    if not data:
        raise DataError(f"image {name} is empty; copy it again from its source")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image, name)
        image.load()
        is_plain = image.mode in PLAIN_MODES and "transparency" not in image.info
        is_upright = image.getexif().get(ORIENTATION_TAG, 1) == 1
        ImageOps.exif_transpose(image, in_place=True)
        return image, is_plain and is_upright
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(name)) from error
    except UnidentifiedImageError as error:
        raise DataError(f"image {name} is none of {', '.join(FORMATS)}, DICOM; convert it to PNG") from error
    except DECODER_ERRORS as error:
        raise DataError(f"image {name} is damaged or cut off ({error}); copy it again from its source") from error


def _check_header(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(_too_large(name))
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"image {name} has several frames; save the one you mean as a PNG of its own")


def _too_large(name: str) -> str:
    return f"image {name} has more than {MAX_PIXELS // 10**6} million pixels; resize it first"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in DEEP_GREY_MODES:
        image = _stretched(image, name)
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise DataError(f"image {name} has the colour mode {image.mode}, which has no RGB; save it as RGB") from error


def _stretched(image: Image.Image, name: str) -> Image.Image:
    """Grey of any depth, stretched linearly from its minimum and maximum to 8 bits."""
    grey = np.asarray(image).astype(np.float64)
    if not np.isfinite(grey).all():
        raise DataError(f"image {name} has values that are not finite; save it as 16-bit grey")
    low, high = grey.min(), grey.max()
    scaled = (grey - low) * (255.0 / (high - low)) if high > low else np.zeros_like(grey)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
