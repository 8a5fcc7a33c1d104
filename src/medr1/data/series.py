"""A DICOM series, or a file of several frames, as a volume.

Slices are sorted by their position along the normal of ImageOrientationPatient. What is no volume is refused with its
reason: several series, orientations or sizes, no positions, two slices in one place. Several volumes in one series
(echoes, time points) are told apart by EchoTime and TemporalPositionIdentifier, and one of them has to be named.
Copies of a file are left out; gaps and slices of uneven distance are said.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medr1.data.depth import Range
from medr1.data.dicom import Grey, burned_in, grey_of, owner_of, read_frames, read_pixels, refusals, window_of
from medr1.data.dicom_header import is_dicom, number
from medr1.data.volume import Values, Volume
from medr1.doors import Most, read_file
from medr1.errors import DataError
from medr1.records import file_hash

if TYPE_CHECKING:
    from pydicom import Dataset

TURNED = 1e-3
"""Largest difference between the direction cosines of slices that are parallel."""
TOUCHING = 1e-2
"""Millimetres by which slices are apart that are in two places."""
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Slice:
    """A frame of a file, without its pixels."""

    file: Path
    index: int
    header: "Dataset"
    place_3: Vector
    right_3: Vector
    down_3: Vector
    moment: tuple[float, ...]
    """What tells the volumes of a series apart: echo time and time point."""

    @property
    def along(self) -> float:
        """Position along the normal."""
        return float(np.cross(self.right_3, self.down_3) @ self.place_3)


def series_of(files: Iterable[Path]) -> dict[str, list[Path]]:
    """DICOM files with pixels by the number of their series; other files are left out."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        data = read_file(file)
        if is_dicom(data) and "Rows" in (header := read_frames(data, file.name, max_pixels=Most.PIXELS)[0]):
            found[str(header.get("SeriesInstanceUID") or "")].append(file)
    return dict(found)


def read_series(files: Sequence[Path], name: str, volume: int | None) -> Volume:
    """The volume of a series' files.

    Args:
        files: those of one series, in any order.
        name: for errors.
        volume: which of several volumes, from 1; None where there is one.

    Raises:
        DataError: they are no volume, or several.
    """
    by_hash = {file_hash(file): file for file in files}
    slices = [one for file in by_hash.values() for one in _slices(file, read_file(file), name)]
    slices = _one_volume(slices, volume, name)
    slices.sort(key=lambda one: one.along)
    first, middle = slices[0], slices[len(slices) // 2]
    _check(slices, name)
    rows, columns = int(first.header.Rows), int(first.header.Columns)
    if rows * columns * len(slices) > Most.VOXELS:
        raise DataError(f"{name} has more than {Most.VOXELS // 10**6} million voxels; resample it first")
    down, right = _spacing(first.header, name)
    copies = len(files) - len(by_hash)
    pixels = lru_cache(maxsize=1)(lambda file: read_pixels(read_file(file), name, max_pixels=Most.PIXELS))
    with refusals(name):
        shown = window_of(middle.header, _grey(middle, pixels, name).possible)
    return Volume(
        name=name,
        size=(rows, columns),
        origins_S3=np.stack([one.place_3 for one in slices]),
        down_3=first.down_3 * down,
        right_3=first.right_3 * right,
        read=lambda at: _measured(_grey(slices[at], pixels, name)),
        window=shown,
        is_inverted=str(first.header.PhotometricInterpretation) == "MONOCHROME1",
        is_ct=str(first.header.get("Modality") or "CT") == "CT",
        files=tuple(sorted(by_hash)),
        owner=owner_of(first.header),
        burned_in=any(burned_in(one.header) for one in slices),
        notes=(f"{copies} files are copies of others and left out",) if copies else (),
    )


def _slices(file: Path, data: bytes, name: str) -> list[_Slice]:
    frames = read_frames(data, file.name, max_pixels=Most.PIXELS)
    with refusals(name):
        return [_slice(file, index, header, name) for index, header in enumerate(frames)]


def _slice(file: Path, index: int, header: "Dataset", name: str) -> _Slice:
    place, turned = (_numbers(header, key) for key in ("ImagePositionPatient", "ImageOrientationPatient"))
    if len(place) != 3 or len(turned) != 6 or not np.isfinite([*place, *turned]).all():
        raise DataError(f"{name} has a slice that does not say where it lies (position, orientation); leave it out")
    right, down = np.array(turned[:3]), np.array(turned[3:])
    lengths = np.linalg.norm([right, down], axis=1)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(right @ down) > 1e-2:
        raise DataError(f"{name} has an orientation that is no right angle of two unit vectors; mend its header")
    echo = number(header, "EffectiveEchoTime") or number(header, "EchoTime") or 0.0
    moment = number(header, "TemporalPositionIdentifier") or number(header, "TemporalPositionIndex") or 0.0
    return _Slice(file, index, header, np.array(place), right / lengths[0], down / lengths[1], (echo, moment))


def _numbers(header: "Dataset", keyword: str) -> list[float]:
    value = header.get(keyword)
    return [float(part) for part in value] if value is not None and not isinstance(value, (str, bytes, float)) else []


def _one_volume(slices: Sequence[_Slice], volume: int | None, name: str) -> list[_Slice]:
    """The slices of the volume that is asked for."""
    by_moment: defaultdict[tuple[float, ...], list[_Slice]] = defaultdict(list)
    for one in slices:
        by_moment[one.moment].append(one)
    moments = sorted(by_moment)
    if volume is None and len(moments) > 1:
        what = "echo times" if len({echo for echo, _ in moments}) > 1 else "time points"
        raise DataError(f"{name} holds {len(moments)} volumes ({what}); choose one with --volume 1 … {len(moments)}")
    if volume is not None and volume > len(moments):
        raise DataError(f"{name} holds {len(moments)} volume{'s' * (len(moments) > 1)}, and --volume is {volume}")
    return by_moment[moments[(volume or 1) - 1]]


def _check(slices: Sequence[_Slice], name: str) -> None:
    """Refuse what is no volume."""
    first = slices[0]
    turned = Counter(
        bool(np.abs([one.right_3 - first.right_3, one.down_3 - first.down_3]).max() > TURNED) for one in slices
    )
    if turned[True]:
        raise DataError(
            f"{name} has slices of several orientations ({turned[False]} as the first, {turned[True]} others); give "
            "each a folder of its own"
        )
    for what, key in (
        ("sizes", lambda one: (int(one.header.Rows), int(one.header.Columns))),
        ("pixel spacings", lambda one: tuple(_numbers(one.header, "PixelSpacing"))),
        ("colour models", lambda one: str(one.header.PhotometricInterpretation)),
    ):
        if len(set(map(key, slices))) > 1:
            raise DataError(f"{name} has slices of several {what}; give each kind a folder of its own")
    along = np.array([one.along for one in slices])
    if (twice := int((np.diff(along) < TOUCHING).sum())) > 0:
        raise DataError(f"{name} has {twice} slices in the place of another one, with other contents; leave them out")


def _spacing(header: "Dataset", name: str) -> tuple[float, float]:
    """Of rows and of columns, in mm."""
    spacing = _numbers(header, "PixelSpacing")
    if len(spacing) != 2 or not all(0 < one < np.inf for one in spacing):
        raise DataError(f"{name} does not say how large its pixels are (PixelSpacing); mend its header")
    return spacing[0], spacing[1]


def _grey(one: _Slice, pixels: Callable[[Path], "Dataset"], name: str) -> Grey:
    return grey_of(pixels(one.file), one.index, one.header, name, max_pixels=Most.PIXELS)


def _measured(grey: Grey) -> tuple[Values, Range]:
    """Values, and the limits of those that are no padding."""
    known = grey.values if grey.is_padding.all() else grey.values[~grey.is_padding]
    return grey.values.astype(np.float32), (float(known.min()), float(known.max()))
