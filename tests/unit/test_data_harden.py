"""Answer blocks, families and synonyms: what makes a hardened question fair."""

import csv
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data.answer_blocks import (
    NEUTRAL_QUESTION,
    NO_PARTNER,
    NONE_LEFT,
    ONE_ANSWER,
    Item,
    block_score,
    blocks_of,
    build_blocks,
    common_question,
    families,
)
from medr1.data.blind import MajorityLetter, TextPrior, format_rule, longest_option, rule_accuracy
from medr1.data.harden import NOT_CHOICE, SHEET_COLUMNS, UNCLEAR, controlled, harden, harden_questions
from medr1.data.questions import question_set
from medr1.data.settings import HardenSettings
from medr1.data.synonyms import exclusive, finds_nothing, imaging_technique, tidy, topic
from medr1.errors import ConfigError
from medr1.records import read_samples, write_samples
from medr1.types import ImageRef, Prediction, Sample


def ask(
    number: int, answer: str, question: str = "What is shown?", image: str | None = None, **fields: object
) -> Sample:
    name = f"{number}.png" if image is None else image
    values: dict[str, object] = {"source": "own", "modality": "CT", "group": name} | fields
    return Sample(
        id=f"q{number:03d}",
        images=(ImageRef(path=name),),
        question=question,
        options=(f"wrong about {answer}", answer, "Never right"),
        answer_index=1,
        **values,  # pyright: ignore[reportArgumentType]
    )


def hardened(*samples: Sample, size: int = 4, seed: int = 0) -> list[Sample]:
    return list(harden_questions(question_set("x", samples), size=size, seed=seed).samples.values())


def option_sets(*samples: Sample) -> set[frozenset[str]]:
    return {frozenset(sample.options) for sample in hardened(*samples)}


answers = st.lists(st.sampled_from(["liver", "Kidney.", "spleen", "Aorta", "_bladder", "No", "ovary"]), max_size=40)


@given(answers, st.integers(2, 5), st.integers(0, 3), st.data())
def test_any_rule_over_the_text_scores_one_over_k_in_every_block(found: list[str], size: int, seed: int, data):  # type: ignore[no-untyped-def]
    samples = [ask(n, answer, f"What {n % 3}?", image=f"{n // 2}.png") for n, answer in enumerate(found)]
    result = harden_questions(question_set("x", samples), size=size, seed=seed)
    blocks = defaultdict(list)
    for sample in result.samples.values():
        blocks[sample.extra["block"]].append(sample)
    secret = data.draw(st.integers())
    rules = [format_rule, longest_option, MajorityLetter(samples), TextPrior(samples), lambda s: any_rule(s, secret)]
    for members in blocks.values():
        k = len(members)
        assert 2 <= k <= size
        assert len({(s.question, s.options) for s in members}) == 1
        assert sorted(s.answer_index for s in members if s.answer_index is not None) == list(range(k))
        assert len({s.images for s in members}) == k
        for rule in rules:
            expected = 0 if max(rule(members[0])) >= k else 1 / k
            assert rule_accuracy(rule, members) == pytest.approx(expected, abs=1e-12)
    assert len(result.samples) + len(result.left_out) == len(samples)
    assert not result.samples.keys() & result.left_out.keys()
    assert len({s.id for s in result.samples.values()}) == len(result.samples)
    again = harden_questions(question_set("x", samples[::-1]), size=size, seed=seed)
    assert again.samples == result.samples
    assert again.left_out == result.left_out


def any_rule(sample: Sample, secret: int) -> tuple[int, ...]:
    """A function of the text that nobody has thought of."""
    seen = hashlib.sha256(f"{secret} {sample.question} {sample.options}".encode()).digest()
    return (seen[0] % len(sample.options),)


def test_a_hardened_question_keeps_the_original_beside_it():
    original = ask(1, "x_ray finding.", rationale="because")
    (one, other) = sorted(hardened(original, ask(2, "nodule")), key=lambda s: s.extra["original_id"])
    assert one.extra["original_id"] == "q001" != one.id
    assert one.extra["original_question"] == one.question == other.question == "What is shown?"
    assert json.loads(one.extra["original_options"]) == list(original.options)
    assert one.extra["original_answer"] == "x_ray finding."
    assert set(one.options) == {"X ray finding", "Nodule"}
    assert one.answer_index is not None
    assert one.options[one.answer_index] == "X ray finding"
    assert (one.images, one.group, one.rationale, one.variant) == (original.images, original.group, None, "")
    assert blocks_of([one, other, original]) == {one.id: one.extra["block"], other.id: one.extra["block"]}


def test_no_distractor_is_true_of_the_same_image_or_series():
    twice = [ask(1, "liver", image="a.png"), ask(2, "kidney", image="a.png")]
    assert option_sets(*twice) == set()
    assert option_sets(*twice, ask(3, "spleen"), ask(4, "spleen")) == {
        frozenset({"Liver", "Spleen"}),
        frozenset({"Kidney", "Spleen"}),
    }
    # Answers that were right together for one image stand together nowhere.
    assert frozenset({"Liver", "Kidney"}) not in option_sets(*twice, ask(3, "liver"), ask(4, "kidney"))
    slices = [
        ask(n, answer, image=f"Images/RadImageNet/x/usn{number}.png", source="RadImageNet")
        for n, (answer, number) in enumerate([("liver", 1), ("kidney", 11), ("spleen", 100)])
    ]
    assert option_sets(*slices) == {frozenset({"Liver", "Spleen"})} or option_sets(*slices) == {
        frozenset({"Kidney", "Spleen"})
    }


def test_what_is_true_of_the_other_eye_of_a_patient_may_be_wrong_of_this_one():
    eyes = [
        ask(n, f"{side} eye", image=f"Images/Diabetic Retinopathy/0/7_{side}.jpeg", source="Diabetic Retinopathy")
        for n, side in enumerate(("left", "right"))
    ]
    assert option_sets(*eyes) == {frozenset({"Left eye", "Right eye"})}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("thyroid", "Thyroid nodule", False),
        ("chondral pathology", "Chondral abnormality", False),
        ("Bowel abnormality", "bowel inflammation", False),
        ("Soft tissue fluid", "soft tissue fluid collection", False),
        ("X-ray", "Mammography", False),
        ("Uterus", "fibroid", False),
        ("COVID-19", "Pneumonia", False),
        ("first metacarpophalangeal", "Metacarpophalangeal", False),
        ("Stage IIIa", "Squamous cell carcinoma of the left hilum", False),
        ("Stage IIIa", "Stage Ib", True),
        ("No abnormality", "Abnormality present", True),
        ("No diabetic retinopathy", "Mild diabetic retinopathy", True),
        ("basal cell carcinoma", "squamous cell carcinoma", True),
        ("COVID-19 positive", "COVID-19 negative", True),
        ("liver", "kidney", True),
    ],
)
def test_exclusive(one: str, other: str, expected: bool):
    assert exclusive(one, other) is exclusive(other, one) is expected


@pytest.mark.parametrize("answer", ["It's NORMAL.", "No, It's normal", "No abnormality detected (normal)", "Normal"])
def test_finding_nothing_has_many_names(answer: str):
    assert finds_nothing(answer)
    assert not finds_nothing(f"{answer} tail")


def test_texts_are_tidied_and_topics_found():
    assert tidy("No diabetic retinopathy.") == "No diabetic retinopathy"
    assert tidy("Yes, the tail appears to be abnormal") == "The tail appears to be abnormal"
    assert topic("Is this CT scan image indicative of COVID-19?") == "19 covid"
    assert topic("Is this image free of abnormalities?") == "finding free"
    assert imaging_technique("x_ray.") == "X-ray"
    assert imaging_technique("Liver") is None


def test_families_follow_shared_answers_and_stay_in_their_data_set():
    samples = [
        ask(1, "liver", "Organ?"),
        ask(2, "liver", "Which organ?"),
        ask(3, "kidney", "Which organ?"),
        ask(4, "nodule", "Finding?"),
        ask(5, "liver", "Organ?", source="other"),
        ask(6, "liver", "Organ?", modality="MRI"),
    ]
    names = [family for family, _ in families(samples)]
    assert names[0] == names[1] == names[2]
    assert len(set(names)) == 4


def test_a_normal_image_is_asked_among_the_findings():
    samples = [
        ask(1, "No.", "Is there any abnormality in this image?"),
        ask(2, "nodule", "What abnormality is visible?"),
        ask(3, "fracture", "What anomaly is visible?"),
        ask(4, "liver", "Which organ is it?", task="Anatomy Identification"),
    ]
    (options,) = option_sets(*samples)
    assert options == {"No abnormality", "Nodule", "Fracture"}
    # "No" to another question says something else, and "free of" turns the meaning round.
    for question in ("Is the lesion malignant?", "Is this image free of abnormalities?"):
        assert option_sets(ask(1, "No.", question), *samples[1:3]) == set()


def test_yes_no_questions_of_one_topic_are_a_family():
    samples = [
        ask(1, "Yes", "Is the lesion malignant?"),
        ask(2, "No", "Does this image show a malignant lesion?"),
        ask(3, "No", "Is the lesion benign?"),
    ]
    found = hardened(*samples)
    assert {s.extra["original_id"] for s in found} == {"q001", "q002"}
    assert {s.question for s in found} == {"Is the lesion malignant?"}
    assert {s.options for s in found} <= {("Yes", "No"), ("No", "Yes")}


def test_imaging_techniques_are_one_family_over_data_sets():
    samples = [
        ask(1, "CT.", source="a"),
        ask(2, "Computed tomography", source="b"),
        ask(3, "x_ray.", source="c", modality="X-Ray"),
    ]
    assert option_sets(*samples) == {frozenset({"Computed tomography (CT)", "X-ray"})}


def test_different_wordings_get_the_neutral_one_of_their_task():
    one, other = (ask(n, "liver", f"Question {n}?", task="Anatomy Identification") for n in (1, 2))
    assert common_question([one, other]) == NEUTRAL_QUESTION["Anatomy Identification"]
    assert common_question([one, ask(3, "liver", "Other?", task="Lesion Grading")]) == NEUTRAL_QUESTION["unknown"]
    assert common_question([one, ask(4, "x", "question 1")]) == "Question 1?"


def items(*answers_: str, truths: tuple[str, ...] = ()) -> list[Item]:
    return [
        Item(sample=ask(n, a), family=("f",), answer=a, truths=frozenset({a, *truths})) for n, a in enumerate(answers_)
    ]


def test_reasons_for_what_falls_out():
    assert set(build_blocks(items("hip", "hip"), exclusive).left_out.values()) == {ONE_ANSWER}
    assert list(build_blocks(items("hip", "hip", "rib"), exclusive).left_out.values()) == [NONE_LEFT]
    assert set(build_blocks(items("hip", "rib", truths=("hip", "rib")), exclusive).left_out.values()) == {NO_PARTNER}
    assert set(build_blocks(items("lung", "lung nodule"), exclusive).left_out.values()) == {NO_PARTNER}
    samples = [
        ask(1, "Intra type of RadImageNet dataset"),
        Sample(id="open", images=(), question="Why?", answers=("x",)),
    ]
    left_out = harden_questions(question_set("x", samples)).left_out
    assert left_out == {("q001", ""): UNCLEAR, ("open", ""): NOT_CHOICE}


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(2, 4))
def test_level_pools_are_used_up(answers_: list[int], size: int):
    """Without conflicts, only the surplus of an answer that is commoner than all others together falls out."""
    result = build_blocks(items(*map(str, answers_)), lambda a, b: a != b, size)
    counts = sorted((answers_.count(a) for a in set(answers_)), reverse=True)
    kept = sum(map(len, result.blocks))
    surplus = max(0, counts[0] - sum(counts[1:])) if counts else 0
    if size == 2:
        assert kept == len(answers_) - max(surplus, len(answers_) % 2)
    assert len(answers_) - kept <= max(counts[0] - min(counts[0], max(counts[1:], default=0)), 1) if counts else True


def predict(id_: str, answer: str | None, gold: str, draw: int = 0) -> Prediction:
    return Prediction(
        id=id_, variant="", draw=draw, group="", modality="", task="", source="", options=(), gold=gold,
        prompt_style="", completion="", answer=answer, parse_status="ok", num_tokens=0,
    )  # fmt: skip


def test_block_score():
    blocks = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
    right = [predict(f"a{n}", "AB"[n - 1], "AB"[n - 1]) for n in (1, 2)]
    wrong = [predict("b1", "A", "A"), predict("b2", None, "B")]
    score = block_score([*right, *wrong, predict("c1", "A", "A"), predict("elsewhere", "A", "A")], blocks)
    assert (score.num_blocks, score.all_right, score.chance, score.num_incomplete) == (2, 0.5, 0.25, 1)
    second_draw = [predict(f"a{n}", "A", "AB"[n - 1], draw=1) for n in (1, 2)]
    assert block_score([*right, *second_draw], blocks).all_right == 0.5
    empty = block_score([], blocks)
    assert (empty.num_blocks, empty.all_right, empty.chance) == (0, None, None)


def test_controlled_subset_has_no_question_that_a_blind_rule_answers():
    train = [ask(n, "liver") for n in range(20)]
    solved, unsolved = ask(100, "liver"), ask(101, "Zebra")
    unsolved = Sample(
        id="u",
        images=(),
        question="Other?",
        options=("Some very long text that is wrong.", "Ab", "lower"),
        answer_index=1,
    )
    assert controlled(train, [solved, unsolved]) == [unsolved]


def test_command_writes_everything(tmp_path: Path):
    organs = ["liver", "kidney", "spleen", "aorta"]
    samples = [ask(n, organs[n % 4]) for n in range(21)]
    write_samples(tmp_path / "data", samples, embed_images=False)
    out = tmp_path / "out"
    arguments = ["harden", str(tmp_path / "data"), "--out", str(out), "--train", str(tmp_path / "data")]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "harden.json").read_text())
    assert (summary["n"], summary["kept"], summary["left_out"]) == (21, 20, {NONE_LEFT: 1})
    assert summary["blocks_by_size"] == {"4": 5}
    assert summary["blind"]["original"]["text_prior"] == 1
    for fitted in ("hardened", "hardened_fitted_on_hardened"):
        assert set(summary["blind"][fitted].values()) == {0.25}
    assert summary["controlled"]["n"] == len(list(read_samples(out / "controlled"))) == 0
    read = list(read_samples(out / "hardened"))
    assert len(read) == 20
    assert all(sample.extra["original_id"] in {s.id for s in samples} for sample in read)
    with (out / "sample_sheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert tuple(rows[0]) == SHEET_COLUMNS
    table = CliRunner().invoke(app, [*arguments, "--overwrite", "--options", "3"], catch_exceptions=False)
    assert "20 of 21" in table.stdout or "21 of 21" in table.stdout
    assert "text prior" in table.stdout
    with pytest.raises(ConfigError, match="options is 1: input should be greater than or equal to 2"):
        harden(HardenSettings(data=tmp_path / "data", out=tmp_path / "no", options=1))
    assert not (tmp_path / "no").exists()
