"""A stand-in for the flash kernels, which only GPUs have: their arguments and results in plain PyTorch.

The log-sum-exp is among them, so that what is tested is the joining of parts. Axes as in `medr1.models.shared.flash`.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from medr1.models.shared import flash
from medr1.models.shared.flash import Attended, Span


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in take the kernels' place."""
    monkeypatch.setattr(flash, "attention", forward)
    monkeypatch.setattr(flash, "attention_back", backward)


def forward(query: Tensor, key: Tensor, value: Tensor, span: Span, scaling: float) -> Attended:
    """`flash.attention`."""
    asking, seen, causal = span.asking, span.seen, span.causal
    output, logsumexp = torch.zeros_like(query), query.new_full((query.shape[1], len(query)), -torch.inf)
    for (a, b), (c, d) in zip(pairwise(asking.ends.tolist()), pairwise(seen.ends.tolist()), strict=True):
        assert b - a <= asking.longest
        assert d - c <= seen.longest
        scores = scores_of(query[a:b], key[c:d], scaling, causal)
        logsumexp[:, a:b] = scores.logsumexp(-1)
        output[a:b] = torch.einsum("hts,shd->thd", scores.softmax(-1), repeated(value[c:d], query))
    return output, logsumexp, (torch.empty(0), torch.empty(0))


def backward(
    grad: Tensor, states: tuple[Tensor, Tensor, Tensor], attended: Attended, span: Span, scaling: float
) -> tuple[Tensor, ...]:
    """`flash.attention_back`."""
    (output, logsumexp, _), asking, seen, causal = attended, span.asking, span.seen, span.causal
    query, key, value = states
    grads = [torch.zeros_like(x) for x in states]
    repeats = query.shape[1] // key.shape[1]
    for (a, b), (c, d) in zip(pairwise(asking.ends.tolist()), pairwise(seen.ends.tolist()), strict=True):
        weights = (scores_of(query[a:b], key[c:d], scaling, causal) - logsumexp[:, a:b, None]).exp()
        given = torch.einsum("thd,shd->hts", grad[a:b], repeated(value[c:d], query))
        given = weights * (given - (grad[a:b] * output[a:b]).sum(-1).t()[..., None]) * scaling
        grads[0][a:b] = torch.einsum("hts,shd->thd", given, repeated(key[c:d], query))
        for place, left, right in ((1, given, query), (2, weights, grad)):
            grads[place][c:d] = torch.einsum("hts,thd->shd", left, right[a:b]).unflatten(1, (-1, repeats)).sum(2)
    return tuple(grads)


def repeated(states: Tensor, query: Tensor) -> Tensor:
    return states.repeat_interleave(query.shape[1] // states.shape[1], 1)


def scores_of(query: Tensor, key: Tensor, scaling: float, causal: bool) -> Tensor:
    scores = torch.einsum("thd,shd->hts", query, repeated(key, query)) * scaling
    return scores.masked_fill(torch.ones_like(scores).bool().triu(1), -torch.inf) if causal else scores
