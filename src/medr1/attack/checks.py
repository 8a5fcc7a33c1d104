"""Reasons not to believe a robustness figure: fifteen checks, each passed, failed or not run.

A weak or broken attack makes every model look robust (Athalye et al. 2018; Carlini et al. 2019). Those here that need
the model run on a few samples of the run itself; those that need the files and tables are pure functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medr1.attack.craft import ATTACKS, Attack, Mode, craft
from medr1.attack.objective import Loss, Surrogate, with_target
from medr1.attack.problem import RIGHT, Best, Problem, Scored
from medr1.attack.threat import LEVELS
from medr1.attack.victim import Reading, pieces
from medr1.models.pixels import patchify, resize_to_grid, unpatchify
from medr1.models.shared.pack import backbone
from medr1.results.attacked import AttackedImage, CellScores
from medr1.streams import stream
from medr1.types import LETTERS, ParseStatus

Status = Literal["passed", "failed", "not_run"]

PIXEL_TOLERANCE = 1e-6
LOGIT_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.5, torch.float16: 0.1}
DERIVATIVE_TOLERANCE = 0.01
POINTS = 0.02
"""Change of robust accuracy that twice the steps may bring."""
NOISE_POINTS = 0.03
"""Loss of accuracy under random noise beyond which one should look."""

REQUIRED = (
    "preprocessing", "wrapper_logits", "gradient", "zero_budget", "budget_on_disk", "unbounded", "convergence",
    "black_box", "batch_independence", "planted_shortcut", "bookkeeping",
)  # fmt: skip
"""Without these no figure is called trustworthy."""
CHECKS = (*REQUIRED, "monotone", "order", "oracle", "engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of one check, with what was seen."""

    status: Status
    detail: str


def verdict(passed: bool, detail: str) -> Check:
    """Passed or failed."""
    return Check(status="passed" if passed else "failed", detail=detail)


def not_run(reason: str) -> Check:
    """Neither: says why."""
    return Check(status="not_run", detail=reason)


def trustworthy(checks: Mapping[str, Check]) -> bool:
    """No check failed, and every required one ran."""
    failed = any(check.status == "failed" for check in checks.values())
    return not failed and all(checks[name].status == "passed" for name in REQUIRED)


def preprocessing(problem: Problem) -> Check:
    """1: patches equal the stock processor's, and every pixel lands where it belongs."""
    victim = problem.victim
    clean = pieces(problem.clean_NHW3.cpu().double(), len(problem.samples[0].images))
    _, height, width, _ = clean.shape
    numbered = torch.arange(height * width * 3).reshape(1, height, width, 3) % 251
    images = torch.cat([clean, numbered.double()])
    stock = victim.image_processor(images=[Image.fromarray(one.byte().numpy()) for one in images], return_tensors="pt")
    on_grid = resize_to_grid(images, victim.image_processor)
    patches, grids = patchify(on_grid, victim.image_processor)
    error = float((patches - stock["pixel_values"].double()).abs().max())
    back = unpatchify(patches, victim.image_processor, *on_grid.shape[1:3])
    same = torch.equal(grids, stock["image_grid_thw"]) and torch.allclose(back, on_grid, atol=1e-6)
    if on_grid.shape != images.shape:
        return not_run(f"the images are resized (largest difference {error:.2g}); attack in the space 'grid'")
    return verdict(same and error <= PIXEL_TOLERANCE, f"largest difference {error:.1e}")


def wrapper_logits(problem: Problem, mode: Mode) -> Check:
    """2: padded batches through our pixels give the logits of the stock processor and model, one sample at a time."""
    victim, engine = problem.victim, problem.victim.engine
    words = [problem.surrogate(mode, row, reading) for row, reading in enumerate(problem.readings)]
    with torch.no_grad():
        ours = victim.logits(problem.prompts, [one.ids for one in words], problem.clean_NHW3, keep=1)[:, -1]
        worst = 0.0
        for row, one in enumerate(words):
            prompt = problem.prompts[row]
            kept = prompt.input_ids_L[None]
            inputs = {
                "input_ids": torch.cat([kept, kept.new_tensor([one.ids])], dim=1),
                "mm_token_type_ids": torch.cat([prompt.mm_token_type_ids_L, kept.new_zeros(len(one.ids))])[None],
                "pixel_values": prompt.pixel_values,
                "image_grid_thw": prompt.image_grid_thw,
            }
            backbone(engine.model).rope_deltas = None
            stock = engine.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1]
            worst = max(worst, float((ours[row] - stock.to(ours)).abs().max()))
    tolerance = LOGIT_TOLERANCE[engine.model.dtype]
    return verdict(worst <= tolerance, f"largest difference of a logit {worst:.1e}")


def gradient(problem: Problem, mode: Mode) -> Check:
    """3: the derivative along a direction is the central difference."""
    if problem.victim.dtype not in (torch.float64, torch.float32):
        return not_run("differences drown in the rounding of 16-bit weights; craft with --dtype float32")
    # In float32 the error is 0.1 at a width of 0.5, from the curvature, and least about 0.05, where rounding begins.
    width = 0.02 if problem.victim.dtype == torch.float64 else 0.05
    rows = torch.arange(len(problem))
    words = [problem.surrogate(mode, row, problem.readings[row]) for row in rows.tolist()]
    zero = problem.nothing().delta_NHWC
    slope = problem.score(rows, zero, words, "ce", rounded=False).gradient_RHWC
    assert slope is not None
    chance = torch.from_numpy(stream("direction").normal(size=slope.shape)).to(slope)
    along = slope / slope.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-30)
    along = along * slope[0].numel() ** 0.5 + chance
    analytic = (slope * along).flatten(1).sum(1)
    ahead, behind = (
        problem.score(rows, sign * width * along, words, "ce", gradient=False, rounded=False).score_R
        for sign in (1, -1)
    )
    error = ((ahead - behind) / (2 * width) - analytic).abs() / analytic.abs().clamp_min(1e-12)
    return verdict(bool(error.max() <= DERIVATIVE_TOLERANCE), f"largest relative error {float(error.max()):.1e}")


def zero_budget(problem: Problem, modes: Sequence[Mode], seed: int) -> Check:
    """4: with nothing to spend, images and answers stay as they are."""
    still = problem.at_budget(replace(problem.threat, k=0))
    changed = 0
    for name in ("noise", "fgsm", "pgd"):
        best = craft(still, ATTACKS[name], modes, seed=seed)
        changed += int((still.images(best) != problem.clean_NHW3.to(torch.uint8)).sum())
    again = [reading.letter for reading in problem.judge(torch.arange(len(problem)), still.nothing().delta_NHWC)]
    other = sum(a != b.letter for a, b in zip(again, problem.readings, strict=True))
    return verdict(changed == 0 and other == 0, f"{changed} values and {other} answers changed at k = 0")


def unbounded(problem: Problem, modes: Sequence[Mode], seed: int, starts: Mapping[str, Tensor]) -> Check:
    """7: with the whole range of grey levels no answer that depends on the image survives.

    `problem` holds samples whose answer changes under a control.
    """
    free = problem.at_budget(replace(problem.threat, k=LEVELS))
    best = craft(free, ATTACKS["pgd"], modes, seed=seed, starts=starts)
    left = best.rank_N.count(RIGHT)
    return verdict(left == 0, f"{left} of {len(free)} image-reliant answers survive k = {LEVELS}")


def black_box(problem: Problem, modes: Sequence[Mode], seed: int, queries: int, white_box: Best) -> Check:
    """10: random search does not beat the gradient, few gradients vanish, and the margin rises."""
    searched = craft(problem, replace(ATTACKS["square"], steps=queries), modes, seed=seed)
    square_left, pgd_left = searched.rank_N.count(RIGHT), white_box.rank_N.count(RIGHT)
    traces = [trace for trace in white_box.traces if trace.margin_first is not None and trace.margin_best is not None]
    rises = np.mean([(t.margin_best or 0) > (t.margin_first or 0) or t.found_by is not None for t in traces] or [True])
    zeros = max((trace.zero_gradients for trace in traces), default=0.0)
    detail = (
        f"of {len(problem)} right answers {pgd_left} survive PGD and {square_left} survive {queries} random queries; "
        f"share of zero gradients {zeros:.3f}; margin rose for {100 * rises:.0f} %"
    )
    return verdict(square_left >= pgd_left and zeros < 0.01 and bool(rises > 0.95), detail)


def batch_independence(problem: Problem, modes: Sequence[Mode], seed: int, attack: Attack) -> Check:
    """11: a sample gets the same bytes alone, among others and in another order (same answer in 16 bit)."""
    together = craft(problem, attack, modes, seed=seed)
    exact = problem.victim.dtype == torch.float64
    differing = 0
    turned = part(problem, list(range(len(problem)))[::-1])
    orders = [(turned, craft(turned, attack, modes, seed=seed))]
    orders += [(alone, craft(alone, attack, modes, seed=seed)) for alone in (part(problem, [0]), part(problem, [1]))]
    at = {one.id: row for row, one in enumerate(problem.samples)}
    for other, best in orders:
        for row, one in enumerate(other.samples):
            there = at[one.id]
            equal = torch.equal(other.images(best)[row], problem.images(together)[there])
            agrees = best.rank_N[row] == together.rank_N[there]
            differing += not (equal if exact else agrees)
    what = "bytes" if exact else "outcomes"
    return verdict(differing == 0, f"{differing} samples got other {what} alone or in another order")


def part(problem: Problem, rows: Sequence[int]) -> Problem:
    """Some rows of a batch as a batch of their own."""
    at = torch.tensor(list(rows), dtype=torch.long)
    return Problem(
        problem.victim,
        [problem.samples[row] for row in rows],
        [problem.prompts[row] for row in rows],
        problem.clean_NHW3[at],
        [problem.readings[row] for row in rows],
        problem.threat,
        problem.allowed(at),
    )


class Planted(Problem):
    """The same batch behind a model that one value of the image, at its full budget, leads astray.

    An adversarial image exists for certain, so an attack that misses it is broken (active test, Zimmermann et al.
    2022). Value and direction are random per sample.
    """

    gain = 1000.0

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Flat position of the planted value of each row, and the sign that it has room to move in."""
        places, signs = [], []
        for row in rows.tolist():
            values = self.clean_NHW3[row].flatten()
            chance = stream("planted", self.samples[row].id)
            places.append(int(chance.integers(len(values))))
            signs.append(1.0 if float(values[places[-1]]) <= LEVELS / 2 else -1.0)
        return torch.tensor(places), torch.tensor(signs)

    def bonus(self, rows: Tensor, delta_RHWC: Tensor) -> Tensor:
        """-gain on a clean image, +gain where the planted value has moved by its whole budget."""
        places, signs = (t.to(delta_RHWC.device) for t in self.places(rows))
        moved = delta_RHWC.flatten(1).gather(1, places[:, None])[:, 0] * signs.to(delta_RHWC)
        return self.gain * (2 * moved / self.threat.k - 1)

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
        """The score with the planted margin on top."""
        real = super().score(rows, delta_RHWC, surrogates, loss, gradient=gradient, rounded=rounded)
        delta = delta_RHWC.detach().requires_grad_(True)
        bonus = self.bonus(rows, delta)
        slope = None
        if real.gradient_RHWC is not None:
            slope = real.gradient_RHWC + torch.autograd.grad(bonus.sum(), delta)[0]
        bonus = bonus.detach()
        return Scored(real.score_R + bonus, real.margin_R + bonus, slope)

    def judge(self, rows: Tensor, delta_RHWC: Tensor) -> list[Reading]:
        """The right answer until the planted value has moved by its whole budget."""
        letters = [
            LETTERS[with_target(self.surrogate("direct", row, self.readings[row]), 0).target or 0]
            if led
            else str(self.samples[row].gold)
            for row, led in zip(rows.tolist(), (self.bonus(rows, delta_RHWC.round()) > 0).tolist(), strict=True)
        ]
        return [Reading(f"<answer>{letter}</answer>", letter, ParseStatus.OK) for letter in letters]


def planted_shortcut(problem: Problem, modes: Sequence[Mode], seed: int) -> Check:
    """12: the attack finds an adversarial image that surely exists."""
    coloured = replace(problem.threat, grey=False)
    planted = Planted(problem.victim, problem.samples, problem.prompts, problem.clean_NHW3, problem.readings, coloured)
    best = craft(planted, ATTACKS["pgd"], modes[:1], seed=seed)
    missed = best.rank_N.count(RIGHT)
    return verdict(missed == 0, f"{missed} of {len(planted)} planted shortcuts missed")


def budget_on_disk(lines: Sequence[AttackedImage], hash_of: Callable[[AttackedImage], str]) -> Check:
    """5: decoded from the files, no value moved further than the budget and the pixels are those of the manifest."""
    over = sum(line.realised.linf_levels > line.attack.k for line in lines)
    other = sum(hash_of(line) != line.pixel_sha256 for line in lines)
    return verdict(over == other == 0, f"of {len(lines)} files {over} exceed their budget and {other} have changed")


def monotone(curves: Mapping[str, Mapping[int, float]]) -> Check:
    """6: more budget never makes an attack weaker (nested: by construction)."""
    longer = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not longer:
        return not_run("only one budget was attacked")
    rising = [
        f"{name} from k = {a} to {b}"
        for name, curve in longer.items()
        for a, b in pairwise(sorted(curve))
        if curve[b] > curve[a] + 1e-12
    ]
    return verdict(not rising, f"accuracy rises for {', '.join(rising)}" if rising else "accuracy falls with k")


def order(clean: float, by_attack: Mapping[str, Mapping[int, float]]) -> Check:
    """8: pgd_strong <= pgd <= fgsm <= noise, and noise costs little."""
    ranked = [name for name in ("noise", "fgsm", "pgd", "pgd_strong") if name in by_attack]
    if len(ranked) < 2:
        return not_run("fewer than two attacks to compare")
    wrong = [
        f"{strong} is weaker than {weak} at k = {k}"
        for weak, strong in pairwise(ranked)
        for k in by_attack[weak].keys() & by_attack[strong].keys()
        if by_attack[strong][k] > by_attack[weak][k] + 1e-12
    ]
    noisy = [k for k, value in by_attack.get("noise", {}).items() if value < clean - NOISE_POINTS]
    wrong += [f"noise alone costs more than {100 * NOISE_POINTS:.0f} points at k = {k}" for k in noisy]
    return verdict(not wrong, "; ".join(wrong) or "stronger attacks leave less")


def bookkeeping(cells: Mapping[str, CellScores], n_asked: int) -> Check:
    """14: every sample is right, wrong or counted as failed (a crash is no success); wrong answers are left alone."""
    wrong = [
        name for name, cell in cells.items() if cell.n + cell.failed != n_asked or cell.failed or cell.attacked_wrong
    ]
    return verdict(
        not wrong, f"samples are missing in {', '.join(wrong)}" if wrong else "every sample is accounted for"
    )
