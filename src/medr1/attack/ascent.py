"""Searches for an image. White box: FGSM, PGD with momentum or without, APGD, as one ascent with different ways to
step. Black box: the Square attack.

Every forward pass sees an 8-bit image (straight-through rounding), so each iterate is a file that could be written. The
best one is kept, judged by free generation every few steps; samples whose answer has changed leave the batch.

Axes: N samples, R rows still being attacked, H height, W width, C channels of a perturbation.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medr1.attack.objective import Loss, Mode, Surrogate, with_target
from medr1.attack.problem import MISLED, RIGHT, Best, Problem, rank_of
from medr1.attack.steps import Step
from medr1.attack.threat import project
from medr1.attack.victim import Reading
from medr1.streams import stream


def fgsm(problem: Problem, mode: Mode, loss: Loss = "ce") -> Best:
    """One full step along the sign of the gradient (Goodfellow et al. 2015); the sign of zero is zero.

    Nothing is tried or chosen, as in the literature.
    """
    best = problem.nothing()
    rows = torch.arange(len(problem))
    words = [problem.surrogate(mode, row, problem.readings[row]) for row in rows.tolist()]
    start = problem.nothing().delta_NHWC
    scored = problem.score(rows, start, words, loss)
    assert scored.gradient_RHWC is not None
    slope = scored.gradient_RHWC
    best.delta_NHWC = project(problem.threat.k * slope.sign(), problem.threat.k, problem.allowed(rows))
    for row, trace in enumerate(best.traces):
        trace.forwards = trace.backwards = 1
        trace.zero_gradients = float((slope[row] == 0).double().mean())
        trace.margin_first = float(scored.margin_R[row])
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascent:
    """One run of a gradient search."""

    steps: int
    mode: Mode
    loss: Loss = "margin"
    refresh: int = 5
    """Steps between two free generations, from which success is read and the forced words are renewed."""
    wrong: int = 0
    """For the targeted loss, which of the wrong options to lead to; those with fewer options start over."""

    def words(self, problem: Problem, row: int, reading: Reading) -> Surrogate:
        """What is forced for a row of the batch, after the model's latest answer."""
        one = problem.surrogate(self.mode, row, reading)
        return with_target(one, self.wrong) if self.loss == "targeted" else one


def ascend(problem: Problem, best: Best, start_NHWC: Tensor, step: Step, ascent: Ascent) -> None:
    """Search from `start` for every sample that is still open, and note what is better in `best`."""
    rows = best.open_rows()
    if not len(rows):
        return
    delta = start_NHWC[rows]
    words = [ascent.words(problem, row, problem.readings[row]) for row in rows.tolist()]
    top_score = torch.full((len(rows),), -torch.inf, dtype=delta.dtype, device=delta.device)
    top = delta
    for time in range(ascent.steps + 1):
        last = time == ascent.steps
        scored = problem.score(rows, delta, words, ascent.loss, gradient=not last)
        better = scored.score_R > top_score
        top = torch.where(better[:, None, None, None], delta, top)
        top_score = torch.maximum(scored.score_R, top_score)
        _note(best, rows, scored.margin_R, scored.gradient_RHWC)
        if last or (time and time % ascent.refresh == 0):
            readings = problem.consider(best, rows, top.round(), ascent.mode)
            chosen = torch.tensor([best.rank_N[row] != MISLED for row in rows.tolist()])
            if last or not chosen.any():
                return
            words = [
                ascent.words(problem, row, reading) if rank_of(reading, problem.samples[row]) == RIGHT else old
                for row, reading, old in zip(rows.tolist(), readings, words, strict=True)
            ]
            words = [one for one, stays in zip(words, chosen.tolist(), strict=True) if stays]
            rows, delta, top = rows[chosen], delta[chosen], top[chosen]
            top_score = torch.full_like(top_score[chosen], -torch.inf)
            step.keep(chosen)
            step.forget()
            gradient, score = scored.gradient_RHWC[chosen], scored.score_R[chosen]  # type: ignore[index]
        else:
            gradient, score = scored.gradient_RHWC, scored.score_R
        assert gradient is not None
        delta = project(step.move(delta, gradient, score), problem.threat.k, problem.allowed(rows))


def _note(best: Best, rows: Tensor, margin_R: Tensor, gradient: Tensor | None) -> None:
    for at, row in enumerate(rows.tolist()):
        trace = best.traces[row]
        trace.forwards += 1
        if trace.margin_first is None:
            trace.margin_first = float(margin_R[at])
        trace.margin_best = max(float(margin_R[at]), trace.margin_best or -float("inf"))
        if gradient is not None:
            trace.backwards += 1
            trace.zero_gradients = max(trace.zero_gradients, float((gradient[at] == 0).double().mean()))


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
    """Square attack (Andriushchenko et al. 2020), L-infinity: random search that needs no gradient.

    Its main use is as a test: where it beats PGD, the gradients are masked and the white-box figures mean nothing.
    Search every sample that is still open with at most `queries` forward passes, and note it in `best`."""
    rows = best.open_rows()
    if not len(rows):
        return
    height, width, channels = problem.shape
    k = problem.threat.k
    chances = {row: stream(seed, "square", problem.samples[row].id, k) for row in rows.tolist()}
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
