"""The groups of a generation batch: which completion belongs to which prompt, and how they are cut for scoring.

Axes: N completions of a batch, C completion tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from medr1.models.prefix import PromptTensors
from medr1.rollout.sampler import Draw


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
