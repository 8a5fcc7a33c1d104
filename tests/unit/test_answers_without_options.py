"""Readers of typed answers, and which option a chain of thought concludes: by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.answers import OPEN_PROTOCOLS
from medr1.answers.default import answer_text
from medr1.answers.without_options import gold_text, is_visible, read_labels, read_number, read_words, read_yes_no
from medr1.rewards import REWARDS
from medr1.types import ParseStatus, Sample


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        (" **12,5**. ", 12.5),
        ("$-3$", -3.0),
        ("\N{MINUS SIGN}3", -3.0),
        ("+.5", 0.5),
        ("1,234", 1234.0),
        ("1,234,567.5", 1234567.5),
        ("0,125", 0.125),
        ("12,34", 12.34),
        ("1234,567", 1234.567),
        ("1,2,3", None),
        ("1.2.3", None),
        ("12.5 mm", None),
        ("5 %", None),
        ("1 or 2", None),
        ("-", None),
        ("", None),
        ("nan", None),
        ("1e3", None),
        ("\uff11\uff12", None),
        ("\u0661\u0662", None),
    ],
)
def test_numbers(text, value):
    assert read_number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", "Yes"),
        ("no.", "No"),
        ("**NO**", "No"),
        ("The answer is yes", "Yes"),
        ("是。", "Yes"),
        ("是的", "Yes"),
        ("答案：否", "No"),
        ("【没有】", "No"),
        ("答案是是", "Yes"),
        ("不是很清楚", None),
        ("是否", None),
        ("Ｙｅｓ", "Yes"),
        ("yes or no", None),
        ("yes, no", None),
        ("A", None),
        ("B", None),
        ("no mass", None),
        ("not", None),
        ("", None),
    ],
)
def test_yes_and_no(text, value):
    assert read_yes_no(text) == value


def test_labels():
    assert read_labels("Mass; edema,Mass|\nHernia.") == {"mass", "edema", "hernia"}
    assert read_labels(" ; ,") is None
    assert read_labels("Mass\u200b") is None
    assert read_labels("A; (c)", ["Mass", "Edema", "Hernia"]) == {"mass", "hernia"}
    assert read_labels("A, D", ["Mass", "Edema"]) == {"mass", "d"}


def test_words_as_in_squad():
    assert read_words("The left-sided, Upper lobe!") == ("leftsided", "upper", "lobe")
    assert read_words("an a the") is None
    assert read_words("...") is None
    assert read_words("lo\u00adbe") is None
    assert read_words("upper\u00a0lobe") == ("upper", "lobe")


@given(st.text())
def test_readers_take_any_text(text):
    read_number(text), read_yes_no(text), read_labels(text), read_words(text)
    assert is_visible(text) <= bool(text.strip())


def test_gold_texts():
    facts = {"id": "1", "images": (), "question": "?"}
    assert gold_text(Sample(**facts, options=("x", "y"), answer_index=1)) == "B"
    assert gold_text(Sample(**facts, answer_type="multi", answers=("x", "y"))) == "x; y"
    assert gold_text(Sample(**facts, answer_type="text", answers=("x", "y"))) == "x"
    assert gold_text(Sample(**facts)) is None
    assert gold_text(Sample(**facts, answer_type="multi")) is None


def test_the_one_answer_of_a_completion():
    assert answer_text("<answer> x </answer>") == ("x", ParseStatus.OK)
    assert answer_text("<think>a<answer>b</answer></think><answer>c</answer>") == ("c", ParseStatus.OK)
    assert answer_text("x", "letter") == ("x", ParseStatus.OK)
    assert answer_text("x")[1] is ParseStatus.MISSING_TAG
    assert answer_text(" ")[1] is ParseStatus.EMPTY
    assert answer_text("<think>x")[1] is ParseStatus.TRUNCATED
    assert answer_text("<answer>x</answer><answer>x</answer>")[1] is ParseStatus.SEVERAL_ANSWERS


@pytest.mark.parametrize(
    ("completion", "gold", "score"),
    [
        ("是。", "是", 1),
        ("<answer>是。</answer>", "是", 1),
        ("答案：是的！", "是", 1),
        ("否", "是", 0),
        ("左肺，上叶。", "左肺上叶", 1),
        ("“Left lung”.", "left lung", 1),
        ("The answer is the left lung.", "Left lung", 1),
        ("right lung", "Left lung", 0),
        ("12,5", "12.5", 1),
        ("<think>是</think>否。", "否", 1),
        ("", "是", 0),
        ("<answer>是</answer><answer>否</answer>", "是", 0),
        ("Yes.", "是", 1),
    ],
)
def test_our_own_reading_of_open_questions(completion, gold, score):
    assert OPEN_PROTOCOLS["medr1-open"](completion, gold) == score


def test_rewards_of_free_text_know_chinese_punctuation():
    sample = Sample(id="1", images=(), question="?", answer_type="text", answers=("是",))
    assert REWARDS["text-exact"]("<answer>是。</answer>", sample).value == 1
    assert REWARDS["text-exact"]("<answer>否。</answer>", sample).value == 0
    assert read_labels("水肿、积液；骨折") == {"水肿", "积液", "骨折"}
