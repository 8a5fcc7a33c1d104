"""What an attacker may do to an image: how far, where, and in which colours.

Perturbations live on 8-bit grey levels from the start, because files do: a budget is a whole number k, and "epsilon
0.03" is k = 7 (7.65 levels would be 8 after rounding, which breaks the budget).

Axes: N images, H height, W width, C channels of a perturbation (1 in grey mode, else 3).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medr1.attack.settings import LEVELS, Region, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatModel:
    """An L-infinity ball around the image, cut by a region and by the range of 8-bit values."""

    k: int
    """Largest change of any value, in grey levels."""
    grey: bool = False
    """One perturbation for the three channels: a coloured one is impossible in CT, MRI, X-ray, ultrasound or OCT."""
    region: Region = "all"
    """Pixels that may change: all, or those inside or outside the mask of each image."""
    space: Space = "grid"
    """`grid`: the image at the size that the model sees, the same on every engine; `native`: the file's own size."""


def levels_of(epsilon: float) -> int:
    """Budget in grey levels of an epsilon on the scale 0 to 1, never more than it.

    >>> levels_of(0.03), levels_of(8 / 255), levels_of(0.0)
    (7, 8, 0)
    """
    return int(LEVELS * epsilon + 1e-6)


def project(delta_NHWC: Tensor, k: int, allowed_NHW1: Tensor | None = None) -> Tensor:
    """The nearest perturbation within the budget, zero where nothing may change."""
    clipped = delta_NHWC.clamp(-k, k)
    return clipped if allowed_NHW1 is None else clipped * allowed_NHW1


def realise(clean_NHW3: Tensor, delta_NHWC: Tensor) -> Tensor:
    """The image that a file would hold: whole grey levels between 0 and 255, without gradients.

    >>> realise(torch.tensor([254.0]), torch.tensor([2.6])), realise(torch.tensor([9.0]), torch.tensor([-1.4]))
    (tensor([255.]), tensor([8.]))
    """
    return (clean_NHW3 + delta_NHWC.detach().round()).clamp(0, LEVELS)


def towards(image_NHW3: Tensor, clean_NHW3: Tensor, threat: ThreatModel, allowed_NHW1: Tensor | None) -> Tensor:
    """The perturbation within the threat model that brings `clean` closest to another image."""
    difference = image_NHW3 - clean_NHW3
    return project(difference.mean(-1, keepdim=True) if threat.grey else difference, threat.k, allowed_NHW1)


def uniform_start(shape: tuple[int, ...], k: int, chance: np.random.Generator) -> Tensor:
    """A perturbation drawn uniformly from the ball, in float64."""
    return torch.from_numpy(chance.uniform(-k, k, shape))


def sign_noise(shape: tuple[int, ...], k: int, chance: np.random.Generator) -> Tensor:
    """A random corner of the ball: the largest perturbation that knows nothing, the control of every attack."""
    return torch.from_numpy(k * chance.choice([-1.0, 1.0], shape))
