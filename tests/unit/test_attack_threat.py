"""Budgets and projections, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medr1.attack.threat import ThreatModel, levels_of, project, realise, sign_noise, towards, uniform_start
from medr1.streams import stream


@pytest.mark.parametrize(("epsilon", "k"), [(0.03, 7), (8 / 255, 8), (2 / 255, 2), (1.0, 255), (0.0, 0), (0.0039, 0)])
def test_a_budget_is_never_more_than_epsilon(epsilon: float, k: int) -> None:
    assert levels_of(epsilon) == k
    assert k / 255 <= epsilon + 1e-8


@given(st.integers(0, 255), st.integers(0, 255), st.floats(-300, 300))
def test_a_realised_value_is_a_whole_level_within_budget_and_range(k: int, clean: int, delta: float) -> None:
    value = realise(torch.tensor([float(clean)]), project(torch.tensor([delta]), k)).item()
    assert value == int(value)
    assert 0 <= value <= 255
    assert abs(value - clean) <= k


def test_rounding_goes_to_the_nearest_level() -> None:
    clean = torch.tensor([100.0, 100.0])
    assert realise(clean, torch.tensor([0.6, -0.6])).tolist() == [101, 99]  # truncation would give 100 and 99


def test_towards_another_image() -> None:
    clean, other = torch.full((1, 1, 2, 3), 100.0), torch.tensor([[[[110.0, 90.0, 101.0], [100, 100, 200]]]])
    mask = torch.tensor([[[[1.0], [0.0]]]])
    moved = towards(other, clean, ThreatModel(k=4), mask)
    assert moved.tolist() == [[[[4, -4, 1], [0, 0, 0]]]]
    grey = towards(other, clean, ThreatModel(k=4, grey=True), None)
    assert grey[0, 0, :, 0].tolist() == pytest.approx([1 / 3, 4])


def test_random_numbers_follow_their_names() -> None:
    a, b, c = (uniform_start((4, 4, 3), 8, stream(0, name, "pgd", 8)) for name in ("x", "x", "y"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert float(a.abs().max()) <= 8
    assert set(sign_noise((9, 9, 1), 3, stream(1)).unique().tolist()) == {-3.0, 3.0}
