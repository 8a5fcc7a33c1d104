"""The confidence block of the results, by hand."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from medr1.eval.confidence import score_confidence as _score_confidence
from medr1.types import Prediction
from stored_runs import drawn
from written import as_written

score_confidence = as_written(_score_confidence)


def stated(answer: str, probabilities: tuple[float, ...], number: int = 0) -> Prediction:
    """An answer with option probabilities; the right one is A. Logits are shifted: they need not be normalised."""
    prediction = drawn({f"q{number}": answer})[0]
    options = ("x", "y", "z")[: len(probabilities)]
    return replace(prediction, options=options, option_logprobs=tuple(log(p) - 1 for p in probabilities))


def test_option_probabilities_by_hand() -> None:
    run = [
        stated("A", (0.9, 0.1), 0),
        stated("B", (0.2, 0.8), 1),
        stated("A", (0.6, 0.3, 0.1), 2),
        replace(stated("A", (0.9, 0.1), 3), option_logprobs=None),
        replace(stated("A", (0.9, 0.1), 4), answer=None),
    ]
    confidence = score_confidence(run)
    assert confidence is not None
    assert confidence["votes"] is None
    found = confidence["options"]
    assert (found["n"], found["left_out"]) == (3, 2)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["mean_confidence"] == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert found["overconfidence"] == pytest.approx((0.9 + 0.8 + 0.6) / 3 - 2 / 3)
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.4) / 3)
    assert found["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.8**2 + 0.4**2 + 0.3**2 + 0.1**2) / 3)
    assert found["log_loss"] == pytest.approx(-(log(0.9) + log(0.2) + log(0.6)) / 3)
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert found["accuracy_at_80_percent"] == pytest.approx(2 / 3)
    assert found["risk_coverage"] == pytest.approx(np.array([[1 / 3, 0], [2 / 3, 1 / 2], [1, 1 / 3]]))
    assert len(found["temperature_scaled"]["temperatures"]) == 3


def test_confidence_is_that_of_the_answer_given() -> None:
    # The answer was sampled against the odds.
    found = score_confidence([stated("B", (0.9, 0.1), 0), stated("A", (0.9, 0.1), 1)])
    assert found is not None
    assert found["options"]["mean_confidence"] == pytest.approx(0.5)


def test_votes_by_hand() -> None:
    # Shares 2/3 right, 2/3 wrong, a tie of 1/3; what could not be read at all is left out.
    confidence = score_confidence(drawn({"q1": "AAB", "q2": "B-B", "q3": "A-B", "q4": "---"}))
    assert confidence is not None
    assert confidence["options"] is None
    found = confidence["votes"]
    assert (found["n"], found["left_out"]) == (3, 1)
    assert found["mean_confidence"] == pytest.approx(5 / 9)
    assert found["accuracy"] == pytest.approx(1 / 2)
    # Unreadable draws hold a share of their own.
    assert found["brier"] == pytest.approx(((1 + 1) / 9 + (9 + 4 + 1) / 9 + (4 + 1 + 1) / 9) / 3)
    assert found["aurc"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 2) / 3)


def test_nothing_to_be_confident_of() -> None:
    assert score_confidence(drawn({"q1": "A", "q2": "-"})) is None
    assert score_confidence(drawn({"q1": "--"})) is None
    broken = replace(stated("A", (0.9, 0.1)), option_logprobs=(float("nan"), 0.0))
    assert score_confidence([broken]) is None
