"""Four kinds of lesions in three sizes, drawn over any anatomy, and the mask of where they are.

Every kind has both a bright and a dark part side by side, so that it shows on bright tissue as well as on dark ground.
Lesions are placed in the frame of the picture, not of the anatomy: no crop cuts them off, and "top" stays top.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medr1.data.phantom.canvas import Canvas, Picture, canvas, inside, nearest

RADII = {"small": 0.10, "medium": 0.18, "large": 0.29}
"""Radius by size, in units of the half width of the picture; the lesion drawn varies by `RADIUS_JITTER`."""
RADIUS_JITTER = 0.07
ELONGATION = 0.08
BRIGHT, DIM, DARK = 0.97, 0.1, 0.0
"""Luminances: above all healthy tissue, and below nearly all."""
HALO = 0.045
"""Width of the dark seam around bright lesions, of the bright rim around dark ones."""
OPACITY = (0.85, 0.97)
LESION_EDGE = 0.035
ABSCESS_CORE = 0.45
"""Radius of the dark core as a share of the whole: far less than that of a cyst, which is dark all over."""
SPECK_RADIUS = 0.033
SPECKS_PER_AREA, FEWEST_SPECKS = 120, 4
GOLDEN_ANGLE = 2.39996
"""Spreads the specks of a cluster evenly (radians)."""
LOBING = {"nodule": 0.03, "cyst": 0.03, "abscess": 0.06, "calcification": 0.03}
"""How uneven the outline is, as a share of the radius; abscesses are lobed."""
LOBES = (3, 5)


@dataclass(frozen=True, slots=True)
class _Lesion:
    """One lesion within its window of the picture."""

    canvas: Canvas
    """Coordinates of the window, relative to the centre of the lesion."""
    outside: Picture
    """Signed distance to the outline, negative within."""
    radius: float
    opacity: float

    def cover(self, picture: Picture, distance: Picture, value: float, opacity: float = 1.0) -> Picture:
        """Paint everything at a negative distance with one luminance."""
        return picture + inside(distance, LESION_EDGE) * np.float32(opacity * self.opacity) * (value - picture)


def _nodule(picture: Picture, lesion: _Lesion) -> Picture:
    """A bright disc in a dark seam."""
    picture = lesion.cover(picture, lesion.outside - HALO, DARK)
    return lesion.cover(picture, lesion.outside, BRIGHT)


def _cyst(picture: Picture, lesion: _Lesion) -> Picture:
    """A dark disc in a thin bright rim."""
    picture = lesion.cover(picture, lesion.outside - HALO, BRIGHT)
    return lesion.cover(picture, lesion.outside, DARK)


def _abscess(picture: Picture, lesion: _Lesion) -> Picture:
    """A thick bright ring with a lobed outline around a small dark core, in a dark seam."""
    picture = _nodule(picture, lesion)
    return lesion.cover(picture, lesion.outside + (1 - ABSCESS_CORE) * lesion.radius, DARK)


def _calcification(picture: Picture, lesion: _Lesion) -> Picture:
    """A cluster of bright specks on a dimmed ground."""
    picture = lesion.cover(picture, lesion.outside, DIM, opacity=0.85)
    order = np.arange(max(FEWEST_SPECKS, round(SPECKS_PER_AREA * lesion.radius**2)))
    angle = order * GOLDEN_ANGLE + lesion.canvas.between(0, 2 * np.pi)
    spread = (lesion.radius - SPECK_RADIUS) * np.sqrt((order + 0.6) / len(order))
    specks = np.stack([spread * np.cos(angle), spread * np.sin(angle)], axis=1)
    return lesion.cover(picture, nearest(lesion.canvas, specks) - SPECK_RADIUS, BRIGHT)


_PAINTERS: dict[str, Callable[[Picture, _Lesion], Picture]] = {
    "nodule": _nodule,
    "cyst": _cyst,
    "abscess": _abscess,
    "calcification": _calcification,
}
LESIONS: tuple[str, ...] = tuple(_PAINTERS)


def paint_lesions(
    picture: Picture,
    finding: str,
    size: str,
    centres: Sequence[tuple[float, float]],
    rng: np.random.Generator,
    *,
    with_mask: bool = False,
) -> tuple[Picture, np.ndarray | None]:
    """The picture `[side, side]` with a lesion at each centre (x, y in -1..1), and the mask of all (uint8, 0/1).

    Only a window around each lesion is touched.
    """
    side = picture.shape[0]
    whole = canvas(side, rng)
    mask = np.zeros((side, side), np.uint8) if with_mask else None
    if centres:
        picture = picture.copy()
    for x, y in centres:
        radius = RADII[size] * float(rng.uniform(1 - RADIUS_JITTER, 1 + RADIUS_JITTER))
        columns, rows = _window(side, x, radius), _window(side, y, radius)
        local = Canvas(x=whole.x[:, columns] - np.float32(x), y=whole.y[rows] - np.float32(y), rng=rng)
        outside = _outside(local, radius, LOBING[finding])
        lesion = _Lesion(local, outside, radius, opacity=float(rng.uniform(*OPACITY)))
        picture[rows, columns] = _PAINTERS[finding](picture[rows, columns], lesion)
        if mask is not None:
            mask[rows, columns] |= outside < 0
    return picture, mask


def _outside(local: Canvas, radius: float, lobing: float) -> Picture:
    """Signed distance to a slightly elongated and lobed outline around the origin."""
    rng = local.rng
    stretch, turn = 1 + local.jitter(ELONGATION), local.between(0, np.pi)
    u = (local.x * np.cos(turn) + local.y * np.sin(turn)) * stretch
    v = (local.y * np.cos(turn) - local.x * np.sin(turn)) / stretch
    direction = np.arctan2(v, u)
    lobes = [np.sin(number * direction + phase) for number, phase in zip(LOBES, rng.uniform(0, 6.3, 2), strict=True)]
    return (np.sqrt(u * u + v * v) - radius * (1 + lobing * (lobes[0] + lobes[1]))).astype(np.float32)


def _window(side: int, centre: float, radius: float) -> slice:
    """The pixels along one axis that a lesion and its seam may touch."""
    reach = 1.25 * radius + 2 * HALO
    first, last = (centre - reach + 1) * side / 2, (centre + reach + 1) * side / 2
    return slice(max(0, int(first)), min(side, int(np.ceil(last))))
