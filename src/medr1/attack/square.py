"""Square attack (Andriushchenko et al. 2020), L-infinity: random search that needs no gradient.

Its main use is as a test: where it beats PGD, the gradients are masked and the white-box figures mean nothing.

Axes: N samples, R rows still being attacked, H height, W width, C channels of a perturbation.
"""

import math

import numpy as np
import torch
from torch import Tensor

from medr1.attack.objective import Loss, Mode
from medr1.attack.problem import MISLED, RIGHT, Best, Problem, rank_of
from medr1.attack.threat import generator, project

P_INIT = 0.8
"""Share of the image that the first squares cover."""
SHRINK_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of ten thousand, after which the share is halved."""
JUDGEMENTS = 20
"""Free generations over a run."""


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side of the square that is changed at a query.

    >>> [square_side(q, 10_000, 84, 84) for q in (0, 11, 9_000)]
    [75, 53, 3]
    """
    place = query / queries * 10_000
    share = P_INIT / 2 ** sum(place > at for at in SHRINK_AT)
    return int(min(max(round(math.sqrt(share * height * width)), 1), height, width))


def stripes(shape: tuple[int, int, int], k: int, chance: np.random.Generator) -> Tensor:
    """Vertical stripes of the full budget, the usual start."""
    height, width, channels = shape
    signs = chance.choice([-1.0, 1.0], (1, width, channels))
    return torch.from_numpy(np.broadcast_to(k * signs, (height, width, channels)).copy())


def square(problem: Problem, best: Best, queries: int, mode: Mode, seed: int, loss: Loss = "margin") -> None:
    """Search every sample that is still open with at most `queries` forward passes, and note it in `best`."""
    rows = best.open_rows()
    if not len(rows):
        return
    height, width, channels = problem.shape
    k = problem.threat.k
    chances = {row: generator(seed, "square", problem.samples[row].id, k) for row in rows.tolist()}
    start = torch.stack([stripes(problem.shape, k, chances[row]) for row in rows.tolist()])
    delta = project(start.to(problem.clean_NHW3), k, problem.allowed(rows))
    words = [problem.surrogate(mode, row, problem.readings[row]) for row in rows.tolist()]
    score = problem.score(rows, delta, words, loss, gradient=False).score_R
    every = max(1, queries // JUDGEMENTS)
    for query in range(1, queries):
        side = square_side(query, queries, height, width)
        tried = delta.clone()
        for at, row in enumerate(rows.tolist()):
            chance = chances[row]
            top, left = chance.integers(0, height - side + 1), chance.integers(0, width - side + 1)
            colour = torch.from_numpy(k * chance.choice([-1.0, 1.0], channels)).to(tried)
            tried[at, top : top + side, left : left + side] = colour
        tried = project(tried, k, problem.allowed(rows))
        new = problem.score(rows, tried, words, loss, gradient=False).score_R
        better = new > score
        delta = torch.where(better[:, None, None, None], tried, delta)
        score = torch.maximum(new, score)
        for row in rows.tolist():
            best.traces[row].forwards += 1
        if query % every == 0 or query == queries - 1:
            readings = problem.consider(best, rows, delta, f"square {mode}")
            words = [
                problem.surrogate(mode, row, reading) if rank_of(reading, problem.samples[row]) == RIGHT else old
                for row, reading, old in zip(rows.tolist(), readings, words, strict=True)
            ]
            chosen = torch.tensor([best.rank_N[row] != MISLED for row in rows.tolist()])
            if not chosen.any():
                return
            words = [one for one, stays in zip(words, chosen.tolist(), strict=True) if stays]
            rows, delta = rows[chosen], delta[chosen]
            # The words have changed with the image, so the score has to be taken anew.
            score = problem.score(rows, delta, words, loss, gradient=False).score_R
