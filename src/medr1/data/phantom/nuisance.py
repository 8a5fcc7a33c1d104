"""What varies between pictures of the same thing: framing, light, exposure, grain and colour.

A guesser that knows only the colours of a picture must learn next to nothing, so the nuisances cross the modalities:
exposure equalises the histogram, then draws brightness and contrast; colour pictures are often grey; and grey pictures
often carry the natural colours of others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medr1.data.phantom.canvas import Canvas, Picture, axis, grain
from medr1.types import Modality

Range = tuple[float, float]
Colour = tuple[float, float, float]

PALETTES: dict[str, tuple[Colour, Colour, Colour]] = {
    "grey": ((0, 0, 0), (0.5, 0.5, 0.5), (1, 1, 1)),
    "skin": ((0.12, 0.04, 0.03), (0.70, 0.46, 0.37), (1.0, 0.94, 0.86)),
    "fundus": ((0.04, 0.0, 0.0), (0.72, 0.29, 0.12), (1.0, 0.93, 0.62)),
    "stain": ((0.22, 0.08, 0.34), (0.78, 0.44, 0.64), (1.0, 0.95, 0.97)),
    "sepia": ((0.08, 0.05, 0.02), (0.60, 0.49, 0.33), (1.0, 0.96, 0.84)),
    "film": ((0.02, 0.06, 0.10), (0.38, 0.50, 0.62), (0.91, 0.97, 1.0)),
    "fluorescence": ((0.0, 0.05, 0.02), (0.22, 0.58, 0.40), (0.88, 1.0, 0.88)),
    "violet": ((0.06, 0.02, 0.12), (0.46, 0.38, 0.68), (0.95, 0.92, 1.0)),
}
"""Red, green and blue (0..1) of dark, middle and full luminance."""
NATURAL: dict[Modality, str] = {"Dermoscopy": "skin", "Fundus": "fundus", "Microscopy": "stain"}
"""Palette of the modalities that have colour; all others are grey by nature."""

GREY_SHARE = 0.4
"""Share of the pictures of a colour modality that are shown in grey."""
NATURAL_SHARE = 0.35
"""Share of the pictures of a colour modality that have its own colours; the others have those of another."""
TINTED_SHARE = 0.4
"""Share of the pictures of a grey modality that are tinted."""

LEVELS = 1024
"""Steps of luminance before the colours are looked up."""


RANK_FLOOR = 0.005
"""Keeps the logit of the rank finite."""
LOGISTIC_STD = 1.7
"""Standard deviation of the logit of a uniform rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NuisanceRange:
    """Bounds of each nuisance; every picture draws uniformly within them."""

    shift: float
    """Largest shift of the anatomy along each axis, in half widths."""
    zoom: Range
    brightness: Range
    """Luminance (0..1) that an average pixel is exposed to."""
    contrast: Range
    """Slope of the tone curve: standard deviations of luminance on the logistic scale."""
    shading: float
    """Largest change of light from the middle to the edge, in standard deviations of luminance."""
    grain: Range
    """Noise, in standard deviations of luminance."""
    hue: float
    """Largest change of each colour of a palette."""
    tints: tuple[str, ...]
    """Palettes that colour pictures beyond their nature."""


_SEEN = NuisanceRange(
    shift=0.1,
    zoom=(0.88, 1.15),
    brightness=(0.3, 0.6),
    contrast=(0.8, 1.5),
    shading=0.5,
    grain=(0.03, 0.12),
    hue=0.05,
    tints=("skin", "fundus", "stain", "sepia", "film"),
)
NUISANCE: dict[str, NuisanceRange] = {
    "train": _SEEN,
    "validation": _SEEN,
    "test": NuisanceRange(
        shift=0.16,
        zoom=(0.82, 1.25),
        brightness=(0.24, 0.66),
        contrast=(0.7, 1.7),
        shading=0.8,
        grain=(0.08, 0.2),
        hue=0.08,
        tints=("skin", "fundus", "stain", "fluorescence", "violet"),
    ),
}
"""By split: training and validation are alike, the test has wider ranges and tints never trained on."""


def framing(nuisance: NuisanceRange, rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """Shift (x, y) and zoom of the anatomy."""
    shift_x, shift_y = rng.uniform(-nuisance.shift, nuisance.shift, 2)
    return (float(shift_x), float(shift_y)), float(rng.uniform(*nuisance.zoom))


def expose(picture: Picture, modality: Modality, nuisance: NuisanceRange, c: Canvas) -> NDArray[np.uint8]:
    """The picture `[side, side]` as RGB bytes `[side, side, 3]` after light, grain, exposure and colour."""
    rng, ramp = c.rng, axis(c.side)
    spread = np.float32(picture.std())
    light_x, light_y = spread * rng.uniform(-nuisance.shading, nuisance.shading, 2).astype(np.float32)
    noise = np.float32(rng.uniform(*nuisance.grain)) * spread
    picture = picture + (light_x * ramp[None, :] + light_y * ramp[:, None]) + noise * grain(c)
    low, high = float(picture.min()), float(picture.max())
    steps = ((picture - low) * np.float32((LEVELS - 1) / max(high - low, 1e-6))).astype(np.intp)
    tones = _tone_curve(_normal_score(steps), nuisance, rng)
    return _colour_table(tones, _palette(modality, nuisance, rng))[steps]


def _normal_score(steps: NDArray[np.intp]) -> NDArray[np.floating]:
    """How bright each level is within its picture: the logit of its rank, mean about 0, standard deviation about 1.

    Ranks are distributed alike in all pictures, so the histogram says nothing about what a picture shows. A linear
    exposure is not enough: the mere share of dark ground then tells a guesser most modalities.
    """
    histogram = np.bincount(steps.ravel(), minlength=LEVELS)
    rank = (np.cumsum(histogram) - 0.5 * histogram) / steps.size
    return np.log((rank + RANK_FLOOR) / (1 - rank + RANK_FLOOR)) / LOGISTIC_STD


def _tone_curve(score: NDArray[np.floating], nuisance: NuisanceRange, rng: np.random.Generator) -> NDArray[np.floating]:
    """Luminance 0..1 of each level: the middle at a random brightness, a random contrast, both ends rolled off."""
    brightness, contrast = rng.uniform(*nuisance.brightness), rng.uniform(*nuisance.contrast)
    return 1 / (1 + np.exp(-(np.log(brightness / (1 - brightness)) + contrast * score)))


def _palette(modality: Modality, nuisance: NuisanceRange, rng: np.random.Generator) -> NDArray[np.floating]:
    """Three colours `[3, 3]`, dark to bright."""
    lot, natural = rng.random(), NATURAL.get(modality)
    if natural is None:
        tinted, own = lot < TINTED_SHARE, "grey"
    else:
        tinted, own = lot >= GREY_SHARE + NATURAL_SHARE, "grey" if lot < GREY_SHARE else natural
    others = [tint for tint in nuisance.tints if tint != natural]
    name = others[rng.integers(len(others))] if tinted else own
    palette = np.array(PALETTES[name])
    if name == "grey":
        return palette
    return np.clip(palette + rng.uniform(-nuisance.hue, nuisance.hue, palette.shape), 0, 1)


def _colour_table(luminance: NDArray[np.floating], palette: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Bytes `[len(luminance), 3]` for luminances in 0..1."""
    stops = (0.0, 0.5, 1.0)
    channels = [np.interp(luminance, stops, palette[:, channel]) for channel in range(3)]
    return np.rint(255 * np.stack(channels, axis=1)).astype(np.uint8)
