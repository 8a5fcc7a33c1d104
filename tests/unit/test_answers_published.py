"""The published evaluators where the measured table (test_answers_seed_cases) does not reach, and their statuses."""

import pytest

from medr1.answers import PROTOCOLS
from medr1.types import ParseStatus, Sample

S = ParseStatus
SAMPLE = Sample(id="1", images=(), question="What?", options=("CT", "Breast tissue", "MRI", "X-ray"), answer_index=1)


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        ("<ANSWER>b</ANSWER>", "B"),
        ("<answer>\nB\n</answer>", "B"),
        ("<answer>A</answer> wait <answer>B</answer>", "A"),
        ("<answer>CT</answer>", "CT"),
        ("<answer>ct</answer>", "CT"),
        ("<answer>B.</answer>", None),
        ("<answer>(B)</answer>", None),
        ("<answer>Breast tissue</answer>", None),
        ("<answer>Ｂ</answer>", "Ｂ"),
        ("B", None),
        ("", None),
    ],
)
def test_advmed_r1(completion, letter):
    assert PROTOCOLS["advmed-r1"](completion, SAMPLE).letter == letter


# Section 9a of the protocol survey: what R1N (the Qwen2.5 no-think rule) makes of untagged outputs.
@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        ("B\n", "B\n"),
        (" B", " B"),
        ("**Answer:** B", "**Answer:** B"),
        ("The answer is (B).", None),
        ("Cannot determine the answer", None),
        ("<ANSWER>B</ANSWER>", "<ANSWER>B</ANSWER>"),
    ],
)
def test_med_r1_nothink_is_raw_without_the_word_answer(completion, letter):
    assert PROTOCOLS["med-r1/nothink"](completion, SAMPLE).letter == letter


@pytest.mark.parametrize(
    ("name", "completion", "status"),
    [
        ("medvlm-r1/complex", "<answer>B</answer>", S.OK),
        ("medvlm-r1/complex", "<answer>K</answer>", S.NOT_AN_OPTION),
        ("medvlm-r1/complex", "<answer>E</answer>", S.NOT_AN_OPTION),
        ("medvlm-r1/complex", "<answer>B.</answer>", S.NOT_AN_OPTION),
        ("medvlm-r1/complex", "<answer> </answer>", S.EMPTY),
        ("medvlm-r1/complex", "B", S.MISSING_TAG),
        ("medvlm-r1/complex", "<think>r</think><answer>B", S.TRUNCATED),
        ("medvlm-r1/complex", "<think>r", S.TRUNCATED),
        ("medvlm-r1/complex", "<answer>B.</answer><answer>C.</answer>", S.SEVERAL_ANSWERS),
        ("medvlm-r1/complex", " \n", S.EMPTY),
        ("med-r1/think", "<answer>AB</answer>", S.NOT_AN_OPTION),
        ("med-r1/think", "<answer>b</answer>", S.NOT_AN_OPTION),
        ("med-r1/think", "The answer is B", S.MISSING_TAG),
        ("med-r1/nothink", "B", S.OK),
        ("med-r1/nothink", "B.", S.NOT_AN_OPTION),
        ("med-r1/zeroshot", "B", S.OK),
        ("med-r1/zeroshot", "AB", S.NOT_AN_OPTION),
        ("med-r1/zeroshot", "<answer>B</answer>", S.NOT_AN_OPTION),
        ("med-r1/zeroshot", "", S.EMPTY),
        ("medvlm-r1/simple", "B\n", S.NOT_AN_OPTION),
        ("advmed-r1", "<answer>b</answer>", S.OK),
    ],
)
def test_status_says_whether_it_is_an_option(name, completion, status):
    assert PROTOCOLS[name](completion, SAMPLE).status is status


def test_letters_beyond_the_options_of_this_question_are_not_ok():
    yes_no = Sample(id="1", images=(), question="Any?", options=("Yes", "No"), answer_index=1)
    assert PROTOCOLS["med-r1/think"]("<answer>C</answer>", yes_no).status is S.NOT_AN_OPTION
    assert PROTOCOLS["med-r1/zeroshot"]("AB", yes_no).status is S.NOT_AN_OPTION
