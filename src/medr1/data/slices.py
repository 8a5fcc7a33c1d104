"""Which slices of a study a question shows: plans by name, parsed from one text, and the window that they go through.

uniform/8        as many slices, each in the middle of an equal part of the volume
every/5-mm       one every so many millimetres, from the first on
around-mask/5    as many, spread over the slices that a mask touches
montage/9        as `uniform`, all in one picture, row by row
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import field_validator

from medr1.data.dicom import window
from medr1.data.settings import StudySettings
from medr1.data.volume import OBLIQUE, Shown, Volume
from medr1.errors import ConfigError, DataError
from medr1.settings import known

MOST = 64
"""Pictures of one study, and tiles of a montage."""
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft-tissue": (50, 400),
    "liver": (30, 150),
    "brain": (40, 80),
    "stroke": (40, 40),
    "bone": (400, 1800),
}
"""Centre and width in Hounsfield units."""

Choose = Callable[[np.ndarray, Sequence[int], float], list[int]]
"""Places of the slices in mm, those that a mask touches, the number of the plan → slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicing:
    """One way to choose slices."""

    choose: Choose
    in_mm: bool = False
    """Whether its number is a distance, not a count."""
    needs_mask: bool = False
    is_montage: bool = False


def spread(candidates: Sequence[int], count: int) -> list[int]:
    """As many of the candidates, each in the middle of an equal part; all where there are fewer.

    >>> spread(range(10), 2), spread(range(3), 8)
    ([2, 7], [0, 1, 2])
    """
    n = len(candidates)
    return list(candidates) if n <= count else [candidates[(2 * i + 1) * n // (2 * count)] for i in range(count)]


def _every(places: np.ndarray, inside: Sequence[int], distance: float) -> list[int]:
    marks = np.arange(0, places[-1] + distance * 1e-6, distance)
    return sorted({int(np.abs(places - mark).argmin()) for mark in marks})


def _uniform(places: np.ndarray, inside: Sequence[int], count: float) -> list[int]:
    return spread(range(len(places)), int(count))


SLICINGS: dict[str, Slicing] = {
    "uniform": Slicing(choose=_uniform),
    "every": Slicing(choose=_every, in_mm=True),
    "around-mask": Slicing(
        choose=lambda places, inside, count: spread(range(inside[0], inside[-1] + 1), int(count)), needs_mask=True
    ),
    "montage": Slicing(choose=_uniform, is_montage=True),
}


class SlicePlan(StudySettings):
    """How a study becomes pictures: the same study under the same plan gives the same pixels."""

    slices: str
    """uniform/8, every/5-mm, around-mask/5 or montage/9."""

    @field_validator("slices")
    @classmethod
    def _is_plan(cls, text: str) -> str:
        name, _, number = text.partition("/")
        slicing = SLICINGS[known("slice plan", name, SLICINGS)]
        try:
            size = float(number.removesuffix("-mm")) if slicing.in_mm else int(number)
        except ValueError:
            size = 0
        if not (0.1 <= size < math.inf if slicing.in_mm else 1 <= size <= MOST):
            wanted = "a distance from 0.1 mm on, as every/5-mm" if slicing.in_mm else f"1 to {MOST}, as {name}/8"
            raise ConfigError(f"the slice plan {text!r} needs a number behind the slash: {wanted}")
        return text

    @field_validator("window")
    @classmethod
    def _is_window(cls, text: str | None) -> str | None:
        if text is not None and text not in WINDOWS:
            _limits(text)
        return text

    @property
    def slicing(self) -> Slicing:
        """The way to choose."""
        return SLICINGS[self.slices.partition("/")[0]]

    @property
    def number(self) -> float:
        """Slices, or millimetres."""
        return float(self.slices.partition("/")[2].removesuffix("-mm"))

    def window_for(self, volume: Volume) -> Shown | None:
        """What is named, as a function; None where nothing is. Raises `DataError` for a preset on what is no CT."""
        if self.window is None:
            return None
        if self.window in WINDOWS and volume.is_ct is False:
            raise DataError(
                f"{volume.name} is no CT, and the window {self.window} is in Hounsfield units; give it as CENTRE,WIDTH"
            )
        centre, width = WINDOWS.get(self.window) or _limits(self.window)
        return lambda values: window(values.astype(np.float64), centre, width, "LINEAR")


def _limits(text: str) -> tuple[float, float]:
    """Centre and width."""
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        centre, width = 0, 0
    if not (math.isfinite(centre) and 0 < width < math.inf):
        raise ConfigError(f"there is no window {text!r}; choose one of {', '.join(WINDOWS)}, or CENTRE,WIDTH as 40,400")
    return centre, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliced:
    """The pictures of a study under a plan."""

    pictures: list[Image.Image]
    """8-bit grey."""
    names: list[str]
    """What tells the pictures of one study apart."""
    notes: tuple[str, ...]
    """What is odd about the study or its slices."""


def cut(volume: Volume, plan: SlicePlan, mask: Volume | None = None) -> Sliced:
    """The pictures of a volume. Raises `DataError` where the plan cannot be followed."""
    plane = plan.plane or volume.plane
    direction = volume.along(plane)
    inside: Sequence[int] = ()
    if plan.slicing.needs_mask:
        if mask is None:
            raise DataError(f"{volume.name} has no mask, which {plan.slices} needs; name one in a column `mask`")
        inside = direction.touched(_points(mask)).tolist()
        if not inside:
            raise DataError(f"the mask {mask.name} touches no slice of {volume.name}; name the one that belongs to it")
    chosen = plan.slicing.choose(direction.places, inside, plan.number)
    if len(chosen) > MOST:
        raise DataError(f"{plan.slices} makes {len(chosen)} pictures of {volume.name}; take at most {MOST}")

    notes = list(volume.notes)
    if volume.gaps:
        notes.append(f"{len(volume.gaps)} uneven steps between its slices, up to {max(volume.gaps):.1f} mm")
    if direction.degrees >= OBLIQUE:
        notes.append(f"its slices lie {direction.degrees:.0f}° from the {plane} plane")
    if not plan.slicing.in_mm and len(chosen) < plan.number:
        notes.append(f"{len(chosen)} slices, where {plan.number:.0f} are asked for")
    pictures = list(direction.pictures(chosen, plan.window_for(volume)))
    names = [f"{plane}-{at + 1:03d}" for at in chosen]
    if plan.slicing.is_montage:
        pictures, names = [_montage(pictures)], [f"{plane}-montage"]
    return Sliced(pictures=pictures, names=names, notes=tuple(notes))


def _points(mask: Volume) -> list[np.ndarray]:
    """Where a mask is not 0, in the patient, slice by slice."""
    found = []
    for at, origin in enumerate(mask.origins_S3):
        rows, columns = np.nonzero(mask.read(at)[0])
        found.append(origin + np.outer(rows, mask.down_3) + np.outer(columns, mask.right_3))
    return found


def _montage(pictures: Sequence[Image.Image]) -> Image.Image:
    """All in one, in as many columns as rows or one more, on black."""
    width, height = pictures[0].size
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("L", (columns * width, math.ceil(len(pictures) / columns) * height))
    for at, picture in enumerate(pictures):
        sheet.paste(picture, (at % columns * width, at // columns * height))
    return sheet
