"""Drawing primitives: soft shapes and smooth noise on a square of luminance.

Coordinates run from -1 to 1, x to the right and y down. A picture is float32 `[side, side]`; a shape is a picture that
is 1 inside, 0 outside and slopes at the edge. `x` is a row and `y` a column, so that much of the arithmetic is on
vectors and only the sum is on the square.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating]
"""Luminance `[side, side]`, float32."""

EDGE = 0.06
"""Width of the slope at the edge of a shape, in units of the half width (2.5 pixels at 84)."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The coordinates to draw in and the randomness to draw with."""

    x: Picture
    """`[1, side]`"""
    y: Picture
    """`[side, 1]`"""
    rng: np.random.Generator

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return self.y.shape[0]

    def jitter(self, amount: float = 0.05) -> float:
        """A number between -amount and amount."""
        return float(self.rng.uniform(-amount, amount))

    def between(self, low: float, high: float) -> float:
        """A number between the two bounds."""
        return float(self.rng.uniform(low, high))


@lru_cache
def axis(side: int) -> Picture:
    """Coordinates of the pixel centres along one side."""
    return ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)


def canvas(
    side: int, rng: np.random.Generator, *, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0
) -> Canvas:
    """A canvas whose origin is moved by `shift` and on which everything is drawn `zoom` times as large."""
    centre = axis(side)
    return Canvas(
        x=((centre - np.float32(shift[0])) / np.float32(zoom))[None, :],
        y=((centre - np.float32(shift[1])) / np.float32(zoom))[:, None],
        rng=rng,
    )


def inside(distance: Picture, edge: float = EDGE) -> Picture:
    """1 where the signed distance is below 0, with a linear slope of width `edge` around it."""
    return np.clip(0.5 - distance / np.float32(edge), 0, 1)


def ellipse(c: Canvas, cx: float, cy: float, a: float, b: float, *, edge: float = EDGE, angle: float = 0.0) -> Picture:
    """An ellipse with the half axes `a` and `b`, turned by `angle` (radians)."""
    dx, dy = c.x - np.float32(cx), c.y - np.float32(cy)
    if angle:
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
    else:
        u, v = dx, dy
    radius = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2)
    return inside((radius - 1) * np.float32(min(a, b)), edge)


def capsule(
    c: Canvas, start: tuple[float, float], end: tuple[float, float], radius: float, *, edge: float = EDGE
) -> Picture:
    """A stroke with round ends."""
    (x0, y0), (x1, y1) = start, end
    along_x, along_y = np.float32(x1 - x0), np.float32(y1 - y0)
    dx, dy = c.x - np.float32(x0), c.y - np.float32(y0)
    t = np.clip((dx * along_x + dy * along_y) / (along_x**2 + along_y**2), 0, 1)
    return inside(np.sqrt((dx - t * along_x) ** 2 + (dy - t * along_y) ** 2) - np.float32(radius), edge)


def band(distance: Picture, width: float) -> Picture:
    """A bell-shaped line along the zero of `distance`."""
    return np.exp(-((distance / np.float32(width)) ** 2))


def vessel(c: Canvas, start: tuple[float, float], angle: float, bend: float, width: float) -> Picture:
    """A bent line from `start` outwards, thinning on its way."""
    dx, dy = c.x - np.float32(start[0]), c.y - np.float32(start[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    across = across - np.float32(bend) * along * along
    return band(across, width) * np.clip(along / np.float32(0.08), 0, 1) * np.clip(1.15 - 0.35 * along, 0, 1)


def nearest(c: Canvas, centres: NDArray[np.floating]) -> Picture:
    """Distance to the nearest of the centres `[n, 2]` (x, y)."""
    squared_x = (c.x[0] - centres[:, :1].astype(np.float32)) ** 2
    squared_y = (c.y[:, 0] - centres[:, 1:].astype(np.float32)) ** 2
    squared = squared_y[0][:, None] + squared_x[0][None, :]
    for row_x, row_y in zip(squared_x[1:], squared_y[1:], strict=True):
        np.minimum(squared, row_y[:, None] + row_x[None, :], out=squared)
    return np.sqrt(squared)


@lru_cache
def _interpolation(side: int, knots: int) -> Picture:
    """Matrix `[side, knots]` that resamples a row of knots linearly."""
    position = np.linspace(0, knots - 1, side)
    left = np.minimum(position.astype(int), knots - 2)
    weights = np.zeros((side, knots), np.float32)
    weights[np.arange(side), left] = 1 - (position - left)
    weights[np.arange(side), left + 1] = position - left
    return weights


def smooth_noise(c: Canvas, rows: int, columns: int | None = None) -> Picture:
    """Standard normal noise on a coarse lattice of `rows` × `columns` knots, interpolated bilinearly."""
    columns = columns or rows
    knots = c.rng.standard_normal((rows, columns), dtype=np.float32)
    return _interpolation(c.side, rows) @ knots @ _interpolation(c.side, columns).T


def grain(c: Canvas) -> Picture:
    """Independent standard normal noise for each pixel."""
    return c.rng.standard_normal((c.side, c.side), dtype=np.float32)


def speckle(c: Canvas, *, rows: float = 0.9, columns: float = 0.5) -> Picture:
    """Coherent-light noise: the magnitude of a complex normal field, mean about 1.

    `rows` and `columns` are the numbers of grains per pixel; fewer columns than rows make the grains wide.
    """
    shape = max(4, round(c.side * rows)), max(4, round(c.side * columns))
    real, imaginary = smooth_noise(c, *shape), smooth_noise(c, *shape)
    return np.sqrt(real * real + imaginary * imaginary)
