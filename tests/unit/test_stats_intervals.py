"""Intervals against statsmodels, scipy, simulations and values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, bootstrap
from statsmodels.stats.proportion import proportion_confint

from medr1.stats import (
    bootstrap_mean,
    chance,
    effective_size,
    paired_difference,
    proportion,
    resampled_totals,
)
from medr1.types import Sample


def hits_of(right: int, n: int) -> list[bool]:
    return [True] * right + [False] * (n - right)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (8, 10), (150, 300), (297, 300)])
def test_independent_samples_get_the_wilson_interval(right: int, n: int) -> None:
    interval = proportion(hits_of(right, n), groups=range(n))
    reference = binomtest(right, n).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert (interval.method, interval.groups) == ("wilson", n)


def test_level_is_respected() -> None:
    interval = proportion(hits_of(8, 10), level=0.8)
    assert (interval.low, interval.high) == pytest.approx(
        proportion_confint(8, 10, alpha=0.2, method="wilson"), abs=1e-12
    )


def test_effective_size_by_hand() -> None:
    # Two images of two questions, p = 3/4: residuals of the images 2·(1/4) = 1/2 and 1/4 - 3/4 = -1/2.
    # Clustered: (1/4 + 1/4)·2/1 = 1. Independent: (3·1/16 + 9/16)·4/3 = 1. So the design effect is 1, and only the
    # t correction is left: (t(.975, 3) / t(.975, 1))² = (3.182446 / 12.706205)².
    size, n_groups = effective_size(np.array([1.0, 1, 1, 0]), ["a", "a", "b", "b"])
    assert n_groups == 2
    assert size == pytest.approx(4 * (3.182446305 / 12.706204736) ** 2, rel=1e-8)


def test_copies_of_a_question_add_nothing() -> None:
    hits = hits_of(60, 100)
    copied = proportion([hit for hit in hits for _ in range(3)], [i for i in range(100) for _ in range(3)])
    once = proportion(hits)
    assert copied.groups == 100
    # Not exactly equal: (n - 1) / n of the variance and the t correction.
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.02)
    assert copied.method == "wilson-clustered"


def test_all_right_in_groups_counts_every_group_once() -> None:
    interval = proportion([True] * 40, [i // 4 for i in range(40)])
    assert (interval.low, interval.high) == pytest.approx(proportion_confint(10, 10, method="wilson"), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
def test_interval_holds_the_share_and_grouping_never_narrows_it(pairs: list[tuple[bool, int]]) -> None:
    hits = [hit for hit, _ in pairs]
    clustered = proportion(hits, [group for _, group in pairs])
    plain = proportion(hits)
    assert 0 <= clustered.low <= sum(hits) / len(hits) + 1e-12
    assert sum(hits) / len(hits) - 1e-12 <= clustered.high <= 1
    assert clustered.high - clustered.low >= plain.high - plain.low - 1e-12


def test_interval_does_not_depend_on_the_order() -> None:
    hits, groups = hits_of(20, 30), [i % 7 for i in range(30)]
    order = np.random.default_rng(0).permutation(30)
    shuffled = proportion([hits[i] for i in order], [groups[i] for i in order])
    straight = proportion(hits, groups)
    assert (shuffled.low, shuffled.high) == pytest.approx((straight.low, straight.high), abs=1e-12)


def test_paired_difference_by_hand() -> None:
    # 10 pairs, 4 gained, 1 lost: (4+1)/12 and (1+1)/12, difference 1/4, variance (7/12 - 1/16) / 12.
    first = [True] + [False] * 4 + [True] * 5
    second = [False] + [True] * 4 + [True] * 5
    interval = paired_difference(first, second)
    half = 1.959963984540054 * math.sqrt((7 / 12 - 1 / 16) / 12)
    assert (interval.low, interval.high) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-12)
    mirrored = paired_difference(second, first)
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_paired_difference_is_wider_for_clustered_changes() -> None:
    second = [True] * 20 + [False] * 20
    plain = paired_difference([False] * 40, second)
    clustered = paired_difference([False] * 40, second, [i // 4 for i in range(40)])
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)
    assert (plain.method, clustered.method) == ("bonett-price", "bonett-price-clustered")


def covered(right: float, same: float, n_images: int = 50, simulations: int = 500) -> float:
    """Share of simulated evaluations whose interval holds the truth."""
    random = np.random.default_rng(int(1000 * right + 7 * same))
    hold = 0
    for _ in range(simulations):
        groups = np.repeat(np.arange(n_images), random.integers(1, 5, n_images))
        shared, own = random.random(n_images)[groups], random.random(len(groups))
        hits = np.where(random.random(n_images)[groups] < same, shared, own) < right
        interval = proportion(hits.tolist(), groups.tolist())
        hold += interval.low <= right <= interval.high
    return hold / simulations


def test_clustered_intervals_cover_where_they_did_not_once() -> None:
    # Without the prior groups 0.905; plain Wilson 0.75.
    assert covered(0.95, 0.8) >= 0.92


def test_clustered_intervals_cover_over_a_grid() -> None:
    shares = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    coverage = [covered(right, same) for same in (0.3, 0.8) for right in shares]
    assert 0.94 <= np.mean(coverage) <= 0.96
    assert min(coverage) >= 0.92


@pytest.mark.parametrize("n", [50, 100, 300])
def test_independent_intervals_cover_exactly_counted(n: int) -> None:
    limits = [proportion(hits_of(right, n)) for right in range(n + 1)]
    lo, hi = np.array([(interval.low, interval.high) for interval in limits]).T
    coverage = [binom.pmf(np.arange(n + 1), n, p)[(lo <= p) & (p <= hi)].sum() for p in np.arange(0.02, 0.981, 0.01)]
    assert 0.94 <= np.mean(coverage) <= 0.96
    assert min(coverage) >= 0.92


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.5), (0.5, 0.7), (0.8, 0.9), (0.9, 0.95)])
def test_clustered_differences_cover(before: float, after: float) -> None:
    random, hold = np.random.default_rng(3), 0
    for _ in range(400):
        groups = np.repeat(np.arange(50), random.integers(1, 5, 50))
        same, alike = random.random(50)[groups] < 0.5, random.random(len(groups)) < 0.5
        first, second = (np.where(same, random.random(50)[groups], random.random(len(groups))) for _ in range(2))
        runs = (first < before, np.where(alike, first, second) < after)
        interval = paired_difference(*(run.tolist() for run in runs), groups.tolist())
        hold += interval.low <= after - before <= interval.high
    assert hold / 400 >= 0.92


def test_prior_groups_by_hand() -> None:
    # As above, with a quarter of a group of two at 0 and one at 1: their squares about 3/4 are 9/16 and 1/16, so the
    # prior is 5/32 a unit: clustered 1 + 4 · 5/32 = 13/8, independent 1 + 2 · 5/32 = 21/16.
    size, _ = effective_size(np.array([1.0, 1, 1, 0]), ["a", "a", "b", "b"], extremes=(0, 1))
    assert size == pytest.approx(4 * (3.182446305 / 12.706204736) ** 2 * (21 / 16) / (13 / 8), rel=1e-8)


def test_parts_of_a_hit_are_worth_the_draws_behind_them() -> None:
    random = np.random.default_rng(0)
    hits = random.random((300, 4)) < random.random((300, 1))
    mean = proportion(hits.ravel().tolist(), [i for i in range(300) for _ in range(4)])
    parts = proportion(hits.mean(axis=1).tolist(), draws=4)
    assert parts.high - parts.low == pytest.approx(mean.high - mean.low, rel=0.02)
    whole = proportion(hits[:, 0].tolist(), draws=4)
    assert (whole.low, whole.high) == pytest.approx(
        (lambda i: (i.low, i.high))(proportion(hits[:, 0].tolist())), abs=1e-12
    )


@pytest.mark.parametrize("groups", [None, [i // 3 for i in range(120)]])
def test_bootstrap_is_that_of_scipy(groups: list[int] | None) -> None:
    changes = np.random.default_rng(1).choice([-1, 0, 1], 120, p=[0.1, 0.6, 0.3])
    members = np.arange(120) if groups is None else np.array(groups)
    sums, sizes = np.bincount(members, changes), np.bincount(members)
    reference = bootstrap(
        (sums, sizes), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, method="percentile", rng=0
    ).confidence_interval
    interval = bootstrap_mean(changes.tolist(), groups)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), abs=0.012)
    assert interval.method == ("bootstrap" if groups is None else "bootstrap-clustered")
    assert bootstrap_mean(changes.tolist(), groups) == interval


def test_resampled_totals_keep_groups_whole() -> None:
    totals = np.array([[3.0, 3], [0, 1]])
    drawn = resampled_totals(totals, resamples=4000)
    assert {tuple(row) for row in drawn.tolist()} == {(6, 6), (3, 4), (0, 2)}
    assert np.mean(drawn[:, 1] == 4) == pytest.approx(0.5, abs=0.03)


def test_chance_is_the_mean_of_one_over_the_options() -> None:
    def sample(n_options: int) -> Sample:
        return Sample(id=str(n_options), images=(), question="?", options=("x",) * n_options)

    assert chance([sample(2), sample(4), sample(4), sample(0)]) == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert chance([sample(0)]) is None
