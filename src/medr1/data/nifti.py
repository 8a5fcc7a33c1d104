"""A NIfTI file as a volume: values as they are scaled, in patient space by its affine."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medr1.data.depth import Range
from medr1.data.volume import Values, Volume
from medr1.doors import MIB, Most
from medr1.errors import DataError

SUFFIXES = (".nii", ".nii.gz")
MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
GZIP, NIFTI_2 = b"\x1f\x8b", (540).to_bytes(4, "little")
"""How compressed files and those of the second version begin; the latter in either order."""
DAMAGED = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError)
TINY = 1e-9
"""Volume of a voxel (mm³) that is none."""
FLIP = np.diag([-1.0, -1.0, 1.0])
"""From NIfTI's space (x to the right of the patient, y to the front) to DICOM's."""


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(data: bytes, name: str, volume: int | None) -> Volume:
    """The volume of a file.

    Args:
        data: the file, compressed or not.
        name: for errors.
        volume: which of several time points, from 1; None where there is one.

    Raises:
        DataError: it is damaged, says not how it lies in the patient, or holds no grey values.
    """
    raw = _unpacked(data, name)
    with _refusals(name):
        image = _image(raw)
        header, shape, affine = image.header, image.shape, np.asarray(image.affine, np.float64)[:3]
        unit = MILLIMETRES.get(header.get_xyzt_units()[0], 0.0)
        is_placed = bool(header["sform_code"] or header["qform_code"])
        kind = header.get_data_dtype().kind
    counts = [int(count) for count in shape] + [1] * (3 - len(shape))
    times = int(np.prod(counts[3:], dtype=np.int64))
    if kind not in "iuf":
        raise DataError(f"{name} holds colours or complex numbers, and a volume is of grey values; export it as such")
    if not is_placed or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:, :3])) < TINY or not unit:
        raise DataError(f"{name} does not say how it lies in the patient (no usable sform or qform); mend its header")
    if volume is None and times > 1:
        raise DataError(f"{name} holds {times} volumes (time points); choose one with --volume 1 … {times}")
    if volume is not None and volume > times:
        raise DataError(f"{name} holds {times} volume{'s' * (times > 1)}, and --volume is {volume}")
    columns, rows, slices = counts[:3]
    if not 0 < columns * rows * slices <= Most.VOXELS:
        raise DataError(f"{name} has no voxels, or more than {Most.VOXELS // 10**6} million; resample it first")
    steps = FLIP @ affine[:, :3] * unit
    origin = FLIP @ affine[:, 3] * unit
    at_time = np.unravel_index((volume or 1) - 1, counts[3:]) if counts[3:] else ()

    def read(at: int) -> tuple[Values, Range]:
        with _refusals(name):
            found = (slice(None), slice(None), at, *map(int, at_time))
            values = np.asarray(image.dataobj[found[: len(shape)]], np.float32).reshape(columns, rows).T
        if not np.isfinite(values).all():
            raise DataError(f"{name} has values that are no finite numbers; replace them")
        return values, (float(values.min()), float(values.max()))

    return Volume(
        name=name,
        size=(rows, columns),
        origins_S3=origin + np.outer(np.arange(slices), steps[:, 2]),
        down_3=steps[:, 1],
        right_3=steps[:, 0],
        read=read,
    )


def _image(raw: bytes) -> Any:
    import nibabel as nib

    size = {raw[:4], raw[:4][::-1]}
    return (nib.Nifti2Image if NIFTI_2 in size else nib.Nifti1Image).from_bytes(raw)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What goes wrong with a file becomes a `DataError` that names it."""
    try:
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError, ImageDataError
        from nibabel.wrapstruct import WrapStructError
    except ImportError as error:
        raise DataError(f"{name} is NIfTI, which needs nibabel; run `pip install 'medr1[volumes]'`") from error
    try:
        yield
    except (ImageFileError, HeaderDataError, ImageDataError, WrapStructError, *DAMAGED) as error:
        raise DataError(f"{name} is damaged NIfTI ({type(error).__name__}); export it again") from error


def _unpacked(data: bytes, name: str) -> bytes:
    """The file without its compression, no further than a volume may be large."""
    if data[:2] == GZIP:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(Most.FILE_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{name} is damaged (it cannot be unpacked); copy it again") from error
    if len(data) > Most.FILE_BYTES:
        raise DataError(f"{name} has more than {Most.FILE_BYTES // MIB} MiB; resample it first")
    return data
