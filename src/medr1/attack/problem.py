"""A batch of samples under attack: what a search may ask, and the best image that it has found for each of them.

Axes: N samples of the batch, R rows still being attacked, H height, W width, C channels of a perturbation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medr1.attack.objective import Loss, Mode, Surrogate, letter_loss, margin, option_logits, surrogate, text_logprob
from medr1.attack.threat import ThreatModel, realise
from medr1.attack.victim import Reading, Victim
from medr1.models.shared.pack import PromptTensors
from medr1.types import LETTERS, ParseStatus, Sample

RIGHT, UNREADABLE, MISLED = range(3)
"""How far an attack has come with a sample, in order."""


def rank_of(reading: Reading, sample: Sample) -> int:
    """`MISLED` for another option, `UNREADABLE` for no option, `RIGHT` otherwise."""
    if reading.status is not ParseStatus.OK or reading.letter not in list(LETTERS[: len(sample.options)]):
        return UNREADABLE
    return RIGHT if reading.letter == sample.gold else MISLED


@dataclass(slots=True)
class Trace:
    """What it took, per sample, for the manifest and the checks."""

    forwards: int = 0
    backwards: int = 0
    generations: int = 0
    zero_gradients: float = 0.0
    """Largest share of values whose gradient was exactly zero."""
    margin_first: float | None = None
    margin_best: float | None = None
    found_by: str | None = None
    """Mode or start that changed the answer."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A forward pass over the rows."""

    score_R: Tensor
    margin_R: Tensor
    gradient_RHWC: Tensor | None


@dataclass(slots=True)
class Best:
    """The best perturbation of each sample so far, as whole grey levels."""

    delta_NHWC: Tensor
    rank_N: list[int]
    readings: list[Reading]
    traces: list[Trace] = field(default_factory=list)

    def open_rows(self) -> Tensor:
        """Samples whose answer has not changed yet."""
        return torch.tensor([n for n, rank in enumerate(self.rank_N) if rank != MISLED], dtype=torch.long)


class Problem:
    """A batch, with its images of one size, under one threat model.

    Args:
        victim: the model.
        samples: N questions with as many images each, one below the other.
        prompts: what `Victim.encode` made of them.
        clean_NHW3: 8-bit images.
        readings: the answers to them, from which the own words of the model are taken.
        threat: budget and kind of the perturbation.
        allowed_NHW1: 1 where a pixel may change; None: everywhere.
    """

    def __init__(
        self,
        victim: Victim,
        samples: Sequence[Sample],
        prompts: Sequence[PromptTensors],
        clean_NHW3: Tensor,
        readings: Sequence[Reading],
        threat: ThreatModel,
        allowed_NHW1: Tensor | None = None,
    ) -> None:
        self.victim, self.samples, self.prompts = victim, list(samples), list(prompts)
        self.readings, self.threat = list(readings), threat
        device = prompts[0].input_ids_L.device
        self.clean_NHW3 = clean_NHW3.to(device, victim.pixel_dtype)
        self.allowed_NHW1 = None if allowed_NHW1 is None else allowed_NHW1.to(device, victim.pixel_dtype)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a perturbation."""
        _, height, width, _ = self.clean_NHW3.shape
        return height, width, 1 if self.threat.grey else 3

    def nothing(self) -> Best:
        """No perturbation yet."""
        zero = self.clean_NHW3.new_zeros(len(self), *self.shape)
        ranks = [rank_of(reading, one) for reading, one in zip(self.readings, self.samples, strict=True)]
        return Best(zero, ranks, list(self.readings), [Trace() for _ in self.samples])

    def allowed(self, rows: Tensor) -> Tensor | None:
        """Mask of the pixels that may change in these rows."""
        return None if self.allowed_NHW1 is None else self.allowed_NHW1[rows]

    def surrogate(self, mode: Mode, row: int, reading: Reading) -> Surrogate:
        """The words to force, after the model's latest answer."""
        one = self.samples[row]
        assert one.answer_index is not None
        return surrogate(
            mode,
            self.victim.tokenizer,
            num_options=len(one.options),
            gold=one.answer_index,
            answer_format=self.victim.prompt.answer_format,
            completion=reading.completion,
            letter=reading.letter,
        )

    def score(
        self,
        rows: Tensor,
        delta_RHWC: Tensor,
        surrogates: Sequence[Surrogate],
        loss: Loss,
        *,
        gradient: bool = True,
        rounded: bool = True,
    ) -> Scored:
        """Score of the candidates, and its gradient, which passes the rounding to 8 bit unchanged.

        The scores are summed, never averaged: a sample's gradient must not depend on what else is in the batch.
        """
        with torch.set_grad_enabled(gradient):
            delta = delta_RHWC.detach().requires_grad_(gradient)
            clean = self.clean_NHW3[rows]
            moved = clean + delta
            candidate = moved + (realise(clean, delta) - moved).detach() if rounded else moved
            text_counts = any(one.text_sign for one in surrogates)
            keep = 1 + max(len(one.ids) for one in surrogates) if text_counts else 1
            prompts = [self.prompts[row] for row in rows.tolist()]
            logits = self.victim.logits(prompts, [one.ids for one in surrogates], candidate, keep=keep)
            letters = option_logits(logits[:, -1], surrogates)
            score = letter_loss(loss, letters, surrogates)
            if text_counts:
                score = score + text_logprob(logits, surrogates)
            slope = torch.autograd.grad(score.sum(), delta)[0] if gradient else None
        gold = torch.tensor([one.gold for one in surrogates], device=letters.device)
        return Scored(score.detach(), margin(letters.detach(), gold), slope)

    def judge(self, rows: Tensor, delta_RHWC: Tensor) -> list[Reading]:
        """Free generation from the 8-bit candidates."""
        if not len(rows):
            return []
        images = realise(self.clean_NHW3[rows], delta_RHWC)
        at = rows.tolist()
        return self.victim.generate([self.prompts[n] for n in at], images, [self.samples[n] for n in at])

    def consider(self, best: Best, rows: Tensor, delta_RHWC: Tensor, found_by: str) -> list[Reading]:
        """Judge candidates and keep those that lead further away from the right answer; ties go to the newer."""
        readings = self.judge(rows, delta_RHWC)
        for at, (row, reading) in enumerate(zip(rows.tolist(), readings, strict=True)):
            rank = rank_of(reading, self.samples[row])
            best.traces[row].generations += 1
            if rank >= best.rank_N[row]:
                best.delta_NHWC[row] = delta_RHWC[at].round()
                best.rank_N[row], best.readings[row] = rank, reading
                if rank == MISLED:
                    best.traces[row].found_by = found_by
        return readings

    def at_budget(self, threat: ThreatModel) -> "Problem":
        """The same batch under another threat model."""
        return Problem(
            self.victim, self.samples, self.prompts, self.clean_NHW3, self.readings, threat, self.allowed_NHW1
        )

    def images(self, best: Best) -> Tensor:
        """The adversarial images as 8-bit `(N, H, W, 3)`."""
        return realise(self.clean_NHW3, best.delta_NHWC).to(torch.uint8)
