"""Cameras and microscopes: focus, light, colour, haze, dust and stain."""

import numpy as np

from medr1.data.corruptions.picture import Picture, blurred, convolved, coordinates, scale_of, smooth_noise

HAZE_SIGMA = 4
"""Reference pixels."""
VEIL = 0.72
"""Luminance of a cataract's veil."""
DUST = 40
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density in red, green and blue of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""
DEPOSIT = np.array([0.25, 0.10, 0.35])
"""Colour of precipitated stain."""


def defocus(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Every point becomes a disc with this radius in reference pixels."""
    radius = strength * scale_of(picture)
    reach = int(np.ceil(radius))
    offset = np.arange(-reach, reach + 1)
    disc = np.clip(radius + 0.5 - np.hypot(offset[:, None], offset[None, :]), 0, 1)
    return convolved(picture, disc)


def illumination(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Light from one side: across the picture it changes by this share of its mean, to both sides."""
    y, x = coordinates(picture)
    angle = rng.uniform(0, 2 * np.pi)
    return picture * (1 + strength * (np.cos(angle) * x + np.sin(angle) * y))


def vignette(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Dark corners: light falls off from the middle, by this share one half side away."""
    y, x = coordinates(picture)
    return picture * np.clip(1 - strength * (y * y + x * x) ** 1.5, 0, 1)


def colour_cast(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """White balance that is off: red, green and blue multiplied by up to exp(strength) apart, mean kept."""
    gains = np.exp(strength * _apart(rng))
    return picture * (gains / gains.mean())


def haze(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A cataract: fine detail blurred and a bright veil, both by this share."""
    seen = (1 - strength) * picture + strength * blurred(picture, HAZE_SIGMA * scale_of(picture))
    return (1 - strength / 2) * seen + strength / 2 * VEIL


def dust(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Forty soft dark spots on the optics, up to this dark."""
    y, x = coordinates(picture)
    result = picture
    for _ in range(DUST):
        cy, cx, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.02, 0.09)
        spot = np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / radius**2) ** 2))
        result = result * (1 - strength * spot)
    return result


def stain_shift(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Another laboratory's staining: haematoxylin and eosin multiplied by exp(strength), each either way."""
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
    directions = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    amounts = -np.log(np.clip(rgb, 1 / 255, 1)) @ np.linalg.inv(directions)
    factors = np.exp(strength * np.array([*rng.choice((-1, 1), 2), 0]))  # what neither stain explains stays
    return np.exp(-(amounts * factors) @ directions)


def stain_deposit(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Precipitated stain over about this share of the picture."""
    noise = smooth_noise(picture, rng, 14)
    threshold = np.quantile(noise, 1 - strength)
    cover = 0.85 * np.clip((noise - threshold) / 0.15, 0, 1)
    return (1 - cover) * picture + cover * DEPOSIT


def _apart(rng: np.random.Generator) -> np.ndarray:
    """Three numbers, the largest 1 in size, that do not all have one sign."""
    values = rng.standard_normal(3)
    values -= values.mean()
    return values / np.abs(values).max()
