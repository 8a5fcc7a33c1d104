"""Robust training by augmentation: training images with noise or corruptions, drawn anew in every epoch.

Half of the images stay clean, so that clean accuracy is trained for as well. The G completions of a group see one and
the same picture.
"""

import hashlib
from typing import Literal

import numpy as np
from PIL import Image

from medr1.data.corruptions import corrupt, proper_for
from medr1.types import Modality

Augmentation = Literal["none", "noise", "corruption"]
"""`noise`: normal noise of random strength; `corruption`: a random one that the image's modality can suffer."""

CLEAN_SHARE = 0.5
LARGEST_NOISE = 0.1
"""Standard deviation, as a share of the range of grey levels."""
SEVERITIES = (1, 2, 3)
"""Mild to moderate: what a reader would still answer from."""


def augmented(image: Image.Image, kind: Augmentation, modality: Modality, key: str) -> Image.Image:
    """The image as one epoch shows it; the same for the same `key` (seed, epoch, sample and position)."""
    if kind == "none":
        return image
    digest = hashlib.sha256(f"{key}:{kind}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    if rng.random() < CLEAN_SHARE:
        return image
    pixels = np.asarray(image)
    if kind == "noise":
        return Image.fromarray(_noisy(pixels, rng))
    name = str(rng.choice(proper_for(modality)))
    return Image.fromarray(corrupt(pixels, name, int(rng.choice(SEVERITIES)), key))


def _noisy(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    std = 255 * rng.uniform(0, LARGEST_NOISE)
    return np.rint(np.clip(pixels + std * rng.standard_normal(pixels.shape), 0, 255)).astype(np.uint8)
