"""CT and X-ray: too few photons, too few views, metal, scatter, and a wrong window.

Picture-domain surrogates: they act on the windowed 8-bit picture, where bright is dense. True dose needs raw data.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import affine_transform

from medr1.data.corruptions.picture import Field, Picture, blurred, coordinates, grain, scale_of, smooth_curve

SCATTER_SIGMA = 30
"""Reference pixels."""
GRID_PITCH = 5
"""Reference pixels between the lines of an anti-scatter grid."""
COPIES = 5
"""Slices that a thick one averages."""


def low_dose(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Noise of few photons: more where it is dense, and grainy like a filtered back-projection."""
    noise = grain(picture, rng)
    noise = blurred(noise, 0.5) - blurred(noise, 1.5)
    return _with_photon_noise(picture, strength, noise / noise.std())


def quantum_noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Noise of few photons: more where it is dense, independent from pixel to pixel."""
    return _with_photon_noise(picture, strength, grain(picture, rng))


def window(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A grey-level window whose level is off by half this share, and its width by this share."""
    level, width = rng.choice((-1, 1), 2) * strength
    return 0.5 + (picture - 0.5 - level / 2) / (1 + width)


def ring(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Rings around the centre of rotation, from detectors that read too much or too little."""
    y, x = coordinates(picture)
    radius = np.hypot(y, x) * min(picture.shape[:2]) / 2
    detectors = int(radius.max()) + 2
    bad = rng.random(detectors) < 0.15
    profile = np.where(bad, rng.standard_normal(detectors), 0)
    return picture + strength * np.interp(radius, np.arange(detectors), profile)


def streak(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A piece of metal with dark and bright streaks that start at it."""
    y, x = coordinates(picture)
    dy, dx = y - rng.uniform(-0.5, 0.5), x - rng.uniform(-0.5, 0.5)
    distance, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    rays = smooth_curve(361, rng, 48)
    rays[-1] = rays[0]
    amplitude = np.interp(angle, np.linspace(-np.pi, np.pi, 361), rays)
    metal = distance < 0.04
    return np.where(metal, 1.0, picture + strength * amplitude * np.exp(-1.5 * distance))


def sparse_view(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reconstructed from this many evenly spaced views (of a picture of the reference size).

    A view measures one line through the centre of the picture's Fourier transform (the slice theorem). Where the lines
    are further apart than a sample, what lies between them is missing and they are weighted up.
    """
    views, first = max(1, round(strength * scale_of(picture))), rng.uniform(0, np.pi)
    return _in_frequencies(picture, lambda angle, radius: _spokes(angle, radius, views, first))


def limited_angle(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reconstructed without the views of a wedge of this many degrees."""
    start, missing = rng.uniform(0, np.pi), np.radians(strength)

    def measured(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
        return ((angle - start) % np.pi >= missing) | (radius == 0)

    return _in_frequencies(picture, measured)


def beam_hardening(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Cupping: the inside of the body darker than its rim at the same mean; the strength is the slope."""
    dense = picture.mean(axis=2, keepdims=True) + 1e-6
    inside = blurred(dense, 0.15 * min(picture.shape[:2]))
    inside = inside / inside.max()
    return picture * (1 + strength * (np.average(inside, weights=dense) - inside))


def thick_slice(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The mean over a thick slice, in which the body widens by this share to both sides of the middle."""
    return np.mean([_enlarged(picture, 1 + share * strength) for share in np.linspace(0, 1, COPIES)], axis=0)


def scatter(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A veil of scattered photons, this share of the image-forming ones."""
    return (picture + strength * blurred(picture, SCATTER_SIGMA * scale_of(picture))) / (1 + strength)


def exposure(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Under- or over-exposed: a gamma curve whose exponent is off by this much (natural logarithm), either way."""
    return picture ** np.exp(rng.choice((-1, 1)) * strength)


def grid_lines(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Lines of an anti-scatter grid that take away up to this share of the light."""
    pitch = max(3.0, GRID_PITCH * scale_of(picture))
    lines = 0.5 + 0.5 * np.cos(2 * np.pi * np.arange(picture.shape[1]) / pitch + rng.uniform(0, 2 * np.pi))
    return picture * (1 - strength * lines[None, :, None])


def _with_photon_noise(picture: Picture, strength: float, noise: Field) -> Picture:
    """Of N exp(-p) photons the logarithm has the standard deviation exp(p / 2) / sqrt(N); p is 2 at white."""
    return picture + strength * np.exp(picture.mean(axis=2, keepdims=True) - 0.5) * noise


def _in_frequencies(picture: Picture, transfer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Picture:
    """The picture with its frequencies weighted by `transfer(angle, radius)`; radius in samples of its own size."""
    height, width = picture.shape[:2]
    size = 2 * max(height, width)  # room, so that nothing wraps around
    level = picture.mean()
    up, left = (size - height) // 2, (size - width) // 2
    padded = np.pad(picture - level, ((up, size - height - up), (left, size - width - left), (0, 0)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    weights = transfer(np.arctan2(fy, fx) % np.pi, np.hypot(fy, fx) * max(height, width))
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * weights[:, :, None]
    filtered = np.fft.irfft2(spectrum, s=(size, size), axes=(0, 1))
    return level + filtered[up : up + height, left : left + width]


def _spokes(angle: np.ndarray, radius: np.ndarray, views: int, first: float) -> np.ndarray:
    gap = radius * np.pi / views  # samples between two lines
    to_next = ((angle - first) % (np.pi / views)) * radius
    off = np.minimum(to_next, gap - to_next)
    return np.where(gap <= 1, 1.0, gap * np.clip(1 - off, 0, 1))


def _enlarged(picture: Picture, factor: float) -> Picture:
    """The middle of the picture, `factor` times as large."""
    shrink = np.array([1 / factor, 1 / factor, 1])
    middle = (np.array(picture.shape) - 1) / 2
    return affine_transform(picture, shrink, offset=middle * (1 - shrink), order=1, mode="nearest")  # type: ignore[arg-type]
