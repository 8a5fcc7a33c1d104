"""What the corruptions share: pictures as numbers, lengths, smooth noise, filters.

Axes: H height, W width, C channels (1 where a picture is grey, else red, green and blue).
"""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating]
"""`[H, W, C]`, 0 black … 1 white. Corruptions may leave the range; it is clipped once at the end, never rescaled."""
Field = NDArray[np.floating]
"""`[H, W, 1]`: one number a pixel, the same for all channels."""

REFERENCE_SIDE = 224
"""Lengths are in pixels of a picture whose shorter side has 224, the size that published severities are for."""


def scale_of(picture: Picture) -> float:
    """Pixels of this picture to one of the reference size."""
    return min(picture.shape[:2]) / REFERENCE_SIDE


def coordinates(picture: Picture) -> tuple[Field, Field]:
    """y `[H, 1, 1]` downwards and x `[1, W, 1]` to the right, from the middle, in halves of the shorter side."""
    height, width = picture.shape[:2]
    half = min(height, width) / 2
    y = (np.arange(height) + 0.5 - height / 2) / half
    x = (np.arange(width) + 0.5 - width / 2) / half
    return y[:, None, None], x[None, :, None]


def depth(picture: Picture) -> Field:
    """0 at the top … 1 at the bottom, `[H, 1, 1]`."""
    height = picture.shape[0]
    return ((np.arange(height) + 0.5) / height)[:, None, None]


def grain(picture: Picture, rng: np.random.Generator) -> Field:
    """Independent standard normal noise."""
    return rng.standard_normal((*picture.shape[:2], 1))


def smooth_noise(picture: Picture, rng: np.random.Generator, knots: int) -> Field:
    """A cubic surface through standard normal noise on `knots` × `knots` points."""
    from scipy.ndimage import zoom

    lattice = rng.standard_normal((knots, knots))
    height, width = picture.shape[:2]
    surface = zoom(lattice, (height / knots, width / knots), order=3, mode="nearest", grid_mode=True)
    return np.asarray(surface)[:, :, None]


def smooth_curve(length: int, rng: np.random.Generator, knots: int) -> NDArray[np.floating]:
    """`[length]`: a line through standard normal noise at `knots` points."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, knots), rng.standard_normal(knots))


def blurred(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur; `sigma` in pixels of this picture."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(picture, sigma, axes=(0, 1), mode="nearest")


def convolved(picture: Picture, kernel: NDArray[np.floating]) -> Picture:
    """Convolution with a kernel `[odd, odd]`, scaled to sum 1; the border is repeated outwards."""
    from scipy.signal import fftconvolve

    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(picture, ((up, up), (left, left), (0, 0)), mode="edge")
    return fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """8-bit pixels: clipped and rounded."""
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
