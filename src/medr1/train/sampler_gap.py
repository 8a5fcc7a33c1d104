"""How far what samples is from what learns: |log p(sampler) - log p(trainer)| of the same tokens, in nats.

Axes: N completions, C completion tokens.
"""

from typing import Any

import torch
from torch import Tensor

NAME = "sampling/sampling_logp_difference"
"""TRL's name of the metric, which it has for vLLM only."""


class SamplerGap:
    """Sums over the micro-batches of a training, or of an evaluation, since the last log record."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def note(self, logps_NC: Tensor, sampled_NC: Tensor, counted_NC: Tensor) -> None:
        """Take up the tokens `counted_NC`, less those that the sampler has no number for (vLLM: not a number)."""
        width = min(logps_NC.shape[1], sampled_NC.shape[1])
        gap_NC = (logps_NC.detach()[:, :width] - sampled_NC[:, :width]).abs()
        counted_NC = counted_NC[:, :width] & ~gap_NC.isnan()
        gap_NC = gap_NC.masked_fill(~counted_NC, 0)
        self._parts.append(torch.stack([gap_NC.sum(), counted_NC.sum().float(), gap_NC.max()]))

    def report(self, accelerator: Any) -> dict[str, float]:
        """Mean and largest over all processes, and start anew; nothing where nothing was noted."""
        if not self._parts:
            return {}
        parts = torch.stack(self._parts)
        self._parts = []
        local = torch.stack([parts[:, 0].sum(), parts[:, 1].sum(), parts[:, 2].max()])
        total, count, largest = accelerator.gather(local).view(-1, 3).unbind(1)
        return {f"{NAME}/mean": float(total.sum() / count.sum().clamp(min=1)), f"{NAME}/max": float(largest.max())}
