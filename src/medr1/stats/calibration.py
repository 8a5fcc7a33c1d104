"""What stated confidence is worth: calibration, selective prediction, temperature.

Axes: N questions, K options (of the question that has most; further ones have probability 0).
"""

from collections.abc import Hashable, Sequence

import numpy as np

from medr1.stats.intervals import group_indices

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
