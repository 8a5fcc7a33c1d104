"""Ultrasound and OCT, which build a picture column by column from echoes: speckle, shadows, gain, movement."""

import numpy as np
from scipy.ndimage import map_coordinates

from medr1.data.corruptions.picture import Picture, blurred, coordinates, depth, grain, smooth_curve

ECHOES = 4
VESSELS = 6
JUMPS = 5


def speckle(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Multiplied by the magnitude of a complex normal field of mean 1; the strength is its standard deviation."""
    magnitude = np.hypot(blurred(grain(picture, rng), 0.6), blurred(grain(picture, rng), 0.6))
    return picture * (1 + strength * (magnitude - magnitude.mean()) / magnitude.std())


def acoustic_shadow(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A widening wedge below a reflector that lets through all but this share."""
    y, x = coordinates(picture)
    top, middle = rng.uniform(-0.6, -0.1), rng.uniform(-0.5, 0.5)
    below = y - top
    width = 0.16 + 0.25 * np.clip(below, 0, None)
    side = np.clip((width - np.abs(x - middle * (1 + 0.3 * below))) / 0.06, 0, 1)
    return picture * (1 - strength * side * np.clip(below / 0.08, 0, 1))


def gain(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Time-gain sliders set wrongly: bands of depth amplified or damped by up to about exp(strength)."""
    curve = np.clip(smooth_curve(picture.shape[0], rng, 6), -1.5, 1.5)
    return picture * np.exp(strength * curve)[:, None, None]


def depth_attenuation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Echoes fade with depth, at the bottom to exp(-strength)."""
    return picture * np.exp(-strength * depth(picture))


def reverberation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Echoes that went to and fro: fainter copies of the picture, each deeper by the same way."""
    step = max(1, round(rng.uniform(0.1, 0.2) * picture.shape[0]))
    result = picture.copy()
    for echo in range(1, ECHOES + 1):
        deeper = echo * step
        result[deeper:] += strength * 0.7 ** (echo - 1) * picture[:-deeper]
    return result


def eye_motion(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The eye moves while the scan goes across: columns slip up and down by up to about this share of the height."""
    height, width, channels = picture.shape
    drift = smooth_curve(width, rng, 6)
    starts = rng.uniform(0, width, JUMPS)
    jumps = rng.uniform(-1, 1, JUMPS)
    slip = drift / 2 + (np.arange(width)[:, None] >= starts) @ jumps
    slip = strength * height * (slip - slip.mean())
    rows = np.arange(height)[:, None] + slip[None, :]
    columns = np.broadcast_to(np.arange(width)[None, :], rows.shape)
    moved = [map_coordinates(picture[:, :, c], (rows, columns), order=1, mode="nearest") for c in range(channels)]
    return np.stack(moved, axis=2)


def blink(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A dark band of this share of the columns, from a blink."""
    _, x = coordinates(picture)
    middle, half = rng.uniform(-0.6, 0.6), strength * picture.shape[1] / min(picture.shape[:2])
    return picture * (1 - 0.92 * np.clip((half - np.abs(x - middle)) / 0.02, 0, 1))


def vessel_shadow(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Columns behind six vessels that let through all but this share."""
    _, x = coordinates(picture)
    result = picture
    for middle, half in zip(rng.uniform(-0.9, 0.9, VESSELS), rng.uniform(0.02, 0.07, VESSELS), strict=True):
        shade = np.clip((half - np.abs(x - middle)) / 0.02, 0, 1)
        result = result * (1 - strength * shade * np.clip((depth(picture) - 0.2) / 0.1, 0, 1))
    return result
