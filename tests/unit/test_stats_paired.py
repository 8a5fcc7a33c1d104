"""Paired tests, families of tests and power against enumeration, scipy, statsmodels and values worked out by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar

from medr1.stats import detectable_difference, holm, mcnemar, rank_ranges, sign_flip


def test_mcnemar_by_hand() -> None:
    # One flip one way, five the other: 2·(C(6,0) + C(6,1)) / 2^6 = 14 / 64. Agreements do not count.
    first = [True] + [False] * 5 + [True] * 50
    second = [False] + [True] * 5 + [True] * 50
    assert mcnemar(first, second) == pytest.approx(14 / 64, abs=1e-12)
    assert mcnemar(second, first) == pytest.approx(14 / 64, abs=1e-12)
    assert mcnemar(first, first) == 1.0


@pytest.mark.parametrize(("gained", "lost"), [(0, 3), (7, 2), (40, 55)])
def test_mcnemar_is_that_of_statsmodels(gained: int, lost: int) -> None:
    first = [False] * gained + [True] * (lost + 20)
    second = [True] * gained + [False] * lost + [True] * 20
    reference = exact_mcnemar(np.array([[0, gained], [lost, 20]]), exact=True)
    assert mcnemar(first, second) == pytest.approx(reference.pvalue, abs=1e-12)  # pyright: ignore


hits_in_groups = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=25)


@given(hits_in_groups)
def test_sign_flip_is_the_enumeration_of_all_swaps(rows: list[tuple[bool, bool, int]]) -> None:
    first, second, groups = zip(*rows, strict=True)
    totals = np.bincount(groups, np.subtract(second, first, dtype=float))
    sums = [abs(np.dot(signs, totals)) for signs in product((-1, 1), repeat=len(totals))]
    expected = np.mean([value >= abs(totals.sum()) - 1e-9 for value in sums])
    assert sign_flip(first, second, groups) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_sign_flip_without_groups_is_mcnemar(rows: list[tuple[bool, bool]]) -> None:
    first, second = zip(*rows, strict=True)
    assert sign_flip(first, second) == pytest.approx(mcnemar(first, second), abs=1e-12)


def test_sign_flip_is_that_of_scipy() -> None:
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(11), 3)
    first, second = random.random(33) < 0.4, random.random(33) < 0.7
    totals = np.bincount(groups, second.astype(float) - first)
    reference = permutation_test(
        (totals,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip(first.tolist(), second.tolist(), groups.tolist()) == pytest.approx(reference.pvalue, abs=1e-9)


def test_copies_of_a_flip_are_no_evidence() -> None:
    first, second = [False] * 40, [True] * 40
    assert sign_flip(first, second, [i // 10 for i in range(40)]) == pytest.approx(2 / 2**4)
    assert sign_flip(first, second) == pytest.approx(2 / 2**40, rel=1e-6)


def test_sign_flip_of_many_groups_is_quick_and_small() -> None:
    first, second = [False] * 20_000, [True] * 12_000 + [False] * 8_000
    groups = [i // (1 + i % 3) for i in range(20_000)]
    assert 0 <= sign_flip(first, second, groups) < 1e-100


@pytest.mark.parametrize(("n", "flips"), [(300, 0.2), (1000, 0.1), (50, 0.5)])
def test_detectable_difference_has_the_power(n: int, flips: float) -> None:
    # Power of the score test on the flips, counted exactly over how many of them there are and which way they go.
    found = detectable_difference(n, flips)
    assert found is not None
    power = 0.0
    for count in range(1, n + 1):
        gained = np.arange(count + 1)
        rejected = np.abs(2 * gained - count) > 1.959964 * np.sqrt(count)
        power += binom.pmf(count, n, flips) * binom.pmf(gained, count, (1 + found / flips) / 2)[rejected].sum()
    assert power == pytest.approx(0.8, abs=0.03)


def test_detectable_difference_by_the_formula() -> None:
    # Connor (1987): n = (1.959964 sqrt(psi) + 0.841621 sqrt(psi - d²))² / d².
    n = (1.959964 * 0.2**0.5 + 0.841621 * (0.2 - 0.05**2) ** 0.5) ** 2 / 0.05**2
    assert detectable_difference(n, 0.2) == pytest.approx(0.05, rel=1e-5)


def test_nothing_is_detectable_with_few_flips() -> None:
    assert detectable_difference(100, 0.0) is None
    assert detectable_difference(20, 0.05) is None


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1; never less than the one before.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_ranks_are_ranges_where_runs_cannot_be_told_apart() -> None:
    scores = {"a": 0.5, "b": 0.9, "c": 0.7}
    # b beats a; c is like both: equality is not transitive.
    close = {("a", "b"): 0.01, ("a", "c"): 0.2, ("b", "c"): 0.06}
    assert rank_ranges(scores, close) == {"a": (2, 3), "b": (1, 2), "c": (1, 3)}
    assert rank_ranges(scores, dict.fromkeys(close, 0.001)) == {"a": (3, 3), "b": (1, 1), "c": (2, 2)}
    assert rank_ranges(scores, dict.fromkeys(close, 1.0)) == dict.fromkeys(scores, (1, 3))
