"""Rewards of typed answers, of consistent thinking and of length: by hand."""

import math

import pytest

from medr1.errors import DataError
from medr1.rewards import REWARDS
from medr1.rewards.ours import cosine_length, soft_overlong
from medr1.types import Sample

CHOICE = Sample(id="c", images=(), question="?", options=("CT", "MRI", "X-ray"), answer_index=1)
YES = Sample(id="y", images=(), question="?", options=("Yes", "No"), answer_index=0, answer_type="yes_no")
NO = Sample(id="n", images=(), question="?", answer_type="yes_no", answers=("no",))
NUMBER = Sample(id="f", images=(), question="?", answer_type="number", answers=("40",))
ZERO = Sample(id="z", images=(), question="?", answer_type="number", answers=("0",))
LABELS = Sample(id="m", images=(), question="?", answer_type="multi", answers=("Cardiomegaly", "Pleural effusion"))
TEXT = Sample(id="t", images=(), question="?", answer_type="text", answers=("left upper lobe", "apex of the left lung"))
NO_MASS = Sample(id="u", images=(), question="?", answer_type="text", answers=("no mass",))


@pytest.mark.parametrize(
    ("name", "sample", "answer", "value"),
    [
        ("yes-no", YES, "Yes", 1),
        ("yes-no", YES, "A", 1),
        ("yes-no", YES, "no", 0),
        ("yes-no", NO, "No.", 1),
        ("yes-no", NO, "B", 0),
        ("yes-no", NO, "yes and no", 0),
        ("number", NUMBER, "40.0", 1),
        ("number", NUMBER, "40.01", 0),
        ("number", NUMBER, "40 mm", 0),
        ("number-relaxed", NUMBER, "42", 1),
        ("number-relaxed", NUMBER, "38", 1),
        ("number-relaxed", NUMBER, "42.01", 0),
        ("number-relaxed", NUMBER, "-40", 0),
        ("number-relaxed", ZERO, "0.0", 1),
        ("number-relaxed", ZERO, "0.001", 0),
        ("labels-exact", LABELS, "pleural effusion, Cardiomegaly", 1),
        ("labels-exact", LABELS, "Cardiomegaly", 0),
        ("labels-exact", LABELS, "Cardiomegaly; Pleural effusion; Mass", 0),
        ("labels-f1", LABELS, "Pleural effusion; Cardiomegaly; cardiomegaly", 1),
        ("labels-f1", LABELS, "Cardiomegaly", 2 / 3),
        ("labels-f1", LABELS, "Cardiomegaly; Pleural effusion; Mass", 0.8),
        ("labels-f1", LABELS, "Cardiomegaly; Mass", 0),  # half right is not more right than wrong
        ("labels-f1", LABELS, "Effusion", 0),
        ("labels-f1", LABELS, "not Cardiomegaly", 0),
        ("text-exact", TEXT, "The left upper lobe.", 1),
        ("text-exact", TEXT, "Apex of left lung", 1),
        ("text-exact", TEXT, "upper left lobe", 0),
        ("text-f1", TEXT, "upper lobe", 0.8),
        ("text-f1", TEXT, "upper left lobe", 1),
        ("text-f1", TEXT, "apex of lung", 6 / 7),
        ("text-f1", TEXT, "lobe", 0.5),
        ("text-f1", TEXT, "left upper lobe mass", 6 / 7),
        ("text-f1", TEXT, "big left upper lobe mass", 0),  # 3 of 5 words
        ("text-f1", TEXT, "not left upper lobe", 0),
        ("text-f1", TEXT, "left upper lobe or spleen", 0),
        ("text-f1", TEXT, "left upper lobe, spleen", 0),
        ("text-f1", TEXT, "left lobe, upper", 1),
        ("text-f1", NO_MASS, "mass", 0),
        ("text-f1", NO_MASS, "No mass", 1),
        ("text-f1", TEXT, "spleen", 0),
    ],
)
def test_values_by_hand(name, sample, answer, value):
    for reward in {name, "answer"} if name in ("yes-no", "number", "labels-f1", "text-f1") else {name}:
        for completion in (f"<answer>{answer}</answer>", f"<think>r</think><answer>{answer}</answer>"):
            assert REWARDS[reward](completion, sample).value == pytest.approx(value, abs=1e-12)
    assert REWARDS[name](answer, sample).value == 0
    assert REWARDS[name](f"<answer>{answer}</answer>" * 2, sample).value == 0


def test_breakdowns_tell_wrong_from_unreadable_and_keep_plain_f1():
    wrong, unreadable = (REWARDS["number"](text, NUMBER) for text in ("<answer>3</answer>", "<answer>three</answer>"))
    assert (wrong.answer, wrong.breakdown) == ("3", {"accuracy": 0, "readable": 1})
    assert (unreadable.answer, unreadable.breakdown) == (None, {"accuracy": 0, "readable": 0})
    half = REWARDS["labels-f1"]("<answer>Mass; Cardiomegaly</answer>", LABELS)
    assert half.answer == "cardiomegaly; mass"
    assert half.breakdown == {"f1": 0, "readable": 1, "plain_f1": 0.5, "precision": 0.5, "recall": 0.5}
    denied = REWARDS["text-f1"]("<answer>mass</answer>", NO_MASS)
    assert denied.breakdown["plain_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("completion", "value", "concluded"),
    [
        ("<think>CT? No, MRI.</think><answer>B</answer>", 1, 1),
        ("<think>CT? No, MRI.</think><answer>MRI</answer>", 1, 1),
        ("<think>So the answer is A.</think><answer>A</answer>", 1, 1),  # wrong, but it follows
        ("<think>It is MRI, not CT.</think><answer>A</answer>", 0, 1),
        ("<think>So the answer is A.</think><answer>B</answer>", 0, 1),
        ("<think>It is bright.</think><answer>B</answer>", 0, 0),
        ("<think>MRI</think><answer>A or B</answer>", 0, 1),
        ("<think>MRI</think>MRI<answer>B</answer>", 0, 0),
        ("<answer>B</answer>", 0, 0),
    ],
)
def test_consistency(completion, value, concluded):
    score = REWARDS["consistency"](completion, CHOICE)
    assert score.breakdown == {"consistency": value, "concluded": concluded}
    assert score.value == value


def completion_of(characters: int, answer: str = "B") -> str:
    empty = f"<think></think><answer>{answer}</answer>"
    return empty.replace("<think>", "<think>" + "r" * (characters - len(empty)))


def test_soft_overlong_punishment():
    reward = soft_overlong(limit=100, buffer=20)
    lengths = (50, 80, 85, 90, 99, 100, 101, 500)
    assert [reward(completion_of(n), CHOICE).value for n in lengths] == pytest.approx([1, 1, 0.75, 0.5, 0.05, 0, 0, 0])
    assert reward(completion_of(50, "A"), CHOICE).value == 1  # not about the answer
    assert reward("B", CHOICE).value == 0
    assert reward("<answer>B</answer> junk", CHOICE).value == 0
    assert reward(completion_of(85), CHOICE).breakdown == {"length": 0.75, "characters": 85}


def test_cosine_length():
    reward = cosine_length(limit=200, longest=0.5)
    assert reward(completion_of(100), CHOICE).value == pytest.approx(0.75)
    assert reward(completion_of(200), CHOICE).value == pytest.approx(0.5)
    assert reward(completion_of(50), CHOICE).value == pytest.approx(0.5 + 0.25 * (1 + math.sqrt(0.5)))
    assert reward(completion_of(201), CHOICE).value == 0
    assert reward(completion_of(50, "A"), CHOICE).value == 0
    assert reward(completion_of(100, "upper lobe"), TEXT).value == pytest.approx(0.8 * 0.75)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match=r"sample m has the answer type multi .* takes the type number"):
        REWARDS["number"]("", LABELS)
    with pytest.raises(DataError, match=r"sample c is no yes/no question"):
        REWARDS["yes-no"]("", CHOICE)
    with pytest.raises(DataError, match=r"sample t has no options"):
        REWARDS["consistency"]("", TEXT)
