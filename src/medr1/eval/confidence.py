"""Whether a run knows when it is right: calibration and selective answering, from option probabilities or votes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medr1.eval.measures import draws_of, group_of, is_right
from medr1.results.evaluated import Calibration, Confidence, Confidences, OptionConfidence, Scaled
from medr1.stats import (
    accuracy_at_coverage,
    aurc,
    brier_score,
    cross_fitted,
    expected_calibration_error,
    log_loss,
    majority_hit,
    majority_options,
    option_logits,
    option_probabilities,
    risk_coverage,
)
from medr1.types import LETTERS, Prediction

CURVE_POINTS = 20


def score_confidence(predictions: Sequence[Prediction]) -> Confidences | None:
    """The `confidence` block of the results; None without either kind.

    `options`: confidence is the probability of the answer given, among the options, at the place of the letter; after
    the model's own thinking it is near 0 or 1 by construction. `votes`: the share of draws that agree on the majority.
    """
    options, votes = _from_options(predictions), _from_votes(predictions)
    return Confidences(options=options, votes=votes) if options or votes else None


def _from_options(predictions: Sequence[Prediction]) -> OptionConfidence | None:
    answered = [p for p in predictions if _has_probabilities(p)]
    if not answered:
        return None
    logits_NK = option_logits([p.option_logprobs or () for p in answered])
    gold_N = np.array([LETTERS.index(p.gold or "") for p in answered])
    chosen_N = np.array([LETTERS.index(p.answer or "") for p in answered])
    hits = [is_right(p) for p in answered]

    def measured(probabilities_NK: np.ndarray) -> Calibration:
        confidence_N = probabilities_NK[np.arange(len(answered)), chosen_N]
        brier, loss = brier_score(probabilities_NK, gold_N), log_loss(probabilities_NK, gold_N)
        return _calibration(confidence_N, hits, brier=brier, log_loss=loss)

    probabilities_NK = option_probabilities(logits_NK)
    scaled = cross_fitted(logits_NK, gold_N, [group_of(p) for p in answered])
    chosen = _selection(probabilities_NK[np.arange(len(answered)), chosen_N], hits)
    return measured(probabilities_NK).extended(
        OptionConfidence,
        **chosen,
        n=len(answered),
        left_out=len(predictions) - len(answered),
        temperature_scaled=None if scaled is None else measured(scaled[0]).extended(Scaled, temperatures=scaled[1]),
    )


def _from_votes(predictions: Sequence[Prediction]) -> Confidence | None:
    questions = draws_of(predictions)
    if max(map(len, questions), default=0) < 2:
        return None
    voted = [draws for draws in questions if any(p.answer is not None for p in draws)]
    if not voted:
        return None
    confidence = np.array([_vote_share(draws) for draws in voted])
    hits = [majority_hit([p.answer for p in draws], draws[0].gold) for draws in voted]
    brier = float(np.mean([_vote_distance(draws) for draws in voted]))
    return _calibration(confidence, hits, brier=brier).extended(
        Confidence, **_selection(confidence, hits), n=len(voted), left_out=len(questions) - len(voted)
    )


def _has_probabilities(prediction: Prediction) -> bool:
    """A readable answer that is an option, a gold letter, and a number for every option of which some is finite."""
    values, letters = prediction.option_logprobs, LETTERS[: len(prediction.options)]
    return (
        values is not None
        and len(values) == len(letters)
        and any(np.isfinite(values))
        and not any(np.isnan(values))
        and prediction.answer in set(letters)
        and prediction.gold in set(letters)
    )


def _vote_share(draws: Sequence[Prediction]) -> float:
    answers = [p.answer for p in draws]
    return answers.count(majority_options(answers)[0]) / len(answers)


def _vote_distance(draws: Sequence[Prediction]) -> float:
    """Brier score of the vote shares; what could not be read is a share of its own."""
    shares = Counter(p.answer for p in draws)
    return sum((shares[a] / len(draws) - (a == draws[0].gold)) ** 2 for a in {*shares, draws[0].gold})


def _calibration(
    confidence: np.ndarray, hits: Sequence[float], *, brier: float, log_loss: float | None = None
) -> Calibration:
    return Calibration(
        mean_confidence=float(confidence.mean()),
        overconfidence=float(confidence.mean() - np.mean(hits)),
        ece=expected_calibration_error(confidence.tolist(), hits),
        brier=brier,
        log_loss=log_loss,
    )


def _selection(confidence: np.ndarray, hits: Sequence[float]) -> dict[str, object]:
    """What a `Confidence` holds beyond calibration."""
    values = confidence.tolist()
    risk_N = risk_coverage(values, hits)
    ends = np.unique(np.ceil(np.linspace(0, 1, CURVE_POINTS + 1)[1:] * len(hits)).astype(int))
    return {
        "accuracy": float(np.mean(hits)),
        "aurc": aurc(values, hits),
        "accuracy_at_80_percent": accuracy_at_coverage(values, hits, 0.8),
        "risk_coverage": [(float(end / len(hits)), float(risk_N[end - 1])) for end in ends],
    }
