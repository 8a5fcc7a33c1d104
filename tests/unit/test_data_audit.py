"""The audit as a whole: its keys, its verdicts, and the published blind baselines to the printed digit."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data.audit import audit, verdicts
from medr1.data.blind import LinearTextModel, TextPrior, blind_hits, learning_curve, rule_accuracy
from medr1.data.describe import faults, format_giveaways, gold_letters, gold_texts, one_sided
from medr1.data.questions import QuestionSet, question_set, read_questions
from medr1.errors import DataError
from medr1.records import as_json
from medr1.report.audit import audit_report, audit_tables
from medr1.report.html import render_report
from medr1.results.audited import Audited, BlindAccuracies, GoldTexts, NearDuplicates, OneSided, Shared
from medr1.types import ImageRef, Modality, Sample
from run_faults import files


def ask(
    *options: str, gold: int = 0, question: str = "Which?", image: str = "1.png", modality: Modality = "CT"
) -> Sample:
    return Sample(
        id=f"{image}/{question}/{'/'.join(options)}",
        images=(ImageRef(path=image),),
        question=question,
        options=options,
        answer_index=gold,
        modality=modality,
        source="s",
        group=image,
    )


def cases(n: int, start: int = 0) -> list[Sample]:
    """Questions whose right text is always Lung, in every place in turn."""
    texts = ["Heart", "Liver", "Spleen"]
    samples = []
    for number in range(start, start + n):
        options = [*texts[: number % 4], "Lung", *texts[number % 4 :]]
        modality: Modality = "CT" if number % 2 else "MRI"
        samples.append(ask(*options, gold=number % 4, image=f"{number}.png", modality=modality))
    return samples


TRAIN, TEST = question_set("train", cases(40)), question_set("test", cases(20, start=36))
"""Four images and their questions are in both."""


@pytest.fixture(scope="module")
def result() -> Audited:
    return audit(TRAIN, TEST)


def test_audit_by_hand(result: Audited) -> None:
    assert (result.n_train, result.n_test) == (40, 20)
    assert result.image_leakage == Shared(records=4, share=0.2)
    assert result.question_repeats == Shared(records=20, share=1.0)
    assert result.record_repeats.records == result.same_samples == 4
    assert result.near_duplicates is None
    assert result.chance == 0.25
    assert dict(result.blind) == {
        "majority_letter": 0.25,
        "majority_letter_of_train": 0.25,
        "format_rule": 0.25,
        "longest_option": 0.0,
        "text_prior": 1.0,
        "linear_text": 1.0,
    }
    assert set(result.by_modality) == {"CT", "MRI"}
    assert result.by_modality["MRI"].n == 10
    assert result.by_modality["MRI"].image_leakage == Shared(records=2, share=0.2)
    # In MRI (even numbers) the right letter is A or C: half of them is the majority letter A.
    assert result.by_modality["MRI"].blind.majority_letter == 0.5
    assert list(result.by_task) == ["unknown"]
    assert Audited.model_validate(json.loads(as_json(result))) == result


def test_verdicts_say_what_to_do(result: Audited) -> None:
    lines = result.verdicts
    assert lines[0].startswith("fail: 4 of 20 test questions (20.0%) show an image that is also in train")
    assert any(line.startswith("fail: a counter of past answers reaches 100.0%") for line in lines)
    # Twenty questions are too few to say that a rule finds nothing; nor were any image files there.
    assert any(line.startswith("not checked: picking the longest option reaches 0.0%") for line in lines)
    assert not [line for line in lines if line.startswith("pass") and "image is in train" in line]
    order = [line.partition(":")[0] for line in lines]
    assert order == sorted(order, key=("fail", "warn", "not checked", "pass").index)


def test_few_questions_above_chance_are_luck(result: Audited) -> None:
    # Two standard errors at chance 0.25: 19.4 points of 20 questions (more than a failure is), 13.7 of 40, 4.3 of 400.
    for n, level in ((20, "not checked"), (40, "pass"), (400, "warn")):
        lines = verdicts(result.extended(Audited, n_choice=n, blind=rules(format_rule=0.30, rest=0.25)))
        assert [line.partition(":")[0] for line in lines if "differently" in line] == [level]


def rules(rest: float, **others: float) -> BlindAccuracies:
    return BlindAccuracies(**(dict.fromkeys(BlindAccuracies.model_fields, rest) | others))


def clean(result: Audited, **other: Any) -> Audited:
    """An audit of a split with nothing wrong, all of it looked at."""
    none = {"records": 0, "share": 0.0}
    changed = {
        **dict.fromkeys(("image_leakage", "group_leakage", "record_repeats", "question_repeats"), none),
        "images_compared": {"basis": "content", "found_by": {}, "other_pixels": 0},
        "groups_of_several_images": 3,
        "n_choice": 400,
        "same_samples": 0,
        "near_duplicates": near(0.02),
        "slice_neighbours": {"5": {"images": 0, "share": 0.0}},
        "blind": rules(0.27),
        "options": audit(question_set("train", [ask("a", "b")]), question_set("test", [ask("a", "b")])).options,
        **other,
    }
    return result.extended(Audited, **changed)


def near(rate: float) -> NearDuplicates:
    return NearDuplicates(
        rate=rate,
        expected_rate=0.01,
        threshold=4,
        unrelated="other group",
        n_test_images=9,
        n_train_images=9,
        by_threshold=[],
    )


def levels(lines: Iterable[str]) -> dict[str, int]:
    return Counter(line.partition(":")[0] for line in lines)


def test_a_clean_split_passes(result: Audited) -> None:
    assert levels(verdicts(clean(result))).keys() == {"pass"}
    leaky = clean(result, near_duplicates=near(0.05))
    assert verdicts(leaky)[0].startswith("fail: near-duplicates in train")


@pytest.mark.parametrize(
    ("missing", "passes_lost"),
    [
        # Images compared by name alone: whether they, whole records, or near-duplicates are in train.
        ({"images_compared": {"basis": "names", "found_by": {}, "other_pixels": 0}}, 3),
        ({"images_compared": {"basis": "content and names", "found_by": {}, "other_pixels": 0}}, 3),
        ({"images_compared": {"basis": None, "found_by": {}, "other_pixels": 0}}, 3),
        ({"near_duplicates": None}, 1),
        ({"slice_neighbours": None}, 1),
        ({"groups_of_several_images": 0}, 1),
        ({"n_train_choice": 0}, 3),
        ({"n_choice": 20}, 6),
    ],
)
def test_what_was_not_checked_is_no_pass(result: Audited, missing: dict[str, Any], passes_lost: int) -> None:
    whole, found = levels(verdicts(clean(result))), levels(verdicts(clean(result, **missing)))
    assert whole["pass"] - found["pass"] == passes_lost
    assert found["not checked"] >= 1
    assert found.keys() == {"pass", "not checked"}


def test_repeats_of_whole_records_are_not_told_as_questions_about_another_image(result: Audited) -> None:
    same = {"records": 4, "share": 0.2}
    lines = verdicts(clean(result, record_repeats=same, question_repeats=same))
    assert not [line for line in lines if "about another image" in line]
    assert lines[0].startswith("fail: 4 test questions are in train as they are")


def test_blind_rules_never_see_the_test_answers() -> None:
    flipped = [Sample(**{**fields_of(sample), "answer_index": 0}) for sample in TEST.samples]
    truth, lie = (blind_hits(TRAIN.samples, samples) for samples in (TEST.samples, flipped))
    # Right whenever "Lung" is the first option, since that is still what every rule picks.
    first = [sample.answer_index == 0 for sample in TEST.samples]
    assert truth["text_prior"].all()
    assert lie["text_prior"].tolist() == lie["linear_text"].tolist() == [float(is_first) for is_first in first]


def fields_of(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in Sample.__slots__}


def test_questions_without_one_right_option_are_left_out_of_the_blind_scores() -> None:
    free = Sample(id="free", images=(), question="Describe.", answer_type="text", answers=("x",), modality="CT")
    mixed = question_set("test", [*TEST.samples, free])
    found = audit(TRAIN, mixed)
    assert (found.n_test, found.n_choice, found.blind.text_prior) == (21, 20, 1.0)
    with pytest.raises(DataError, match="no question with one right option"):
        audit(TRAIN, question_set("free", [free]))


def test_learning_curve_is_the_text_prior_on_fewer_questions() -> None:
    curve = learning_curve(cases(120), TEST.samples)
    assert [point.n for point in curve] == [30, 100]
    assert all(point.accuracy == 1.0 and point.std == 0.0 for point in curve)
    assert learning_curve(cases(10), TEST.samples) == []


# --- Linear text model --------------------------------------------------------------------------------------------


def test_linear_model_carries_over_to_texts_it_never_saw() -> None:
    train = [ask(f"organ{i} lesion", f"organ{i + 500} tissue", gold=0) for i in range(60)]
    train += [ask(f"organ{i + 700} tissue", f"organ{i + 900} lesion", gold=1) for i in range(60)]
    new = [ask("kidney tissue", "spleen lesion", gold=1), ask("skin lesion", "bone tissue", gold=0)]
    assert rule_accuracy(LinearTextModel(train), new) == 1.0
    assert rule_accuracy(TextPrior(train), new) == 0.5


def test_linear_model_finds_nothing_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]
    samples = [ask(*rng.choice(words, 4, replace=False).tolist(), gold=int(rng.integers(4))) for _ in range(3000)]
    picks = LinearTextModel(samples[:2000]).picks(samples[2000:])
    right = np.mean([sample.answer_index in pick for sample, pick in zip(samples[2000:], picks, strict=True)])
    assert abs(right - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 1000)


def test_linear_model_without_training_draws() -> None:
    assert LinearTextModel([])(ask("a", "b", "c")) == (0, 1, 2)


def test_linear_model_is_the_same_under_a_seed() -> None:
    one, other = (LinearTextModel(cases(50), seed=3)._weights for _ in range(2))
    assert np.array_equal(one, other)


# --- Options ------------------------------------------------------------------------------------------------------


def test_gold_distributions_by_hand() -> None:
    samples = [ask("Lung.", "Liver"), ask("Heart", "lung", gold=1), ask("Liver", "Spleen", "Lung", gold=2)]
    assert gold_letters(samples) == {"A": 1, "B": 1, "C": 1}
    assert gold_texts(samples) == GoldTexts(
        distinct=1, distinct_distractors=3, distractors_never_right=1.0, top={"lung": 3}
    )


def test_one_sided_option_sets() -> None:
    samples = [ask("No", "Yes", gold=0)] * 18 + [ask("Yes", "No", gold=0)] * 2 + [ask("a", "b", gold=1)] * 19
    assert one_sided(samples) == [OneSided(options=["no", "yes"], n=20, answer="no", share=0.9)]


def test_faults_by_hand() -> None:
    questions = question_set(
        "x",
        [
            ask("CT", "CT", "MRI", gold=2, image="1.png"),
            ask("Right Atrium", "Right atrium", gold=1, image="2.png"),
            ask("Lung", "Liver", image="3.png"),
            ask("Liver", "Lung", image="3.png"),  # contradicts the one before, whose answer it offers
            ask("Liver", "Heart", gold=1, image="3.png", question="What?"),
            ask("Liver", "Heart", "Both A and B", image="4.png"),
            ask("", "Liver", "", "Heart", gold=1, image="5.png"),
        ],
    )
    assert dict(faults(questions)) == {
        "duplicate_options": 1,
        "folded_duplicates": 2,
        "ambiguous_gold": 1,
        "conflicting_answers": 2,
        "several_true": 2,
        "options_that_refer": 1,
    }


def test_format_giveaways_by_hand() -> None:
    found = format_giveaways([ask("lung", "Liver", "Heart."), ask("Lung", "liver", "Heart", gold=2), ask("A", "B")])
    assert (found.coverage, found.hit_rate) == (pytest.approx(2 / 3), 0.5)
    assert (found.gold_lower_case, found.distractor_lower_case) == (pytest.approx(1 / 3), pytest.approx(1 / 5))
    assert (found.gold_full_stop, found.distractor_full_stop) == (0.0, pytest.approx(1 / 5))


# --- Page and command ---------------------------------------------------------------------------------------------


def test_page_holds_verdicts_figures_and_tables(result: Audited) -> None:
    page = render_report(audit_report(result, {"seed": 0}))
    assert "4 of 20 test questions (20.0%) show an image" in page
    assert page.count("<figure>") == 4
    assert 'class="fail"' in page
    titles = [table.title for table in audit_tables(result)]
    assert titles[:2] == ["Audit of test", "What test shares with train"]
    assert "By modality (%)" in titles


def write_csv(path: Path, samples: list[Sample]) -> Path:
    rows = ["image,question,A,B,C,D,answer,modality"]
    rows += [f"{s.images[0].path},{s.question},{','.join(s.options)},{s.gold},{s.modality}" for s in samples]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_command_writes_what_it_prints(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train.csv", TRAIN.samples), write_csv(tmp_path / "test.csv", TEST.samples)
    arguments = ["audit", str(train), str(test), "--out", str(tmp_path / "out"), "--json"]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert printed.exit_code == 0
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written == json.loads(printed.stdout)
    assert written["blind"]["text_prior"] == 1.0
    assert files(tmp_path / "out").keys() == {"audit.json", "audit.html", "manifest.json"}
    table = CliRunner().invoke(app, arguments[:-1], catch_exceptions=False).stdout
    assert "text prior, no image" in table
    assert "fail: 4 of 20" in table


def test_twelve_published_cases_are_found_under_another_folder(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "medvlm_r1"
    train, test = str(folder / "MRI_CT_XRAY_300each_dataset.json"), str(folder / "cases.json")
    arguments = ["audit", train, test, "--out", str(tmp_path / "out")]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).stdout
    assert "fail: 12 of 12 test questions (100.0%) show an image that is also in train (12 by base name)" in printed
    assert "pass: no test image" not in printed
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written["images_compared"]["found_by"] == {"content": 0, "name": 0, "base name": 12}
    assert written["record_repeats"]["records"] == 12
    assert 'class="not-checked"' in (tmp_path / "out" / "audit.html").read_text()


def test_a_split_of_names_alone_is_not_passed(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train.csv", cases(8)), write_csv(tmp_path / "test.csv", cases(8, start=40))
    arguments = ["audit", str(train), str(test), "--out", str(tmp_path / "out")]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "not checked: whether test images are in train under another name" in " ".join(printed.split())
    assert "pass: no test image" not in printed


def test_command_without_questions_is_a_user_error(tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", TRAIN.samples)
    with pytest.raises(DataError, match="does not exist"):
        CliRunner().invoke(
            app, ["audit", str(train), str(tmp_path / "no.csv"), "--out", str(tmp_path / "out")], catch_exceptions=False
        )
    assert not (tmp_path / "out").exists()


# --- The published baselines --------------------------------------------------------------------------------------

MODALITIES = {
    "CT": "CT(Computed Tomography)",
    "Der": "Dermoscopy",
    "FP": "Fundus Photography",
    "MRI": "MR (Mag-netic Resonance Imaging)",
    "Micro": "Microscopy Images",
    "OCT": "OCT (Optical Coherence Tomography",
    "X-Ray": "X-Ray",
    "US": "ultrasound",
}
TASKS = {
    "AI": "Anatomy Identification",
    "DD": "Disease Diagnosis",
    "LG": "Lesion Grading",
    "MR": "Modality Recognition",
    "OBA": "Other Biological Attributes",
}


def published(real_data: Path, axis: str, part: str, name: str) -> QuestionSet:
    return read_questions(real_data / "med_r1" / "splits" / axis / part / f"{name}_{part}.json.gz")


def recovered(real_data: Path, name: str, other_axis: str) -> list[Sample]:
    """The records of an absent train file that the published figures were fitted on: those on the other axis."""
    known = {sample.id for sample in read_questions(real_data / "med_r1/splits" / other_axis).samples}
    part = read_questions(real_data / f"med_r1/recovered_partial/{name}_train_partial.json.gz").samples
    return [sample for sample in part if sample.id in known]


def mri_train(real_data: Path) -> list[Sample]:
    return recovered(real_data, "MR", "question_type")


def diagnosis_train(real_data: Path) -> list[Sample]:
    return recovered(real_data, "Disease_Diagnosis", "modality")


def printed(value: float) -> str:
    return f"{100 * value:.2f}"


@pytest.mark.parametrize(
    ("axis", "name", "expected"),
    [
        ("modality", "CT", ("31.43", "32.21", "23.01", "26.5", "15.6", "16.85", "99.51")),
        ("modality", "US", ("25.00", "26.28", "93.27", "91.0", "100.0", "12.74", "86.89")),
        ("modality", "FP", ("27.31", "25.77", "53.32", "34.9", "100.0", "49.56", "96.68")),
        ("modality", "OCT", ("25.94", "26.77", "27.83", "3.8", "100.0", "51.36", "100.00")),
        ("question_type", "AI", ("25.64", "25.80", "78.00", "69.8", "100.0", "20.07", "87.71")),
        ("question_type", "MR", ("25.00", "25.84", "38.95", "18.6", "100.0", "10.24", "96.95")),
        ("question_type", "OBA", ("25.00", "26.14", "26.81", "2.4", "100.0", "50.50", "100.00")),
    ],
)
def test_published_baselines(real_data: Path, axis: str, name: str, expected: tuple[str, ...]) -> None:
    file = MODALITIES[name] if axis == "modality" else TASKS[name]
    found = audit(published(real_data, axis, "train", file), published(real_data, axis, "test", file))
    blind, formats = found.blind, found.options["test"].format_giveaways
    assert (
        printed(found.chance),
        printed(blind.majority_letter),
        printed(blind.format_rule),
        f"{100 * formats.coverage:.1f}",
        f"{100 * formats.hit_rate:.1f}",
        printed(blind.longest_option),
        printed(blind.text_prior),
    ) == expected
    part = found.by_modality if axis == "modality" else found.by_task
    assert next(iter(part.values())).blind == blind


@pytest.mark.slow
def test_published_baselines_of_the_recovered_files(real_data: Path) -> None:
    test = published(real_data, "modality", "test", MODALITIES["MRI"]).samples
    scores = {rule: printed(float(hit.mean())) for rule, hit in blind_hits(mri_train(real_data), test).items()}
    assert (scores["format_rule"], scores["longest_option"], scores["text_prior"]) == ("30.15", "26.99", "99.71")
    test = published(real_data, "question_type", "test", TASKS["DD"]).samples
    scores = {rule: printed(float(hit.mean())) for rule, hit in blind_hits(diagnosis_train(real_data), test).items()}
    assert (scores["format_rule"], scores["longest_option"], scores["text_prior"]) == ("31.15", "31.88", "98.95")


MODALITY_MATRIX = {
    "CT": "99.51 32.59 30.01 37.93 30.74 31.31 33.62 21.58",
    "FP": "35.53 37.09 96.68 23.24 33.30 53.11 23.90 22.76",
    "MRI": "42.51 35.09 28.95 99.71 29.14 27.67 23.84 20.74",
    "OCT": "46.12 30.78 40.47 26.65 30.60 100.00 23.02 22.76",
    "US": "30.74 31.00 27.35 23.80 27.74 27.09 17.45 86.89",
}
OTHER_FILES = {"CT": "68.38", "MRI": "48.32", "US": "15.06", "FP": "47.87", "OCT": "54.42"}
TASK_MATRIX = {
    "AI": "87.71 29.24 25.57 25.00 25.05",
    "DD": "24.33 98.95 51.28 25.00 27.77",
    "MR": "25.64 27.87 25.57 96.95 25.00",
    "OBA": "25.70 24.50 25.57 25.00 100.00",
}
OTHER_TASKS = {"AI": "24.39", "DD": "27.13", "MR": "25.00", "OBA": "27.82"}


@pytest.mark.slow
def test_published_text_prior_across_modalities(real_data: Path) -> None:
    test = {name: published(real_data, "modality", "test", file).samples for name, file in MODALITIES.items()}
    train = {
        name: published(real_data, "modality", "train", file).samples
        for name, file in MODALITIES.items()
        if name != "MRI"
    }
    train["MRI"] = mri_train(real_data)
    assert len(train["MRI"]) == 7399
    for name, expected in MODALITY_MATRIX.items():
        prior = TextPrior(train[name])
        assert " ".join(printed(rule_accuracy(prior, test[other]) or 0) for other in test) == expected
    for name, expected in OTHER_FILES.items():
        prior = TextPrior([sample for other in train if other != name for sample in train[other]])
        assert printed(rule_accuracy(prior, test[name]) or 0) == expected


@pytest.mark.slow
def test_published_text_prior_across_tasks(real_data: Path) -> None:
    test = {name: published(real_data, "question_type", "test", file).samples for name, file in TASKS.items()}
    train = {
        name: published(real_data, "question_type", "train", file).samples
        for name, file in TASKS.items()
        if name != "DD"
    }
    train["DD"] = diagnosis_train(real_data)
    assert len(train["DD"]) == 26221
    for name, expected in TASK_MATRIX.items():
        prior = TextPrior(train[name])
        assert " ".join(printed(rule_accuracy(prior, test[other]) or 0) for other in test) == expected
    for name, expected in OTHER_TASKS.items():
        prior = TextPrior([sample for other in train if other != name for sample in train[other]])
        assert printed(rule_accuracy(prior, test[name]) or 0) == expected


def test_published_option_faults(real_data: Path) -> None:
    train = {name: published(real_data, "modality", "train", MODALITIES[name]) for name in ("CT", "US")}
    found = {name: faults(questions) for name, questions in train.items()}
    assert (found["CT"].duplicate_options, found["US"].duplicate_options) == (3, 5)
    assert (found["CT"].ambiguous_gold, found["US"].ambiguous_gold) == (0, 0)
    texts = gold_texts(train["CT"].samples)
    assert (texts.distinct, texts.distinct_distractors) == (48, 365)
    two_options = [s for s in published(real_data, "modality", "test", MODALITIES["CT"]).samples if len(s.options) == 2]
    assert dict(one_sided(two_options)[0]) == {
        "options": ["no", "yes"],
        "n": 834,
        "answer": "no",
        "share": pytest.approx(807 / 834),
    }
