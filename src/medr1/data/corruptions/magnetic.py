"""MRI: noise of the magnitude picture, an uneven coil, and errors of k-space (the picture's Fourier transform).

Rows of k-space are phase-encoding lines, measured one after the other. Picture-domain surrogates: k-space is that of
the 8-bit magnitude picture.
"""

import numpy as np

from medr1.data.corruptions.picture import Picture, coordinates, grain, scale_of

BIAS_ORDER = 3
MOVEMENTS = 6
"""On either side of the middle of k-space."""
MOVEMENT = 6
"""Largest one along each axis, in reference pixels."""
CENTRE_SHARE = 0.08
"""Lines around the middle of k-space that an accelerated measurement keeps."""


def rician_noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Normal noise of this standard deviation on both parts of the complex signal, of which the magnitude is shown."""
    return np.hypot(picture + strength * grain(picture, rng), strength * grain(picture, rng))


def bias_field(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Multiplied by the exponential of a polynomial of order 3 with coefficients up to the strength, mean 1."""
    y, x = coordinates(picture)
    powers = [(i, j) for i in range(BIAS_ORDER + 1) for j in range(BIAS_ORDER + 1 - i) if i + j > 0]
    coefficients = strength * rng.uniform(-1, 1, len(powers))
    field = np.exp(sum(c * y**i * x**j for c, (i, j) in zip(coefficients, powers, strict=True)))
    return picture * field / field.mean()


def kspace_motion(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The patient lies still, then moves several times while the outer lines of k-space, this share, are measured."""
    frequency = _lines(picture)[:, None, None]
    across = np.fft.fftfreq(picture.shape[1])[None, :, None]
    largest = MOVEMENT * scale_of(picture)
    moves = rng.uniform(-largest, largest, (2 * MOVEMENTS, 2))
    block = np.clip(((frequency + 0.5) * 2 * MOVEMENTS).astype(int), 0, 2 * MOVEMENTS - 1)
    moved = np.abs(frequency) > (1 - strength) / 2
    dy, dx = (np.where(moved, moves[block, axis], 0) for axis in (0, 1))
    return _magnitude(_kspace(picture) * np.exp(-2j * np.pi * (frequency * dy + across * dx)))


def ghosting(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Two to six faint copies along the phase direction: every n-th line of k-space loses this share."""
    lines = _lines(picture)
    every = int(rng.integers(2, 7))
    weakened = (np.rint(lines * picture.shape[0]) % every == 0) & (np.abs(lines) > 0.01)
    return _magnitude(_kspace(picture) * np.where(weakened, 1 - strength, 1.0)[:, None, None])


def gibbs(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Ringing at edges: of k-space only this share along each side, around the middle, was measured."""
    height, width = picture.shape[:2]
    kept = (np.abs(np.fft.fftfreq(height))[:, None] <= strength / 2) & (
        np.abs(np.fft.fftfreq(width))[None, :] <= strength / 2
    )
    return _magnitude(_kspace(picture) * kept[:, :, None])


def spike(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Stripes all over the picture, from one sample of k-space that is far too large."""
    y, x = coordinates(picture)
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(8, 25)
    phase = 2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2 * np.pi)
    return picture + strength * np.cos(phase)


def undersampling(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """This share of the outer lines of k-space, drawn at random, was not measured and is taken as zero."""
    lines = _lines(picture)
    measured = (rng.random(len(lines)) >= strength) | (np.abs(lines) < CENTRE_SHARE / 2)
    return _magnitude(_kspace(picture) * measured[:, None, None])


def _lines(picture: Picture) -> np.ndarray:
    """Frequency of every phase-encoding line, in cycles per pixel."""
    return np.fft.fftfreq(picture.shape[0])


def _kspace(picture: Picture) -> np.ndarray:
    return np.fft.fft2(picture, axes=(0, 1))


def _magnitude(kspace: np.ndarray) -> Picture:
    return np.abs(np.fft.ifft2(kspace, axes=(0, 1)))
