"""The groups of a generation batch: which completion belongs to which prompt, and how they are cut for scoring.

And how far what samples is from what learns: |log p(sampler) - log p(trainer)| of the same tokens, in nats.

Axes: N completions of a batch, C completion tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from medr1.engines.sampler import Draw
from medr1.models.shared.pack import PromptTensors


@dataclass(slots=True)
class GroupBatch:
    """The prompts of a generation batch and which completion belongs to which of them."""

    prompts: list[PromptTensors]
    images: list[list[Image.Image]]
    """Of every prompt, as the data has them."""
    index_N: Tensor
    """Group of every completion of this process, in the order that the parent holds them."""
    keys: list[list[str]]
    """Names of the draws of every prompt, for their random numbers."""
    draws: list[list[Draw]] | None = None
    """None where vLLM drew."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the next scoring pass is about."""

    prompts: list[PromptTensors]
    index_N: Tensor
    live_N: Tensor | None = None
    """Completions whose gradient is not zero; None: all are scored."""
    sampled_logps_NC: Tensor | None = None
    sampled_entropies_NC: Tensor | None = None
    same_policy: bool = False
    """Whether the policy is the one that drew the completions."""


def sampled_statistics(drawn: list[list[Draw]], completion_ids_NC: Tensor) -> dict[str, Tensor]:
    """Log-probabilities and entropies at sampling time, padded like the completions."""
    flat = [draw for draws in drawn for draw in draws]
    logps_NC, entropies_NC = (torch.zeros(completion_ids_NC.shape) for _ in range(2))
    for n, draw in enumerate(flat):
        size = len(draw.token_ids)
        logps_NC[n, :size], entropies_NC[n, :size] = torch.tensor(draw.logprobs), torch.tensor(draw.entropies)
    device = completion_ids_NC.device
    return {"sampled_logps": logps_NC.to(device), "sampled_entropies": entropies_NC.to(device)}


def chunks_of(index_N: Tensor, scored_N: Tensor, batch_size: int | None) -> Iterator[Tensor]:
    """Row numbers to score together: at most `batch_size` completions, cut at the borders of groups."""
    rows = scored_N.nonzero()[:, 0]
    if batch_size is None or len(rows) <= batch_size:
        yield rows
        return
    rows = rows[index_N[rows].argsort(stable=True)]
    counts = index_N[rows].unique_consecutive(return_counts=True)[1].tolist()
    start, size = 0, 0
    for count in counts:
        if size and size + count > batch_size:
            yield rows[start : start + size]
            start, size = start + size, 0
        size += count
    yield rows[start : start + size]


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
