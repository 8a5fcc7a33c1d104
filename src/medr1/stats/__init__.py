"""Statistics, thin over numpy, scipy and statsmodels: intervals, paired tests, repeated draws, calibration."""

from medr1.stats.calibration import (
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
from medr1.stats.draws import majority_hit, majority_options, pass_at_k
from medr1.stats.intervals import (
    Interval,
    bootstrap_interval,
    chance,
    effective_size,
    group_indices,
    paired_difference_interval,
    proportion_interval,
    resampled_totals,
)
from medr1.stats.paired import detectable_difference, holm, mcnemar, rank_ranges, sign_flip

__all__ = [
    "Interval",
    "accuracy_at_coverage",
    "aurc",
    "bootstrap_interval",
    "brier_score",
    "chance",
    "cross_fitted",
    "detectable_difference",
    "effective_size",
    "expected_calibration_error",
    "fit_temperature",
    "group_indices",
    "holm",
    "log_loss",
    "majority_hit",
    "majority_options",
    "mcnemar",
    "option_logits",
    "option_probabilities",
    "paired_difference_interval",
    "pass_at_k",
    "proportion_interval",
    "rank_ranges",
    "resampled_totals",
    "risk_coverage",
    "sign_flip",
]
