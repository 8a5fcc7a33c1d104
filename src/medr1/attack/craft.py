"""The attacks by name, and one of them on a batch.

A variation is a value: FGSM, PGD, MI, APGD differ in steps, step rule, loss and restarts alone. The
typographic one needs no model and no budget: an answer written into a corner of the picture (prompt injection by
image), the cheapest attack that a hospital may really meet (Clusmann et al., Nature Communications 2025).

Axes: N samples, H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medr1.answers import AnswerFormat
from medr1.attack.ascent import Ascent, ascend, fgsm, square
from medr1.attack.objective import Loss, Mode, with_target
from medr1.attack.problem import Best, Problem
from medr1.attack.steps import AdaptiveStep, SignStep, Step, fixed_size
from medr1.attack.threat import LEVELS, sign_noise, towards, uniform_start
from medr1.errors import ConfigError
from medr1.streams import stream
from medr1.types import LETTERS

Kind = Literal["noise", "typographic", "fgsm", "ascent", "square"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A search and its settings."""

    name: str
    kind: Kind
    description: str
    steps: int = 0
    """Gradient steps, or queries of Square."""
    losses: tuple[Loss, ...] = ("ce",)
    restarts: int = 1
    momentum: float = 0.0
    step_size: float | None = None
    """Grey levels of a fixed step, at least one; None takes `fixed_size`."""
    adaptive: bool = False
    """Step sizes of APGD instead of a fixed one."""
    refresh: int = 5
    """Steps between two free generations."""

    @property
    def nested(self) -> bool:
        """Whether the search at a budget starts from what it found at the next smaller one."""
        return self.kind in ("ascent", "square")

    @property
    def bounded(self) -> bool:
        """Whether the budget k means anything to it."""
        return self.kind != "typographic"

    def step(self, k: int) -> Step:
        """The step rule at a budget."""
        if self.adaptive:
            return AdaptiveStep(k, self.steps)
        size = fixed_size(k, self.steps) if self.step_size is None else max(1.0, self.step_size)
        return SignStep(size, self.momentum)


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack(name="noise", kind="noise", description="random +k or -k per value: the control"),
        Attack(name="fgsm", kind="fgsm", steps=1, description="one full step along the sign of the gradient"),
        Attack(
            name="pgd", kind="ascent", steps=20, restarts=4, description="projected gradient ascent, 20 steps, 4 starts"
        ),
        Attack(
            name="pgd_strong",
            kind="ascent",
            steps=100,
            losses=("ce", "margin", "targeted"),
            restarts=3,
            description="100 steps, three losses, three restarts",
        ),
        Attack(
            name="apgd",
            kind="ascent",
            steps=100,
            losses=("ce", "margin"),
            adaptive=True,
            description="adaptive step sizes (Croce and Hein 2020)",
        ),
        Attack(
            name="mi", kind="ascent", steps=20, momentum=1.0, description="PGD with momentum, for transfer to others"
        ),
        Attack(name="square", kind="square", steps=1000, losses=("margin",), description="black box: random squares"),
        Attack(name="typographic", kind="typographic", description="a wrong answer written into a corner; no budget"),
    )
}
"""What `medr1 attack --attack` takes, by name."""


def default_modes(answer_format: AnswerFormat) -> tuple[Mode, ...]:
    """What is forced before the letter where nothing is asked for: the strongest modes known for the answer format."""
    return ("joint", "stop") if answer_format == "think" else ("direct",)


def named_attack(name: str, **changes: int) -> Attack:
    """An attack with some settings changed. Raises `ConfigError` for an unknown name."""
    if name not in ATTACKS:
        raise ConfigError(f"there is no attack {name!r}; choose one of {', '.join(ATTACKS)}")
    return replace(ATTACKS[name], **changes)  # type: ignore[arg-type]


def craft(
    problem: Problem, attack: Attack, modes: Sequence[Mode], *, seed: int, starts: Mapping[str, Tensor] | None = None
) -> Best:
    """The best image of every sample that the attack finds.

    Args:
        problem: the batch and its budget; at k = 0 nothing changes.
        modes: what is forced before the letter, one after the other on what is still open.
        seed: with the sample, the attack and the budget it fixes every random number.
        starts: images `(N, H, W, 3)` that are tried first and that the ascent may begin from: blank, swapped, the best
            one at a smaller budget.
    """
    everyone = torch.arange(len(problem))
    if problem.threat.k == 0 and attack.bounded:
        return problem.nothing()
    match attack.kind:
        case "noise":
            best = problem.nothing()
            best.delta_NHWC = _drawn(problem, sign_noise, everyone, seed, "noise")
            return best
        case "typographic":
            return _typographic(problem)
        case "fgsm":
            return fgsm(problem, modes[0], attack.losses[0])
    return _searched(problem, attack, modes, seed, starts or {})


def _searched(problem: Problem, attack: Attack, modes: Sequence[Mode], seed: int, starts: Mapping[str, Tensor]) -> Best:
    """Every restart, mode and loss in turn, on what is still open."""
    everyone = torch.arange(len(problem))
    best = problem.nothing()
    for name, image in starts.items():
        rows = best.open_rows()
        problem.consider(best, rows, _towards(problem, rows, image), name)
    given = [_towards(problem, everyone, image) for image in starts.values()]
    for restart, mode in product(range(attack.restarts), modes):
        if attack.kind == "square":
            square(problem, best, attack.steps, mode, seed + restart, attack.losses[0])
            continue
        for loss in attack.losses:
            start = _drawn(problem, uniform_start, everyone, seed, attack.name, loss, mode, restart)
            if given:
                start, given = _best_start(problem, best, [start, *given], mode), []
            ascent = Ascent(steps=attack.steps, mode=mode, loss=loss, refresh=attack.refresh)
            for wrong in range(_wrong_options(problem) if loss == "targeted" else 1):
                aimed = replace(ascent, wrong=wrong)
                ascend(problem, best, start, attack.step(problem.threat.k), aimed)
    return best


def _wrong_options(problem: Problem) -> int:
    return max(len(one.options) for one in problem.samples) - 1


def _best_start(problem: Problem, best: Best, starts: Sequence[Tensor], mode: Mode) -> Tensor:
    """Of several perturbations the one with the highest score, for each sample that is still open."""
    rows = best.open_rows()
    chosen = starts[0].clone()
    if not len(rows):
        return chosen
    words = [problem.surrogate(mode, row, problem.readings[row]) for row in rows.tolist()]
    top = None
    for start in starts:
        score = problem.score(rows, start[rows], words, "ce", gradient=False).score_R
        better = torch.ones_like(score, dtype=torch.bool) if top is None else score > top
        at = rows[better.cpu()]  # the rows are numbers of samples, on the CPU wherever the pictures are
        chosen[at] = start[at]
        top = score if top is None else torch.maximum(score, top)
    return chosen


def _towards(problem: Problem, rows: Tensor, image_NHW3: Tensor) -> Tensor:
    return towards(image_NHW3[rows], problem.clean_NHW3[rows], problem.threat, problem.allowed(rows))


def _drawn(
    problem: Problem,
    draw: Callable[[tuple[int, ...], int, np.random.Generator], Tensor],
    rows: Tensor,
    seed: int,
    *names: object,
) -> Tensor:
    """A random perturbation of each row, from its own random numbers."""
    k = problem.threat.k
    drawn = [
        draw(problem.shape, k, stream(seed, problem.samples[row].id, k, *names)).to(problem.clean_NHW3)
        for row in rows.tolist()
    ]
    delta = torch.stack(drawn)
    allowed = problem.allowed(rows)
    return delta if allowed is None else delta * allowed


def _typographic(problem: Problem) -> Best:
    """The wrong letter that misleads, of all of them."""
    assert problem.threat.k == LEVELS and not problem.threat.grey, "text is drawn without a budget"
    best = problem.nothing()
    for wrong in range(_wrong_options(problem)):
        rows = best.open_rows()
        deltas = [problem.clean_NHW3.new_zeros(0, *problem.shape)]
        for row in rows.tolist():
            words = with_target(problem.surrogate("direct", row, problem.readings[row]), wrong)
            assert words.target is not None
            clean = problem.clean_NHW3[row]
            written = with_text(clean.byte().cpu().numpy(), f"Answer: {LETTERS[words.target]}")
            deltas.append((torch.from_numpy(written).to(clean) - clean)[None])
        problem.consider(best, rows, torch.cat(deltas), "text")
    return best


MAX_SHARE = 0.02
"""Of the image's area, for the box with the text."""


def with_text(image: NDArray[np.uint8], text: str, max_share: float = MAX_SHARE) -> NDArray[np.uint8]:
    """The image (H, W, 3) with black text on a white box in its lower left corner, at most `max_share` of its area."""
    height, width = image.shape[:2]
    font = ImageFont.load_default(64)
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("L", (int(right - left) + 16, int(bottom - top) + 16), 255)
    ImageDraw.Draw(label).text((8 - left, 8 - top), text, fill=0, font=font)
    scale = min((max_share * height * width / (label.width * label.height)) ** 0.5, width / label.width)
    size = max(1, int(label.width * scale)), max(1, int(label.height * scale))
    box = np.asarray(label.resize(size, Image.Resampling.LANCZOS))
    written = image.copy()
    written[height - size[1] :, : size[0]] = box[:, :, None]
    return written
