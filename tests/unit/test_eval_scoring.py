"""Scores worked out by hand."""

from dataclasses import replace

import pytest
from statsmodels.stats.proportion import proportion_confint

from medr1.answers import PROTOCOLS, YES_NO_ONLY
from medr1.eval.measures import is_right
from medr1.eval.rescore import read_again
from medr1.eval.scoring import ControlRun, protocol_for
from medr1.eval.scoring import score_predictions as _score_predictions
from medr1.types import ImageRef, ParseStatus, Prediction, Receipt, Sample
from medr1.variants.controls import SHOWN_ANSWER
from written import as_written

score_predictions = as_written(_score_predictions)

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


# --- Without looking ----------------------------------------------------------------------------------------------


def blank_run(samples: list[Sample], letters: str) -> ControlRun:
    shown = [replace(s, variant="blank") for s in samples]
    answered = [prediction(s, a if a != "-" else None) for s, a in zip(shown, letters, strict=False) if a != " "]
    return ControlRun(samples=shown, predictions=answered)


def test_questions_are_split_by_what_a_blank_image_answers() -> None:
    samples = [sample(i, n_options=4 if i < 4 else 2) for i in range(6)]
    originals = [prediction(s, a) for s, a in zip(samples, "AABBAB", strict=True)]
    results = score_predictions(originals, samples, controls={"blank": blank_run(samples, "ABA- A")})
    found = results["by_blind"]
    assert (found["by"], found["reason"]) == (["blank_image"], None)
    # The blank image is answered rightly in questions 0, 2 and 5, not in 1 and 3, and not at all in 4.
    assert (found["answerable"]["n"], found["answerable"]["accuracy"]) == (3, pytest.approx(1 / 3))
    assert found["answerable"]["ci95"] == pytest.approx(proportion_confint(1, 3, method="wilson"))
    assert found["answerable"]["chance"] == pytest.approx((1 / 4 + 1 / 4 + 1 / 2) / 3)
    assert (found["not_answerable"]["n"], found["not_answerable"]["accuracy"]) == (2, 0.5)
    assert found["not_checked"] == 1


def test_questions_are_split_by_what_the_text_prior_answers() -> None:
    train = [sample(10 + i, gold=2) for i in range(3)]
    samples = [sample(0, gold=2), sample(1, gold=0), sample(2, gold=2)]
    originals = [prediction(s, a) for s, a in zip(samples, "CAA", strict=True)]
    found = score_predictions(originals, samples, train_samples=train)["by_blind"]
    assert found["by"] == ["text_prior"]
    assert (found["answerable"]["n"], found["answerable"]["accuracy"]) == (2, 0.5)
    assert (found["not_answerable"]["n"], found["not_answerable"]["accuracy"]) == (1, 1.0)
    # Either of the two is enough.
    blank = {"blank": blank_run(samples, "BAB")}
    both = score_predictions(originals, samples, train_samples=train, controls=blank)["by_blind"]
    assert both["by"] == ["blank_image", "text_prior"]
    assert (both["answerable"]["n"], both["not_answerable"]) == (3, None)


def test_a_tie_of_the_text_prior_is_no_answer() -> None:
    samples = [sample(0, gold=1)]
    unseen = [sample(10, gold=2)]
    other = [replace(s, options=("a", "b", "c", "d")) for s in unseen]
    found = score_predictions([prediction(samples[0], "B")], samples, train_samples=other)["by_blind"]
    assert (found["answerable"], found["not_answerable"]["n"]) == (None, 1)


def test_most_draws_on_a_blank_image_decide() -> None:
    samples = [sample(0), sample(1)]
    originals = [prediction(s, "A", draw=draw) for s in samples for draw in range(2)]
    shown = [replace(s, variant="blank") for s in samples]
    answered = [
        prediction(s, a, draw=draw) for s, pair in zip(shown, ("AA", "AB"), strict=True) for draw, a in enumerate(pair)
    ]
    control = {"blank": ControlRun(samples=shown, predictions=answered)}
    found = score_predictions(originals, samples, controls=control, num_draws=2)["by_blind"]
    assert (found["answerable"]["n"], found["answerable"]["n_groups"]) == (2, 1)
    assert found["not_answerable"]["n"] == 2


def test_without_either_the_split_is_not_there_and_says_why() -> None:
    found = score_predictions([prediction(sample(0), "A")], [sample(0)])["by_blind"]
    assert (found["answerable"], found["not_answerable"], found["by"], found["not_checked"]) == (None, None, [], 1)
    assert "--variants blank" in found["reason"]


# --- Void ---------------------------------------------------------------------------------------------------------


def test_results_say_what_cannot_mean_anything() -> None:
    samples = [sample(i, gold=i % 4) for i in range(12)]
    results = score_predictions([prediction(s, "ABCD"[(i // 4) % 4]) for i, s in enumerate(samples)], samples)
    assert (results["void"], results["train_overlap"]) == ([], None)

    silent = [prediction(s, None) for s in samples]
    results = score_predictions(silent, samples, controls={"blank": blank_run(samples, 12 * "-")})
    assert [item["what"] for item in results["void"]] == ["accuracy", "controls.blank"]
    assert "12 of 12 answers could not be read (missing tag 12)" in results["void"][0]["why"]

    same = score_predictions([prediction(s, "D") for s in samples], samples)["void"]
    assert same == [{"what": "accuracy", "why": "all 12 readable answers are D, whatever was asked"}]

    # A blind model may well say one letter to every blank image.
    alike = score_predictions(
        [prediction(s, s.gold) for s in samples], samples, controls={"blank": blank_run(samples, 12 * "A")}
    )
    assert alike["void"] == []


def test_training_data_that_are_the_test_data_void_the_accuracy_and_the_text_prior() -> None:
    samples = [sample(i, gold=i % 4) for i in range(12)]
    results = score_predictions([prediction(s, s.gold) for s in samples], samples, train_samples=samples)
    assert results["train_overlap"] == {"questions": 12, "pictures": 12}
    assert [item["what"] for item in results["void"]] == ["accuracy", "blind.text_prior"]


def test_pictures_that_nobody_saw_void_the_accuracy() -> None:
    pictures = [replace(sample(i, gold=i % 4), images=(ImageRef(data=bytes([i])),)) for i in range(12)]
    one = (Receipt(sha256="0" * 64, width=2, height=2, tokens=1),)
    blind = [prediction(s, s.gold, images=()) for s in pictures]
    alike = [prediction(s, s.gold, images=one) for s in pictures]
    untold = [prediction(s, s.gold, images=None) for s in pictures]
    for answered, why in ((blind, "without one"), (alike, "one and the same picture"), (untold, "no receipt")):
        found = score_predictions(answered, pictures)["void"]
        assert [item["what"] for item in found] == ["accuracy"]
        assert why in found[0]["why"]


def test_a_letter_beyond_the_options_is_unreadable_and_not_wrong() -> None:
    samples = [sample(i, gold=i % 4) for i in range(12)]
    said = [prediction(s, "G", completion="<think>x</think><answer>G</answer>") for s in samples]
    read = [read_again(p, s) for p, s in zip(said, samples, strict=True)]
    results = score_predictions(read, samples)
    assert results["parse"] == {"not_an_option": 12}
    assert "12 of 12 answers could not be read (not an option 12)" in results["void"][0]["why"]
