"""Intervals and paired tests against statsmodels, scipy and values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.proportion import proportion_confint

from medr1.stats import chance, effective_size, mcnemar, paired_difference_interval, proportion_interval
from medr1.types import Sample


def hits_of(right: int, n: int) -> list[bool]:
    return [True] * right + [False] * (n - right)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (8, 10), (150, 300), (297, 300)])
def test_independent_samples_get_the_wilson_interval(right: int, n: int) -> None:
    interval = proportion_interval(hits_of(right, n), groups=range(n))
    reference = binomtest(right, n).proportion_ci(method="wilson")
    assert (interval.lo, interval.hi) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert (interval.method, interval.n_groups) == ("wilson", n)


def test_level_is_respected() -> None:
    interval = proportion_interval(hits_of(8, 10), level=0.8)
    assert (interval.lo, interval.hi) == pytest.approx(proportion_confint(8, 10, alpha=0.2, method="wilson"), abs=1e-12)


def test_effective_size_by_hand() -> None:
    # Two images of two questions, p = 3/4: residuals of the images 2·(1/4) = 1/2 and 1/4 - 3/4 = -1/2.
    # Clustered: (1/4 + 1/4)·2/1 = 1. Independent: (3·1/16 + 9/16)·4/3 = 1. So the design effect is 1, and only the
    # t correction is left: (t(.975, 3) / t(.975, 1))² = (3.182446 / 12.706205)².
    size, n_groups = effective_size(np.array([1.0, 1, 1, 0]), ["a", "a", "b", "b"])
    assert n_groups == 2
    assert size == pytest.approx(4 * (3.182446305 / 12.706204736) ** 2, rel=1e-8)


def test_copies_of_a_question_add_nothing() -> None:
    hits = hits_of(60, 100)
    copied = proportion_interval([hit for hit in hits for _ in range(3)], [i for i in range(100) for _ in range(3)])
    once = proportion_interval(hits)
    assert copied.n_groups == 100
    # Not exactly equal: (n - 1) / n of the variance and the t correction.
    assert copied.hi - copied.lo == pytest.approx(once.hi - once.lo, rel=0.02)
    assert copied.method == "wilson-clustered"


def test_all_right_in_groups_counts_every_group_once() -> None:
    interval = proportion_interval([True] * 40, [i // 4 for i in range(40)])
    assert (interval.lo, interval.hi) == pytest.approx(proportion_confint(10, 10, method="wilson"), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
def test_interval_holds_the_share_and_grouping_never_narrows_it(pairs: list[tuple[bool, int]]) -> None:
    hits = [hit for hit, _ in pairs]
    clustered = proportion_interval(hits, [group for _, group in pairs])
    plain = proportion_interval(hits)
    assert 0 <= clustered.lo <= sum(hits) / len(hits) + 1e-12
    assert sum(hits) / len(hits) - 1e-12 <= clustered.hi <= 1
    assert clustered.hi - clustered.lo >= plain.hi - plain.lo - 1e-12


def test_interval_does_not_depend_on_the_order() -> None:
    hits, groups = hits_of(20, 30), [i % 7 for i in range(30)]
    order = np.random.default_rng(0).permutation(30)
    shuffled = proportion_interval([hits[i] for i in order], [groups[i] for i in order])
    straight = proportion_interval(hits, groups)
    assert (shuffled.lo, shuffled.hi) == pytest.approx((straight.lo, straight.hi), abs=1e-12)


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


def test_paired_difference_by_hand() -> None:
    # 10 pairs, 4 gained, 1 lost: (4+1)/12 and (1+1)/12, difference 1/4, variance (7/12 - 1/16) / 12.
    first = [True] + [False] * 4 + [True] * 5
    second = [False] + [True] * 4 + [True] * 5
    interval = paired_difference_interval(first, second)
    half = 1.959963984540054 * math.sqrt((7 / 12 - 1 / 16) / 12)
    assert (interval.lo, interval.hi) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-12)
    mirrored = paired_difference_interval(second, first)
    assert (mirrored.lo, mirrored.hi) == pytest.approx((-interval.hi, -interval.lo), abs=1e-12)


def test_paired_difference_is_wider_for_clustered_changes() -> None:
    second = [True] * 20 + [False] * 20
    plain = paired_difference_interval([False] * 40, second)
    clustered = paired_difference_interval([False] * 40, second, [i // 4 for i in range(40)])
    assert clustered.hi - clustered.lo > 1.5 * (plain.hi - plain.lo)
    assert (plain.method, clustered.method) == ("bonett-price", "bonett-price-clustered")


@pytest.mark.parametrize(("n_images", "right", "same"), [(30, 0.5, 0.8), (60, 0.85, 0.5), (60, 0.97, 0.5)])
def test_clustered_intervals_cover(n_images: int, right: float, same: float) -> None:
    """Of 300 simulated evaluations at least 92 % hold the truth; plain Wilson would hold 75 to 88 %."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        groups = np.repeat(np.arange(n_images), random.integers(1, 5, n_images))
        shared, own = random.random(n_images)[groups], random.random(len(groups))
        hits = np.where(random.random(n_images)[groups] < same, shared, own) < right
        interval = proportion_interval(list(hits), list(groups))
        covered += interval.lo <= right <= interval.hi
    assert covered / 300 >= 0.92


def test_chance_is_the_mean_of_one_over_the_options() -> None:
    def sample(n_options: int) -> Sample:
        return Sample(id=str(n_options), images=(), question="?", options=("x",) * n_options)

    assert chance([sample(2), sample(4), sample(4), sample(0)]) == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert chance([sample(0)]) is None
