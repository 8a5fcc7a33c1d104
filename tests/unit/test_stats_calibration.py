"""Calibration and selective prediction against scikit-learn and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from medr1.stats import (
    accuracy_at_coverage,
    aurc,
    brier_score,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    option_logits,
    option_probabilities,
    risk_coverage,
)

pairs = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=30)


def test_probabilities_of_ragged_options() -> None:
    logits = option_logits([[np.log(0.1), np.log(0.3)], [np.log(0.2), np.log(0.2), np.log(0.4)]])
    assert option_probabilities(logits) == pytest.approx(np.array([[0.25, 0.75, 0], [0.25, 0.25, 0.5]]))
    # Temperature 1/2 squares the odds.
    assert option_probabilities(logits, 0.5)[0] == pytest.approx([0.1, 0.9, 0])


def test_calibration_error_by_hand() -> None:
    # Two bins of two: |0.6 - 1| and |0.9 - 0.5|, each of half of the answers.
    assert expected_calibration_error([0.55, 0.65, 0.85, 0.95], [1, 1, 0, 1], bins=2) == pytest.approx(0.4)
    # Gaps within a bin cancel before they count.
    assert expected_calibration_error([0.5, 0.5], [1, 0], bins=2) == pytest.approx(0.0)


@given(pairs, st.randoms())
def test_measures_do_not_depend_on_the_order(rows: list[tuple[float, bool]], random) -> None:
    again = list(rows)
    random.shuffle(again)
    for measure in (expected_calibration_error, aurc, accuracy_at_coverage):
        first, second = (measure(*zip(*order, strict=True)) for order in (rows, again))
        assert first == pytest.approx(second, abs=1e-12)
        assert 0 <= first <= 1


def test_brier_and_log_loss_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    probabilities, gold = random.dirichlet(np.ones(4), 50), random.integers(0, 4, 50)
    reference = sum(brier_score_loss(gold == option, probabilities[:, option]) for option in range(4))
    assert brier_score(probabilities, gold) == pytest.approx(reference, abs=1e-12)
    assert log_loss(probabilities, gold) == pytest.approx(sklearn_log_loss(gold, probabilities, labels=range(4)))
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]]), np.array([1])))


def test_risk_coverage_by_hand() -> None:
    confidence, hits = [0.9, 0.8, 0.7, 0.6], [True, False, True, False]
    assert risk_coverage(confidence, hits) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(confidence, hits) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert accuracy_at_coverage(confidence, hits, 0.75) == pytest.approx(2 / 3)
    # 0.8 of four answers takes all four.
    assert accuracy_at_coverage(confidence, hits) == pytest.approx(1 / 2)
    assert accuracy_at_coverage([0.5 - i / 100 for i in range(10)], [True] * 8 + [False] * 2) == 1.0


def test_ties_count_by_what_is_expected() -> None:
    assert risk_coverage([1.0, 1.0, 0.5], [False, True, True]) == pytest.approx([1 / 2, 1 / 2, 1 / 3])


def overconfident(n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and right options drawn from their probabilities at a temperature."""
    random = np.random.default_rng(2)
    logits = log_softmax(random.normal(0, 6, (n, 4)), axis=1)
    probabilities = option_probabilities(logits, temperature)
    return logits, np.array([random.choice(4, p=row) for row in probabilities])


def test_temperature_is_found_and_minimises_the_loss() -> None:
    logits, gold = overconfident(4000, 3.0)
    temperature = fit_temperature(logits, gold)
    assert temperature == pytest.approx(3.0, rel=0.05)
    losses = [log_loss(option_probabilities(logits, temperature * by), gold) for by in (0.98, 1, 1.02)]
    assert min(losses) == losses[1]


def test_cross_fitted_probabilities_come_from_other_groups() -> None:
    logits, gold = overconfident(200, 3.0)
    groups = [i // 2 for i in range(200)]
    fitted = cross_fitted(logits, gold, groups)
    assert fitted is not None
    probabilities, temperatures = fitted
    assert len(temperatures) == 5
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    assert log_loss(probabilities, gold) < log_loss(option_probabilities(logits), gold)
    # Another right option in one group changes nothing of that group's own probabilities.
    changed = gold.copy()
    changed[:2] = (changed[:2] + 1) % 4
    again = cross_fitted(logits, changed, groups)
    assert again is not None
    assert again[0][:2] == pytest.approx(probabilities[:2], abs=1e-12)
    assert again[0] != pytest.approx(probabilities, abs=1e-6)
    assert cross_fitted(logits, gold, [0] * 200) is None
