"""Rotated options: contents are compared, not letters, and every figure follows from a case by hand."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from medr1.eval.reliance import complete_rotations, consistent
from medr1.eval.reliance import score_option_order as _score_option_order
from medr1.types import LETTERS, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import ROTATIONS, chosen_option
from written import as_written

score_option_order = as_written(_score_option_order)

Answer = Callable[[Sample], str | None]


def predict(samples: Sequence[Sample], answer: Answer) -> list[Prediction]:
    return [
        Prediction(
            id=sample.id,
            variant=sample.variant,
            draw=0,
            group="",
            modality="CT",
            task="other",
            source="s",
            options=sample.options,
            gold=sample.gold,
            prompt_style="think",
            completion="",
            answer=answer(sample),
            parse_status="ok",
            num_tokens=1,
        )
        for sample in samples
    ]


def run(answer: Answer, sizes: Sequence[int] = (3, 3, 3)) -> tuple[list[Prediction], Mapping[str, list[Prediction]]]:
    """Answers to questions with so many options, whose gold goes round, and to all their rotations."""
    samples = [
        Sample(
            id=f"q{i}",
            images=(),
            question="?",
            options=tuple(f"text{j}" for j in range(size)),
            answer_index=i % size,
        )
        for i, size in enumerate(sizes)
    ]
    rotated = {name: predict(VARIANTS[name].prepare(samples, 0), answer) for name in ROTATIONS}
    return predict(samples, answer), rotated


def by_text(sample: Sample) -> str:
    return LETTERS[sample.options.index("text1")]


def always_b(sample: Sample) -> str:
    return "B"


def right(sample: Sample) -> str:
    assert sample.gold is not None
    return sample.gold


def test_a_model_that_reads_is_right_under_every_rotation() -> None:
    scores = score_option_order(*run(right, (2, 3, 4)))
    assert scores is not None
    assert (scores["n"], scores["circular"]["accuracy"], scores["mean_accuracy"]) == (3, 1.0, 1.0)
    assert scores["circular"]["chance"] == pytest.approx((1 / 4 + 1 / 27 + 1 / 256) / 3)
    assert scores["same_option"]["share"] == 1.0
    assert scores["same_option"]["chance"] == pytest.approx((1 / 2 + 1 / 9 + 1 / 64) / 3)
    assert scores["same_letter"]["share"] == 0.0
    assert scores["recall_std"] == 0.0


def test_a_model_that_answers_a_letter_is_right_once_in_k() -> None:
    scores = score_option_order(*run(always_b))
    assert scores is not None
    assert scores["circular"]["accuracy"] == 0.0
    assert scores["mean_accuracy"] == pytest.approx(1 / 3)
    assert (scores["same_option"]["share"], scores["same_letter"]["share"]) == (0.0, 1.0)
    assert scores["letters"]["B"] == {"chosen": 1.0, "expected": pytest.approx(1 / 3), "recall": 1.0}
    assert scores["letters"]["A"] == {"chosen": 0.0, "expected": pytest.approx(1 / 3), "recall": 0.0}
    assert scores["recall_std"] == pytest.approx((2 / 9) ** 0.5)  # of 0, 1, 0


def test_a_model_that_prefers_a_text_is_consistent_and_right_where_that_text_is() -> None:
    scores = score_option_order(*run(by_text))
    assert scores is not None
    assert scores["circular"]["accuracy"] == pytest.approx(1 / 3)
    assert scores["same_option"]["share"] == 1.0
    assert all(row["chosen"] == pytest.approx(1 / 3) for row in scores["letters"].values())


def test_expected_letters_know_how_many_options_there_are() -> None:
    scores = score_option_order(*run(right, (2, 4)))
    assert scores is not None
    # Six answers: two to a question with two options, four to one with four.
    assert scores["letters"]["A"]["expected"] == pytest.approx((2 / 2 + 4 / 4) / 6)
    assert scores["letters"]["D"]["expected"] == pytest.approx((4 / 4) / 6)


def test_unreadable_answers_are_not_right_and_no_agreement() -> None:
    def mute_when_rotated(sample: Sample) -> str | None:
        return None if sample.id == "q0" and sample.variant == "rotated2" else right(sample)

    scores = score_option_order(*run(mute_when_rotated))
    assert scores is not None
    assert scores["unreadable"] == 1
    assert scores["circular"]["accuracy"] == pytest.approx(2 / 3)
    assert (scores["same_option"]["n"], scores["same_option"]["share"]) == (2, 1.0)


def test_letters_that_a_question_does_not_have_choose_nothing() -> None:
    originals, _ = run(lambda sample: "D")
    assert [chosen_option(prediction) for prediction in originals] == [None] * 3
    scores = score_option_order(*run(lambda sample: "BA"))
    assert scores is not None
    assert (scores["unreadable"], scores["same_option"]) == (9, None)


def test_incomplete_questions_are_left_out() -> None:
    originals, rotated = run(right)
    cut = {**rotated, "rotated2": rotated["rotated2"][1:]}
    assert [key for key, _ in complete_rotations(originals, cut)] == ["q1", "q2"]
    assert score_option_order(originals, {"blank": originals}) is None
    assert not consistent([originals[0], originals[1]])
    mute, _ = run(lambda sample: None)
    assert not consistent([mute[0], mute[0]])
