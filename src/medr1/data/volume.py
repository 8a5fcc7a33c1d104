"""A volume in patient space, whatever files it is from, and the pictures of its planes.

Patient space is DICOM's: x towards the left of the patient, y to the back, z to the head, in millimetres. A plane is
shown as radiology does: the patient's left is on the right of axial and coronal pictures, the back on the right of
sagittal ones, the head on top. Slices are in order from right to left, front to back, feet to head. Pictures follow
the axes in which the volume is stored, each taken for the axis of the patient that lies nearest: nothing is turned.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.data import depth
from medr1.data.depth import Range
from medr1.data.settings import Plane
from medr1.doors import Most
from medr1.errors import DataError

PLANES: tuple[Plane, ...] = get_args(Plane)
"""By the axis of the patient that their slices follow: x, y, z."""
ACROSS: dict[Plane, tuple[int, int, int]] = {"sagittal": (1, 2, -1), "coronal": (0, 2, -1), "axial": (0, 1, 1)}
"""Axis of the patient that a picture of a plane has to the right, the one that it has downwards, and its sign."""

Values = NDArray[np.float32]
Shown = Callable[[Values], NDArray[np.float64]]
"""Values to 0 (black) … 1 (white)."""

OBLIQUE = 5.0
"""Degrees from an axis of the patient from which on a slice is said to be oblique."""
SQUARE = 1.0
"""Degrees by which the sides of a picture may miss a right angle."""
EVEN = 0.1
"""Share of the usual distance by which that between two slices may differ before it is a gap."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Slices of one size, parallel, in the order of their positions."""

    name: str
    """For errors."""
    size: tuple[int, int]
    """Rows and columns of a slice."""
    origins_S3: NDArray[np.float64]
    """Where the first voxel of each slice is."""
    down_3: NDArray[np.float64]
    """From one row to the next."""
    right_3: NDArray[np.float64]
    """From one column to the next."""
    read: Callable[[int], tuple[Values, Range]]
    """Values of a slice, and the smallest and largest of those that were measured."""
    window: Shown | None = None
    """What its files say how to show it; None where they say nothing."""
    is_inverted: bool = False
    """Whether large values are dark."""
    is_ct: bool | None = None
    """Whether its values are Hounsfield units; None where its files do not tell."""
    files: tuple[str, ...] = ()
    """SHA-256 of what it was read from."""
    owner: bytes | None = None
    """As of `medr1.data.dicom.DicomImage`."""
    burned_in: bool = False
    notes: tuple[str, ...] = ()
    """What is odd about it."""

    @cached_property
    def steps_33(self) -> NDArray[np.float64]:
        """From one voxel to the next: along slices, rows, columns."""
        count = len(self.origins_S3)
        normal = np.cross(self.right_3, self.down_3)
        mean = (
            (self.origins_S3[-1] - self.origins_S3[0]) / (count - 1) if count > 1 else normal / np.linalg.norm(normal)
        )
        return np.stack([mean, self.down_3, self.right_3])

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """Nearest axis of the patient of slices, rows and columns."""
        cosines = np.abs(self.steps_33 / np.linalg.norm(self.steps_33, axis=1, keepdims=True))
        return max(itertools.permutations(range(3)), key=lambda axes: sum(cosines[range(3), axes]))

    @property
    def plane(self) -> Plane:
        """That of the stored slices."""
        return PLANES[self.axes[0]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.origins_S3), *self.size

    @cached_property
    def gaps(self) -> list[float]:
        """Distances between neighbouring slices that are wider or narrower than usual, in mm."""
        between = np.diff(self.origins_S3 @ self._normal_3)
        usual = np.median(between) if len(between) else 0.0
        return [float(one) for one in between if abs(one - usual) > EVEN * usual]

    @property
    def _normal_3(self) -> NDArray[np.float64]:
        normal = np.cross(self.right_3, self.down_3)
        normal = normal / np.linalg.norm(normal)
        return normal if normal @ self.steps_33[0] > 0 else -normal

    def slice_at(self, points_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stored slice of each point, with fractions, however far apart slices are; -1 for what lies outside."""
        along, half = self.origins_S3 @ self._normal_3, abs(self.steps_33[0] @ self._normal_3) / 2
        places = np.array([along[0] - half, *along, along[-1] + half])
        slices = np.array([-0.5, *range(len(along)), len(along) - 0.5])
        return np.interp(points_N3 @ self._normal_3, places, slices, left=-1, right=-1)

    def along(self, plane: Plane) -> "Direction":
        """How the slices of a plane lie. Raises `DataError` where that plane cannot be shown without inventing."""
        axis = self.axes.index(PLANES.index(plane))
        right, down, sign = ACROSS[plane]
        rows, columns = self.axes.index(down), self.axes.index(right)
        if axis and len(self.origins_S3) < 2:
            raise DataError(f"{self.name} has one slice; only the plane {self.plane}, in which it is stored, shows it")
        if axis and self.gaps:
            raise DataError(
                f"{self.name} has {len(self.gaps)} uneven steps between its slices (up to {max(self.gaps):.1f} mm); "
                f"what lies between is not known, so show the plane in which it is stored, {self.plane}"
            )
        unit = self.steps_33 / np.linalg.norm(self.steps_33, axis=1, keepdims=True)
        if (off := abs(90 - np.degrees(np.arccos(np.clip(unit[rows] @ unit[columns], -1, 1))))) > SQUARE:
            raise DataError(
                f"{self.name} is sheared by {off:.0f}° in the plane {plane} (a tilted gantry); show the plane in which "
                f"it is stored, {self.plane}"
            )
        return Direction(self, axis, (rows, columns), sign)


@dataclass(frozen=True)
class Direction:
    """The slices of a volume in one plane, in the order of the patient's axis."""

    volume: Volume
    axis: int
    """Of the stored array, that the slices follow."""
    sides: tuple[int, int]
    """Axes of the stored array that run down and to the right of a picture."""
    sign: int
    """Of the patient's axis that runs down."""

    def __len__(self) -> int:
        return self.volume.shape[self.axis]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Stored slices in the order of the patient's axis."""
        stored = np.arange(len(self))
        return stored if self._towards(self.axis) > 0 else stored[::-1]

    def _towards(self, axis: int) -> float:
        """Step of a stored axis along the patient's axis that it is taken for."""
        return float(self.volume.steps_33[axis][self.volume.axes[axis]])

    @cached_property
    def _across_3(self) -> NDArray[np.float64]:
        across = np.cross(*self.volume.steps_33[list(self.sides)])
        return across / np.linalg.norm(across)

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Where the slices are, in mm from the first one, at right angles to them."""
        stored = self.volume.origins_S3 if self.axis == 0 else np.outer(np.arange(len(self)), self._steps_3)
        along = (stored @ self._across_3)[self.order]
        return np.abs(along - along[0])

    @property
    def _steps_3(self) -> NDArray[np.float64]:
        return self.volume.steps_33[self.axis]

    @property
    def degrees(self) -> float:
        """Between the slices and the plane that they are taken for."""
        cosine = abs(self._across_3[self.volume.axes[self.axis]])
        return float(np.degrees(np.arccos(np.clip(cosine, 0, 1))))

    def touched(self, groups: Iterable[NDArray[np.float64]]) -> NDArray[np.int64]:
        """Slices that points of the patient `[n, 3]` lie in, each once, in order; points outside lie in none."""
        volume, touched = self.volume, set[int]()
        inverse, shape = np.linalg.inv(volume.steps_33), np.array(volume.shape)
        for points in groups:
            found = (points - volume.origins_S3[0]) @ inverse
            if self.axis == 0:
                found[:, 0] = volume.slice_at(points)
            found = np.rint(found)
            touched.update(found[((found >= 0) & (found < shape)).all(axis=1), self.axis].astype(int).tolist())
        return np.flatnonzero(np.isin(self.order, list(touched)))

    def pictures(self, chosen: Sequence[int], window: Shown | None) -> Iterator[Image.Image]:
        """8-bit grey pictures of slices, with square pixels.

        `window` goes before that of the files; without either, values are stretched from the smallest to the largest
        of the stored slices that are read, alike in all pictures.
        """
        stored = self.order[list(chosen)].tolist()
        needed = stored if self.axis == 0 else range(len(self.volume.origins_S3))
        read = np.empty((len(needed), *self.volume.size), np.float32)
        limits: list[Range] = []
        for row, at in enumerate(needed):
            read[row], limit = self.volume.read(at)
            limits.append(limit)
        window = window or self.volume.window or stretched(limits)
        for at in range(len(stored)) if self.axis == 0 else stored:
            shares = window(self._square(self._upright(np.take(read, at, axis=self.axis))))
            yield Image.fromarray(depth.to_bytes(1 - shares if self.volume.is_inverted else shares))

    def _upright(self, values: Values) -> Values:
        """A stored slice as it is looked at."""
        if self.sides[0] > self.sides[1]:
            values = values.T
        if self._towards(self.sides[0]) * self.sign < 0:
            values = values[::-1]
        return values if self._towards(self.sides[1]) > 0 else values[:, ::-1]

    def _square(self, values: Values) -> Values:
        """With pixels as small as the finer side, values between them by linear interpolation."""
        spacing = np.linalg.norm(self.volume.steps_33[list(self.sides)], axis=1)
        height, width = (max(1, round(n * mm / min(spacing))) for n, mm in zip(values.shape, spacing, strict=True))
        if (height, width) == values.shape:
            return values
        if height * width > Most.PIXELS:
            raise DataError(f"{self.volume.name} has pixels of {spacing[0]:g} × {spacing[1]:g} mm; resample it first")
        picture = Image.fromarray(np.ascontiguousarray(values))
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def stretched(limits: Sequence[Range]) -> Shown:
    """From the smallest to the largest of these values."""
    ends = min(low for low, _ in limits), max(high for _, high in limits)
    return lambda values: depth.shares(values, ends)
