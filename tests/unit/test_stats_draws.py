"""pass@k and the majority vote against enumeration."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.stats import majority_hit, majority_options, pass_at_k


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_choices_with_a_right_draw(case: tuple[int, int, int]) -> None:
    n, right, k = case
    draws = [True] * right + [False] * (n - right)
    choices = [any(chosen) for chosen in combinations(draws, k)]
    assert pass_at_k(n, right, k) == pytest.approx(sum(choices) / len(choices), abs=1e-12)


def test_pass_at_k_is_exact_for_many_draws() -> None:
    assert pass_at_k(1000, 1, 10) == pytest.approx(0.01, abs=1e-12)
    assert pass_at_k(1000, 0, 1000) == 0


@pytest.mark.parametrize(
    ("answers", "winners", "hit"),
    [
        (["A", "A", "B"], ("A",), 1.0),
        (["A", "B", None], ("A", "B"), 0.5),
        (["B", None, None], ("B",), 0.0),
        ([None, None], (), 0.0),
        (["A", "B", "C", "C", "B", "A"], ("A", "B", "C"), 1 / 3),
    ],
)
def test_majority(answers: list[str | None], winners: tuple[str, ...], hit: float) -> None:
    assert majority_options(answers) == winners
    assert majority_hit(answers, "A") == pytest.approx(hit)


def test_unreadable_draws_are_not_right_without_a_gold_letter() -> None:
    assert majority_hit([None], None) == 0.0
