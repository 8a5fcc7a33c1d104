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
    bootstrap_mean,
    chance,
    effective_size,
    group_indices,
    guess,
    paired_difference,
    proportion,
    resampled_totals,
)
from medr1.stats.paired import detectable_difference, holm, mcnemar, rank_ranges, sign_flip

__all__ = [
    "accuracy_at_coverage",
    "aurc",
    "bootstrap_mean",
    "brier_score",
    "chance",
    "cross_fitted",
    "detectable_difference",
    "effective_size",
    "expected_calibration_error",
    "fit_temperature",
    "group_indices",
    "guess",
    "holm",
    "log_loss",
    "majority_hit",
    "majority_options",
    "mcnemar",
    "option_logits",
    "option_probabilities",
    "paired_difference",
    "pass_at_k",
    "proportion",
    "rank_ranges",
    "resampled_totals",
    "risk_coverage",
    "sign_flip",
]
