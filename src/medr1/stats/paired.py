"""Two or more runs on the same questions: tests of their differences, adjustment for many, and what n can show."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from medr1.stats.intervals import group_indices

ALPHA = 0.05
POWER = 0.8


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact two-sided p-value that the flips between two runs on the same questions go either way equally often."""
    from scipy.stats import binomtest

    assert len(first) == len(second), "paired data have the same length"
    flips = [after for before, after in zip(first, second, strict=True) if before != after]
    return float(binomtest(sum(flips), len(flips)).pvalue) if flips else 1.0


def sign_flip(first: Sequence[bool], second: Sequence[bool], groups: Sequence[Hashable] | None = None) -> float:
    """Exact two-sided p-value of the change under swapping the two runs within whole groups.

    All 2^G ways to swap are counted, not drawn: the groups with the same absolute change s, m of them, contribute
    s (2 Binomial(m, 1/2) - m) to the sum. Where no group repeats this is McNemar's exact test.

    >>> [round(sign_flip([False] * 3, [True] * 3, groups), 9) for groups in (None, ["a", "a", "b"])]
    [0.25, 0.5]
    """
    from scipy.stats import binom

    assert len(first) == len(second) > 0, "paired data have the same length"
    change = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    totals = np.bincount(group_indices(groups, len(change))[0], change).round().astype(int)
    chances = np.ones(1)
    for size, count in zip(*np.unique(np.abs(totals[totals != 0]), return_counts=True), strict=True):
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, part)
    reach = len(chances) // 2
    sums = np.arange(-reach, reach + 1)
    return float(min(1.0, chances[np.abs(sums) >= abs(totals.sum())].sum()))


def detectable_difference(n: float, flips: float, *, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Smallest difference in accuracy that a paired comparison of n questions finds with that power.

    McNemar's test where a share `flips` of the questions changes (Miettinen 1968; Connor 1987). `n` is the effective
    number where questions share images. None where not even flips in one direction only would be found.

    >>> round(detectable_difference(300, 0.2), 3)
    0.072
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    wanted, found = norm.ppf(1 - alpha / 2), norm.ppf(power)

    def surplus(difference: float) -> float:
        needed = wanted * np.sqrt(flips) + found * np.sqrt(max(0.0, flips - difference**2))
        return float(difference * np.sqrt(n) - needed)

    return float(brentq(surplus, 0, flips)) if flips > 0 and surplus(flips) >= 0 else None  # pyright: ignore


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family adjusted so that the chance of any false finding keeps to the level (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, method="holm")[1], float).tolist() if len(p_values) else []


def rank_ranges(
    scores: Mapping[str, float], p_values: Mapping[tuple[str, str], float], alpha: float = ALPHA
) -> dict[str, tuple[int, int]]:
    """Best and worst rank of each run that the data leave open; runs that share a rank are ties.

    `p_values` are those of the pairs, adjusted. A run ranks below those that are better beyond chance and above those
    that are worse beyond chance; equality is not transitive, hence a range.

    >>> rank_ranges({"a": 0.9, "b": 0.8, "c": 0.5}, {("a", "b"): 0.3, ("a", "c"): 0.001, ("b", "c"): 0.01})
    {'a': (1, 2), 'b': (1, 2), 'c': (3, 3)}
    """
    better = dict.fromkeys(scores, 0)
    worse = dict.fromkeys(scores, 0)
    for (first, second), p in p_values.items():
        if p < alpha and scores[first] != scores[second]:
            winner, loser = sorted((first, second), key=scores.__getitem__, reverse=True)
            better[loser] += 1
            worse[winner] += 1
    return {name: (1 + better[name], len(scores) - worse[name]) for name in scores}
