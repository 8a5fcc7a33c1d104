"""Step rules on functions whose optimum is known."""

import pytest
import torch

from medr1.attack.craft import ATTACKS, Attack
from medr1.attack.steps import AdaptiveStep, SignStep, checkpoints
from medr1.attack.threat import project


def test_a_full_signed_step_is_optimal_on_a_linear_function() -> None:
    """FGSM reaches k times the 1-norm of the weights, the largest value there is in the ball."""
    weights = torch.tensor([[[[0.5, -2.0, 0.0]]]])
    start = torch.zeros_like(weights)
    moved = project(SignStep(4).move(start, weights, torch.zeros(1)), 4)
    assert float((weights * moved).sum()) == pytest.approx(4 * 2.5)
    assert moved[0, 0, 0, 2] == 0  # the sign of zero is zero


def test_momentum_by_hand() -> None:
    step = SignStep(1.0, momentum=1.0)
    first, second = torch.tensor([[[[4.0]]]]), torch.tensor([[[[-1.0]]]])
    zero = torch.zeros_like(first)
    assert float(step.move(zero, first, torch.zeros(1))) == 1.0  # velocity 4 / 4
    assert float(step.move(zero, second, torch.zeros(1))) == 0.0  # velocity 1 - 1
    assert float(step.move(zero, second, torch.zeros(1))) == -1.0


def test_checkpoints_of_the_paper() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


def climb(step, steps: int = 40, rows: int = 2) -> torch.Tensor:
    """Ascent on minus the squared distance to a point off the whole levels."""
    goal = torch.tensor([3.3, -5.7, 1.1])
    delta = torch.full((rows, 1, 1, 3), 8.0)
    best = torch.full((rows,), -torch.inf)
    for time in range(steps):
        score = -((delta - goal) ** 2).flatten(1).sum(1)
        best = torch.maximum(best, score)
        delta = project(step.move(delta, -2 * (delta - goal), score), 8)
        if time == 5 and rows > 1:
            chosen = torch.tensor([False, True])
            step.keep(chosen)
            delta, best = delta[chosen], best[chosen]
    return best


def test_adaptive_steps_come_closer_than_fixed_ones() -> None:
    adaptive, fixed = climb(AdaptiveStep(8, 40)), climb(SignStep(4.0))
    assert float(adaptive) > -0.5
    assert float(adaptive) > float(fixed)


def test_dropping_other_rows_changes_nothing() -> None:
    assert torch.equal(climb(AdaptiveStep(8, 40)), climb(AdaptiveStep(8, 40), rows=1))


@pytest.mark.parametrize(
    ("k", "steps", "asked", "size"), [(8, 20, None, 2.0), (2, 20, None, 1.0), (8, 40, None, 1.0), (8, 20, 3.0, 3.0)]
)
def test_the_steps_of_a_fixed_size_span_the_budget_five_times(
    k: int, steps: int, asked: float | None, size: float
) -> None:
    step = Attack(name="any", kind="ascent", description="", steps=steps, step_size=asked).step(k)
    assert isinstance(step, SignStep)
    assert step.size == size
    assert isinstance(ATTACKS["apgd"].step(k), AdaptiveStep)
