"""Statistics, thin over numpy, scipy and statsmodels: intervals, paired tests, repeated draws, calibration.

Questions about one image (or one patient) are not independent. Where groups repeat, the number of questions is replaced
by the effective number (Korn and Graubard 1998; Dean and Pagano 2015): n divided by the design effect of the clustered
variance. A model that is nearly always right has too few wrong groups to tell how alike a group is, so a quarter of an
average group that is all right and a quarter that is all wrong stand beside the data, in the design effect only.

On simulated data (50 to 200 images of 1 to 4 questions, accuracy 0.05 to 0.97, correlation 0 to 0.95 within an image)
the Wilson interval of that number covers 95.0 to 95.7 % on average and 92.9 % at worst. Without the quarters the worst
is 88.8 %, plain Wilson falls to 73 %, the bootstrap over images to 54 % (percentile and BCa alike), because a resample
of a model that is nearly always right hardly varies.

Axes: N questions, K options (of the question that has most; further ones have probability 0).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import comb

import numpy as np

from medr1.types import Estimate, Prediction, Sample

BLOCK = 2_000_000
"""Numbers of a bootstrap that are drawn at once."""
PRIOR_GROUPS = 0.25
"""Groups of every extreme outcome that stand beside the data in a design effect; chosen by the simulation above."""


def proportion(
    hits: Sequence[bool] | Sequence[float],
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    draws: int = 1,
) -> Estimate:
    """Share of hits with its Wilson interval; of the effective number of questions where `groups` repeat.

    A hit may be a part (0..1), such as pass@k of a question that was drawn `draws` times: parts vary less than yes or
    no, so they are worth more questions, at most as many as there were draws.

    >>> proportion([True] * 8 + [False] * 2)  # doctest: +ELLIPSIS
    Estimate(value=0.8, low=0.490..., high=0.943..., n=10, groups=10, method='wilson')
    """
    from statsmodels.stats.proportion import proportion_confint

    assert len(hits), "an interval needs at least one observation"
    values = np.asarray(hits, dtype=float)
    mean, variance = values.mean(), values.var()
    size, n_groups = effective_size(values, groups, level, extremes=(0, 1))
    if draws > 1 and variance > 0:
        size = min(size * mean * (1 - mean) / variance, len(values) * draws)
    limits = proportion_confint(mean * size, size, alpha=1 - level, method="wilson")
    lo, hi = map(float, np.asarray(limits))
    method = _method("wilson", len(values), n_groups)
    value = sum(hits) / len(hits)  # exact where hits are whole numbers
    return Estimate(value=value, low=lo, high=hi, n=len(hits), groups=n_groups, method=method)


def paired_difference(
    first: Sequence[bool], second: Sequence[bool], groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """mean(second) - mean(first) over the same questions, in the same order, with its interval.

    Bonett and Price (2012): the Wald interval after one is added to each kind of flip, hence never empty; with the
    effective number of questions where `groups` repeat.
    """
    from scipy.stats import norm

    assert len(first) == len(second) > 0, "paired data have the same length"
    change = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    size, n_groups = effective_size(change, groups, level)
    gained, lost = (((change == sign).mean() * size + 1) / (size + 2) for sign in (1, -1))
    centre = float(gained - lost)
    half = float(norm.ppf((1 + level) / 2) * np.sqrt((gained + lost - centre**2) / (size + 2)))
    method = _method("bonett-price", len(change), n_groups)
    value, low, high = (sum(second) - sum(first)) / len(first), max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(value=value, low=low, high=high, n=len(first), groups=n_groups, method=method)


def bootstrap_mean(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, level: float = 0.95, *, seed: int = 0
) -> Estimate:
    """A mean with its percentile bootstrap over whole groups; for differences, not for accuracies near 0 or 1."""
    data = np.asarray(values, dtype=float)
    members, n_groups = group_indices(groups, len(data))
    drawn = resampled_totals(np.stack([np.bincount(members, data), np.bincount(members)], axis=1), seed=seed)
    lo, hi = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2]).tolist()
    method = _method("bootstrap", len(data), n_groups)
    return Estimate(value=float(data.mean()), low=lo, high=hi, n=len(data), groups=n_groups, method=method)


def resampled_totals(totals_GC: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Column sums (resamples, C) of G groups drawn with replacement; a row of `totals_GC` is one group's.

    A resample decides nothing but how often each kind of row occurs, so these counts are drawn: the same distribution
    as drawing groups, at a fraction of the work.
    """
    kinds, counts = np.unique(totals_GC, axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(kinds))
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    n_groups = len(totals_GC)
    return np.concatenate([random.multinomial(n_groups, counts / n_groups, size=size) @ kinds for size in blocks])


def effective_size(
    values: np.ndarray,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    extremes: Sequence[float] = (),
) -> tuple[float, int]:
    """How many independent observations `values` (N,) are worth, and the number of groups.

    N where no group repeats; N over the design effect otherwise, with the t correction of Korn and Graubard for few
    groups, and never more than N. Values that do not vary say nothing about their correlation: then every group counts
    once. Each of `extremes` adds `PRIOR_GROUPS` average groups of that value to the design effect.
    """
    from scipy.stats import t

    n = len(values)
    members, n_groups = group_indices(groups, n)
    if n_groups == n:
        return float(n), n
    residuals = values - values.mean()
    if n_groups == 1 or not residuals.any():
        return float(n_groups), n_groups
    average_group = (np.bincount(members) ** 2).sum() / n
    prior = PRIOR_GROUPS * ((np.asarray(extremes) - values.mean()) ** 2).sum()
    clustered = (np.bincount(members, residuals) ** 2).sum() * n_groups / (n_groups - 1) + prior * average_group**2
    independent = (residuals**2).sum() * n / (n - 1) + prior * average_group
    quantile = (1 + level) / 2
    few_groups = (t.ppf(quantile, n - 1) / t.ppf(quantile, n_groups - 1)) ** 2
    return float(min(n, n * few_groups * independent / max(clustered, 1e-12))), n_groups


def group_indices(groups: Sequence[Hashable] | None, n: int) -> tuple[np.ndarray, int]:
    """Number of the group of each of n values (N,), and how many groups there are; each its own without `groups`."""
    members = np.arange(n) if groups is None else np.unique([repr(g) for g in groups], return_inverse=True)[1]
    assert len(members) == n, "one group per value"
    return members, int(members.max()) + 1


def guess(options: Sequence[str]) -> float:
    """Probability that a guess is right: one of the options that are offered (an empty text is none)."""
    return 1 / max(1, sum(map(bool, options)))


def chance(samples: Iterable[Sample | Prediction]) -> float | None:
    """Expected accuracy of guessing: the mean of `guess` over the samples with options; None without such samples."""
    shares = [guess(sample.options) for sample in samples if sample.options]
    return sum(shares) / len(shares) if shares else None


def _method(name: str, n: int, n_groups: int) -> str:
    return name if n_groups == n else f"{name}-clustered"


# Two or more runs on the same questions: tests of their differences, adjustment for many, what n can show -----------

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


# Several completions of one question --------------------------------------------------------------------------------


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of k draws is right, when `right` of n were (unbiased; Chen et al. 2021, equation 1).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    assert 0 <= right <= n and 1 <= k <= n, "k draws out of n, of which some are right"
    return 1 - comb(n - right, k) / comb(n, k)


def majority_options(answers: Sequence[str | None]) -> tuple[str, ...]:
    """The commonest answers, several where they tie; None (unreadable) has no vote.

    >>> majority_options(["A", "B", None, "A", "B"])
    ('A', 'B')
    """
    votes = Counter(answer for answer in answers if answer is not None)
    most = max(votes.values(), default=0)
    return tuple(sorted(answer for answer, count in votes.items() if count == most))


def majority_hit(answers: Sequence[str | None], gold: str | None) -> float:
    """Expected accuracy of the majority vote (Wang et al. 2023), ties drawn at random; 0 where nothing was readable."""
    winners = majority_options(answers)
    return (gold in winners) / len(winners) if winners else 0.0


# What stated confidence is worth: calibration, selective prediction, temperature ------------------------------------

TEMPERATURES = (0.05, 50.0)
"""Limits of a fitted temperature; answers that are all right (or as good as random) run into them."""


def option_logits(logprobs: Sequence[Sequence[float]]) -> np.ndarray:
    """Log-probabilities of the options as one array (N, K), minus infinity beyond a question's own options."""
    logits_NK = np.full((len(logprobs), max(map(len, logprobs))), -np.inf)
    for row, values in zip(logits_NK, logprobs, strict=True):
        row[: len(values)] = values
    return logits_NK


def option_probabilities(logits_NK: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of the options (N, K); the logits need not be normalised."""
    from scipy.special import softmax

    return softmax(logits_NK / temperature, axis=1)


def expected_calibration_error(confidence: Sequence[float], hits: Sequence[float], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal mass (Nixon et al. 2019).

    Equal confidences share a bin, so that the order of the questions does not matter. Small samples make it too large.
    """
    from scipy.stats import rankdata

    confidence_N, hits_N = _checked(confidence, hits)
    bin_N = ((rankdata(confidence_N) - 0.5) / len(confidence_N) * bins).astype(int)
    return float(np.abs(np.bincount(bin_N, confidence_N - hits_N)).sum() / len(confidence_N))


def brier_score(probabilities_NK: np.ndarray, gold_N: np.ndarray) -> float:
    """Mean squared distance (0..2) of the probabilities from the right option (Brier 1950)."""
    wanted_NK = np.zeros_like(probabilities_NK)
    wanted_NK[np.arange(len(gold_N)), gold_N] = 1
    return float(((probabilities_NK - wanted_NK) ** 2).sum(axis=1).mean())


def log_loss(probabilities_NK: np.ndarray, gold_N: np.ndarray) -> float:
    """Mean negative log-probability of the right option, in nats; finite for a probability of 0."""
    right_N = probabilities_NK[np.arange(len(gold_N)), gold_N]
    return float(-np.log(np.maximum(right_N, np.finfo(float).eps)).mean())


def risk_coverage(confidence: Sequence[float], hits: Sequence[float]) -> np.ndarray:
    """Share of wrong answers (N,) among the 1, 2, … N most confident ones; expected over the orders of ties."""
    confidence_N, hits_N = _checked(confidence, hits)
    _, tie_N, size = np.unique(-confidence_N, return_inverse=True, return_counts=True)
    wrong = np.bincount(tie_N, 1 - hits_N) / size
    return np.cumsum(np.repeat(wrong, size)) / np.arange(1, len(hits_N) + 1)


def aurc(confidence: Sequence[float], hits: Sequence[float]) -> float:
    """Area under the risk-coverage curve (Geifman et al. 2019): mean risk over all coverages; lower is better."""
    return float(risk_coverage(confidence, hits).mean())


def accuracy_at_coverage(confidence: Sequence[float], hits: Sequence[float], coverage: float = 0.8) -> float:
    """Accuracy on the most confident share of the answers, at least that share of them."""
    risk_N = risk_coverage(confidence, hits)
    return float(1 - risk_N[int(np.ceil(coverage * len(risk_N) - 1e-9)) - 1])


def fit_temperature(logits_NK: np.ndarray, gold_N: np.ndarray) -> float:
    """Temperature with the least log loss (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(option_probabilities(logits_NK, float(np.exp(log_temperature))), gold_N)

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def cross_fitted(
    logits_NK: np.ndarray, gold_N: np.ndarray, groups: Sequence[Hashable], folds: int = 5
) -> tuple[np.ndarray, list[float]] | None:
    """Probabilities (N, K) at temperatures fitted on other groups, and the temperature of each fold.

    None with a single group: nothing is held out then.
    """
    from sklearn.model_selection import GroupKFold

    members, n_groups = group_indices(groups, len(logits_NK))
    if n_groups < 2:
        return None
    probabilities_NK = np.empty_like(logits_NK)
    temperatures = []
    for fit, held_out in GroupKFold(min(folds, n_groups)).split(members, groups=members):
        temperatures.append(fit_temperature(logits_NK[fit], gold_N[fit]))
        probabilities_NK[held_out] = option_probabilities(logits_NK[held_out], temperatures[-1])
    return probabilities_NK, temperatures


def _checked(confidence: Sequence[float], hits: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    assert len(confidence) == len(hits) > 0, "one confidence for every answer"
    return np.asarray(confidence, dtype=float), np.asarray(hits, dtype=float)
