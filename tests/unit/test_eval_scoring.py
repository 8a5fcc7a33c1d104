"""Scores worked out by hand."""

from dataclasses import replace

import pytest
from statsmodels.stats.proportion import proportion_confint

from medr1.answers import PROTOCOLS, YES_NO_ONLY
from medr1.eval.measures import is_right
from medr1.eval.scoring import ControlRun, protocol_for, score_predictions
from medr1.types import ParseStatus, Prediction, Sample
from medr1.variants.controls import SHOWN_ANSWER

OPTIONS = ("Liver", "Spleen", "Kidney", "Heart")


def sample(number: int, *, gold: int = 0, n_options: int = 4, **fields: str) -> Sample:
    return Sample(
        id=f"q{number}", images=(), question="Which organ?", options=OPTIONS[:n_options], answer_index=gold, **fields
    )  # pyright: ignore[reportArgumentType]


def prediction(of: Sample, answer: str | None, **fields: object) -> Prediction:
    completion = f"<think>x</think><answer>{answer}</answer>" if answer else "no idea"
    plain = Prediction(
        id=of.id,
        variant=of.variant,
        draw=0,
        group=of.group,
        modality=of.modality,
        task=of.task,
        source=of.source,
        options=of.options,
        gold=of.gold,
        prompt_style="think",
        completion=completion,
        answer=answer,
        parse_status=ParseStatus.OK if answer else ParseStatus.MISSING_TAG,
        num_tokens=10,
    )
    return replace(plain, **fields)  # pyright: ignore[reportArgumentType]


def test_unreadable_is_counted_apart_from_wrong() -> None:
    samples = [sample(i) for i in range(5)]
    results = score_predictions(
        [prediction(s, a) for s, a in zip(samples, "AAB", strict=False)] + [prediction(samples[3], None)], samples
    )
    assert results["n"] == 4
    assert results["accuracy"] == 0.5
    assert results["parse"] == {"missing_tag": 1, "ok": 3}
    assert results["failed"] == 1
    assert results["ci95"] == pytest.approx(proportion_confint(2, 4, method="wilson"))
    assert (results["ci_method"], results["n_groups"]) == ("wilson", 4)
    assert results["mean_tokens"] == 10


def test_chance_majority_and_blind_rules() -> None:
    samples = [sample(0, gold=1), sample(1, gold=1, n_options=2), sample(2, gold=3)]
    results = score_predictions([prediction(s, "A") for s in samples], samples)
    assert results["chance"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 4) / 3)
    assert results["majority_letter"] == pytest.approx(2 / 3)
    # The longest options are Spleen and Kidney, or Spleen alone of two.
    assert results["blind"]["longest_option"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert results["blind"]["format_rule"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 4) / 3)
    assert results["blind"]["text_prior"] is None
    assert results["blind"]["blank_image"] is None
    assert results["blind"]["swapped_image"] is None


def test_text_prior_is_fitted_on_the_training_samples() -> None:
    train = [sample(10, gold=2), sample(11, gold=2)]
    samples = [sample(0, gold=2), sample(1, gold=0)]
    results = score_predictions([prediction(s, "A") for s in samples], samples, train_samples=train)
    assert results["blind"]["text_prior"] == 0.5


def test_parts_by_modality_task_and_source() -> None:
    samples = [
        sample(0, modality="CT", task="Lesion Grading", source="s1"),
        sample(1, modality="CT", task="Modality Recognition", source="s2", gold=1, n_options=2),
        sample(2, modality="MRI", task="Lesion Grading", source="s1"),
    ]
    results = score_predictions([prediction(s, "A") for s in samples], samples)
    assert list(results["by_modality"]) == ["CT", "MRI"]
    assert results["by_modality"]["CT"]["n"] == 2
    assert results["by_modality"]["CT"]["accuracy"] == 0.5
    assert results["by_modality"]["CT"]["chance"] == pytest.approx(3 / 8)
    assert {name: part["accuracy"] for name, part in results["by_task"].items()} == {
        "Lesion Grading": 1.0,
        "Modality Recognition": 0.0,
    }
    assert {name: part["n"] for name, part in results["by_source"].items()} == {"s1": 2, "s2": 1}
    assert [(c["modality"], c["task"], c["n"]) for c in results["by_modality_and_task"]] == [
        ("CT", "Lesion Grading", 1),
        ("CT", "Modality Recognition", 1),
        ("MRI", "Lesion Grading", 1),
    ]


def test_questions_about_one_image_are_clustered() -> None:
    samples = [sample(i, group=f"image{i // 4}") for i in range(40)]
    results = score_predictions([prediction(s, "AB"[i // 20]) for i, s in enumerate(samples)], samples)
    assert (results["ci_method"], results["n_groups"]) == ("wilson-clustered", 10)
    wilson = proportion_confint(20, 40, method="wilson")
    assert results["ci95"][1] - results["ci95"][0] > 1.5 * (wilson[1] - wilson[0])


def test_draws_of_one_sample_are_clustered_too() -> None:
    samples = [sample(i) for i in range(4)]
    drawn = [prediction(s, "A", draw=draw) for s in samples for draw in range(3)]
    results = score_predictions(drawn, samples, num_draws=3)
    assert (results["n"], results["n_groups"], results["failed"]) == (12, 4, 0)


def test_every_protocol_scores_the_same_completions() -> None:
    samples = [sample(i) for i in range(3)]
    texts = ["<think>x</think><answer>A</answer>", "A", "<think>x</think><answer>a</answer>"]
    results = score_predictions(
        [prediction(s, "A", completion=text) for s, text in zip(samples, texts, strict=True)], samples
    )
    assert set(results["protocols"]) == set(PROTOCOLS) - YES_NO_ONLY
    shares = {name: scores["accuracy"] for name, scores in results["protocols"].items()}
    assert shares["default"] == pytest.approx(2 / 3)
    assert shares["medvlm-r1/complex"] == pytest.approx(1 / 3)
    assert shares["med-r1/zeroshot"] == pytest.approx(1 / 3)
    assert results["protocols"]["default"]["ci95"] == pytest.approx(proportion_confint(2, 3, method="wilson"))


def test_the_default_protocol_reads_what_the_prompt_asked_for() -> None:
    assert protocol_for("default", "medvlm-r1/simple")("B", sample(0)).letter == "B"
    assert protocol_for("default", "think")("B", sample(0)).letter is None
    assert protocol_for("med-r1/zeroshot", "think")("B", sample(0)).letter == "B"


def test_controls_are_scored_against_the_original_answer_on_the_same_samples() -> None:
    samples = [sample(i) for i in range(4)]
    originals = [prediction(s, a) for s, a in zip(samples, "AAAB", strict=True)]
    # Three of the four have a partner; its answer is Spleen, Kidney, and something that is no option.
    shown = [
        replace(s, variant="swapped", extra={SHOWN_ANSWER: text})
        for s, text in zip(samples[1:], ("spleen.", "Kidney", "Stomach"), strict=True)
    ]
    swapped = [prediction(s, a) for s, a in zip(shown, "BBA", strict=True)]
    results = score_predictions(
        originals, samples, controls={"swapped": ControlRun(samples=shown, predictions=swapped)}
    )
    control = results["controls"]["swapped"]
    assert results["accuracy"] == 0.75
    assert results["blind"]["swapped_image"] == pytest.approx(1 / 3)
    assert (control["n"], control["dropped"], control["failed"]) == (3, 1, 0)
    assert control["original"]["accuracy"] == pytest.approx(2 / 3)
    assert control["difference"]["value"] == pytest.approx(-1 / 3)
    assert (control["follows"]["n"], control["follows"]["share"]) == (2, 0.5)
    assert control["parse"] == {"ok": 3}


def test_a_control_without_any_variant_says_so() -> None:
    samples = [sample(0)]
    results = score_predictions(
        [prediction(samples[0], "A")], samples, controls={"swapped": ControlRun(samples=[], predictions=[])}
    )
    assert results["controls"]["swapped"] == {"n": 0, "dropped": 1, "failed": 0}
    assert results["blind"]["swapped_image"] is None


def test_an_unreadable_answer_without_gold_is_not_right() -> None:
    assert not is_right(prediction(sample(0), None, gold=None))
