"""How an ascent moves: fixed signed steps, with momentum or without, and the adaptive ones of APGD.

Axes: R rows still being attacked, H height, W width, C channels of a perturbation.
"""

import math
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from medr1.attack.threat import project


class Step(Protocol):
    """How an ascent moves; holds one row per sample that is still attacked."""

    def move(self, delta_RHWC: Tensor, gradient_RHWC: Tensor, score_R: Tensor) -> Tensor:
        """The next perturbation, not yet projected."""
        ...

    def keep(self, chosen_R: Tensor) -> None:
        """Drop the rows of samples that have left the batch."""
        ...

    def forget(self) -> None:
        """The objective has changed: scores so far cannot be compared with those to come."""
        ...


def fixed_size(k: int, steps: int) -> float:
    """Grey levels of a fixed step at a budget: 5 k / steps, at least one, since less would be rounded away.

    Half of that leaves twice the survivors (`docs/log.md`). A single step covers the whole budget: that is FGSM.

    >>> fixed_size(8, 20), fixed_size(2, 20), fixed_size(8, 1)
    (2.0, 1.0, 40.0)
    """
    return max(1.0, 5 * k / steps)


class SignStep:
    """PGD (Madry et al. 2018), with `momentum` MI-FGSM (Dong et al. 2018): `size` levels along the gradient's sign."""

    def __init__(self, size: float, momentum: float = 0.0) -> None:
        self.size, self.momentum = size, momentum
        self.velocity: Tensor | None = None

    def move(self, delta_RHWC: Tensor, gradient_RHWC: Tensor, score_R: Tensor) -> Tensor:
        """One step; the sign of zero is zero."""
        direction = gradient_RHWC
        if self.momentum:
            scale_R = gradient_RHWC.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient_RHWC.dtype).tiny)
            direction = gradient_RHWC / scale_R[:, None, None, None]
            if self.velocity is not None:
                direction = direction + self.momentum * self.velocity
            self.velocity = direction
        return delta_RHWC + self.size * direction.sign()

    def keep(self, chosen_R: Tensor) -> None:
        """Drop rows."""
        if self.velocity is not None:
            self.velocity = self.velocity[chosen_R]

    def forget(self) -> None:
        """Nothing here depends on scores."""


@dataclass(slots=True)
class _Path:
    """Where APGD stands with every row."""

    size_R: Tensor
    previous_RHWC: Tensor
    best_RHWC: Tensor
    best_gradient_RHWC: Tensor
    best_R: Tensor
    last_R: Tensor
    rises_R: Tensor
    """Steps since the last checkpoint that raised the score."""
    size_before_R: Tensor
    """Step size and best score at the last checkpoint."""
    best_before_R: Tensor


def checkpoints(steps: int) -> list[int]:
    """Steps at which APGD reconsiders its step size.

    >>> checkpoints(100)
    [0, 22, 41, 57, 70, 80, 87, 93, 99]
    """
    places, share, width = [0], 0.22, 0.22
    while share < 1:
        places.append(math.ceil(round(share * steps, 6)))
        width = max(width - 0.03, 0.06)
        share += width
    return places


class AdaptiveStep:
    """APGD (Croce and Hein 2020): starts at 2 k, halves where progress stalls, and goes back to the best point."""

    def __init__(self, k: int, steps: int) -> None:
        self.k, self.checkpoints, self.time = k, checkpoints(steps), 0
        self.path: _Path | None = None

    def move(self, delta_RHWC: Tensor, gradient_RHWC: Tensor, score_R: Tensor) -> Tensor:
        """One step that keeps a quarter of the last one's direction."""
        path = self.path
        first = path is None
        if path is None:
            size_R, none_R = torch.full_like(score_R, 2.0 * self.k), torch.zeros_like(score_R)
            path = self.path = _Path(
                size_R, delta_RHWC, delta_RHWC, gradient_RHWC, score_R, score_R, none_R, size_R, score_R
            )
        better = (score_R > path.best_R)[:, None, None, None]
        path.best_RHWC = torch.where(better, delta_RHWC, path.best_RHWC)
        path.best_gradient_RHWC = torch.where(better, gradient_RHWC, path.best_gradient_RHWC)
        path.best_R = torch.maximum(score_R, path.best_R)
        path.rises_R = path.rises_R + (score_R > path.last_R)
        path.last_R = score_R
        if self.time in self.checkpoints[1:]:
            halved = self._reconsider(path)[:, None, None, None]
            delta_RHWC = torch.where(halved, path.best_RHWC, delta_RHWC)
            gradient_RHWC = torch.where(halved, path.best_gradient_RHWC, gradient_RHWC)
        ahead = project(delta_RHWC + path.size_R[:, None, None, None] * gradient_RHWC.sign(), self.k)
        share = 1.0 if first else 0.75
        moved = delta_RHWC + share * (ahead - delta_RHWC) + (1 - share) * (delta_RHWC - path.previous_RHWC)
        path.previous_RHWC = delta_RHWC
        self.time += 1
        return moved

    def _reconsider(self, path: _Path) -> Tensor:
        """Halve the step of rows that rose in fewer than 3 of 4 steps, or that neither moved nor improved."""
        span = self.time - self.checkpoints[self.checkpoints.index(self.time) - 1]
        stalled_R = path.rises_R < 0.75 * span
        stuck_R = (path.size_before_R == path.size_R) & (path.best_before_R == path.best_R)
        halved_R = stalled_R | stuck_R
        path.size_before_R, path.best_before_R = path.size_R, path.best_R
        path.size_R = torch.where(halved_R, path.size_R / 2, path.size_R)
        path.rises_R = torch.zeros_like(path.rises_R)
        return halved_R

    def keep(self, chosen_R: Tensor) -> None:
        """Drop rows."""
        if self.path is not None:
            self.path = _Path(*(getattr(self.path, field.name)[chosen_R] for field in fields(_Path)))

    def forget(self) -> None:
        """The next score is the best so far; the point reached and the step size stay."""
        if self.path is not None:
            never_R = torch.full_like(self.path.best_R, -torch.inf)
            self.path.best_R = self.path.best_before_R = never_R
            self.path.last_R = -never_R
