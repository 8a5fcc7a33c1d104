"""Opening image files safely, as the 8-bit RGB that every engine sees.

PNG, JPEG, BMP, TIFF, GIF and WebP go by the rule of `medr1.data.raster`, DICOM by that of `medr1.data.dicom`; both
bring deeper values to 8 bits by `medr1.data.depth`. What is larger than `medr1.doors.Most` allows is refused, and so is
a stack of several frames (of a JPEG with previews behind it, the main picture is taken); the EXIF orientation is
applied, as `datasets.Image` does. Nothing else in this package decodes pictures.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from medr1.data.dicom import decode_dicom
from medr1.data.dicom_header import is_dicom
from medr1.data.raster import decode_raster
from medr1.doors import Most, read_file, resolve_inside
from medr1.errors import DataError
from medr1.records import short_hash
from medr1.types import ImageRef, Sample

MAX_ASPECT = 200
"""How many times longer than the other a side may be: the image processors of Qwen-VL raise an error beyond it."""


def open_image(ref: ImageRef) -> Image.Image:
    """Decode an image to 8-bit RGB by the rule of this module; `DataError` names the file that cannot be used."""
    data = _encoded_bytes(ref)
    if is_dicom(data):
        return decode_dicom(data, _name(ref), max_pixels=Most.PIXELS).image.convert("RGB")
    image, _ = decode_raster(data, _name(ref), max_pixels=Most.PIXELS)
    return image if image.mode == "RGB" else image.convert("RGB")


def unfit(size: tuple[int, int]) -> str | None:
    """Why every image processor of Qwen-VL refuses a picture of this width and height; None where it is taken.

    >>> unfit((2000, 10)), unfit((10, 2500))
    (None, '10 × 2500 pixels: one side is more than 200 times the other')
    """
    if max(size) <= MAX_ASPECT * min(size):
        return None
    return f"{size[0]} × {size[1]} pixels: one side is more than {MAX_ASPECT} times the other"


BURNED_IN = "burned_in_annotation"
"""Key of `Sample.extra` that warns of text in the pixels; scrubbing a header does not remove it."""
UNFIT = "unfit_for_qwen_vl"
"""Key of `Sample.extra` that names a picture that no image processor of Qwen-VL takes, and why (`unfit`)."""


def embed_images(
    sample: Sample, root: Path, *, allow_missing: bool = False, owners: dict[bytes, str] | None = None
) -> Sample:
    """The sample with the bytes of its images, read from `root` and checked by decoding them.

    File bytes are kept where Pillow decodes them to 8-bit grey or RGB as they are; other images (DICOM, 16-bit,
    palette, alpha, rotated by EXIF …) are stored as PNG of what `open_image` shows, so that every reader sees the
    same pixels. A missing file is a `DataError`, or stays a reference with `allow_missing`.

    A DICOM header that tells of burned-in text puts `BURNED_IN` into `extra`, a picture of a shape that Qwen-VL does
    not take puts `UNFIT` there. With `owners`, which the caller keeps
    through one conversion, samples that show one patient (or series) get the group of the first of them, unless the
    source named a group itself.
    """
    return with_pictures(sample, [embedded(ref, root, allow_missing) for ref in sample.images], owners)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture as it is stored, and what its file says beside."""

    ref: ImageRef
    size: tuple[int, int] | None = None
    """Width and height; None for a picture that is not there."""
    burned_in: bool = False
    owner: bytes | None = None


def with_pictures(
    sample: Sample, images: Sequence[Embedded], owners: dict[bytes, str] | None, own_group: str | None = None
) -> Sample:
    """The sample with these in place of its pictures; the rest of `embed_images`.

    `own_group` stands for the hash of the pictures' names where the source named no group.
    """
    group = sample.group
    shown_owners = [image.owner for image in images if image.owner is not None]
    if owners is not None and shown_owners and group == short_hash([ref.path for ref in sample.images]):
        group = min((owners[owner] for owner in shown_owners if owner in owners), default=own_group or group)
        owners.update(dict.fromkeys(shown_owners, group) | owners)
    warned = {BURNED_IN: "yes"} if any(image.burned_in for image in images) else {}
    for image in images:
        reason = unfit(image.size) if image.size is not None else None
        if reason is not None:
            warned.setdefault(UNFIT, f"{image.ref.path}: {reason}")
    refs = tuple(image.ref for image in images)
    return replace(sample, images=refs, group=group, extra={**sample.extra, **warned})


def embedded(ref: ImageRef, root: Path, allow_missing: bool) -> Embedded:
    """One picture; see `embed_images`."""
    if ref.data is None:
        assert ref.path is not None, "a reference has a path or data"
        path = resolve_inside(root, ref.path, "image path")
        if not path.exists():
            if allow_missing:
                return Embedded(ref)
            raise DataError(f"image {path} does not exist; check --image-root, or pass --allow-missing-images")
        ref = ImageRef(path=str(path))
    name = Path(_name(ref))
    data = _encoded_bytes(ref)
    if is_dicom(data):
        shown = decode_dicom(data, str(name), max_pixels=Most.PIXELS)
        png = _as_png(shown.image, name)
        return Embedded(png, size=shown.image.size, burned_in=shown.burned_in, owner=shown.owner)
    image, is_plain = decode_raster(data, str(name), max_pixels=Most.PIXELS)
    ref = ImageRef(path=name.name, data=data) if is_plain else _as_png(image, name)
    return Embedded(ref, size=image.size)


def picture_file(path: str | Path) -> ImageRef:
    """A picture file that a user names, read as it is: `embed_images` makes of it what may be kept and shown."""
    return ImageRef(path=str(path), data=_encoded_bytes(ImageRef(path=str(path))))


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
    return read_file(Path(ref.path), "image")
