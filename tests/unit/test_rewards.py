"""Rewards of ours by hand, the loop-holes that they close, and the way to TRL and back."""

import pytest

from medr1.errors import DataError
from medr1.rewards import REWARDS, sample_columns, trl_reward
from medr1.rewards.trl import part_means
from medr1.types import Sample, Score

SAMPLE = Sample(
    id="s1", images=(), question="What is shown?", options=("CT", "Breast tissue", "MRI", "X-ray"), answer_index=1
)
GOOD = "<think>soft tissue</think><answer>B</answer>"


@pytest.mark.parametrize(
    ("completion", "value", "readable", "answer"),
    [
        (GOOD, 1, 1, "B"),
        ("<think>r</think><answer>B. Breast tissue</answer>", 1, 1, "B"),
        ("<answer>b</answer>", 1, 1, "B"),
        ("<think>r</think><answer>A</answer>", 0, 1, "A"),
        ("<think>r</think><answer>K</answer>", 0, 0, None),
        ("<think>r</think><answer>A or B</answer>", 0, 0, None),
        ("<think>r</think><answer>B) CT</answer>", 0, 0, None),
        ("<answer>B</answer><answer>B</answer>", 0, 0, None),
        ("<think><answer>B</answer></think>", 0, 0, None),
        ("B", 0, 0, None),
        ("", 0, 0, None),
    ],
)
def test_accuracy_tells_wrong_from_unreadable(completion, value, readable, answer):
    score = REWARDS["accuracy"](completion, SAMPLE)
    assert (score.value, score.answer) == (value, answer)
    assert score.breakdown == {"accuracy": value, "readable": readable}


WELL_FORMED = [
    GOOD,
    "<think>r</think>\n<answer> B </answer>",
    "\n<think>\nr\n</think> \n <answer>\nB\n</answer>\n",
    "<think>a < b > c <b>bold</b></think><answer>anything</answer>",
]
LOOP_HOLES = [
    "<think></think><answer>B</answer>",
    "<think> \n </think><answer>B</answer>",
    "<think>r</think><answer></answer>",
    "<think>r</think><answer> </answer>",
    "<think>r</think><answer>\u200b</answer>",
    "<think>\u200b\u2060</think><answer>B</answer>",
    "<think>a</think><answer>x</answer>junk<answer>B</answer>",
    "<think>r</think><answer>B</answer><answer>B</answer>",
    "<think>maybe <answer>A</answer></think><answer>B</answer>",
    "<think>r</think><think>r</think><answer>B</answer>",
    "<think><think>r</think></think><answer>B</answer>",
    "<think>r</think><answer><answer>B</answer></answer>",
    "<think>r<answer>B</answer></think>",
    "<answer>B</answer><think>r</think>",
    "<think>r</think>junk<answer>B</answer>",
    "junk<think>r</think><answer>B</answer>",
    "<think>r</think><answer>B</answer>junk",
    "<think>r</think><answer>B</answer></answer>",
    "<think>r</think><answer>B<ANSWER></answer>",
    "<THINK>r</THINK><ANSWER>B</ANSWER>",
    "<think >r</think><answer>B</answer>",
    "<think>r</think><answer>B",
    "<think>r",
    "B",
    "",
]


def test_format_takes_exactly_think_then_answer():
    assert [REWARDS["format"](text, SAMPLE).value for text in WELL_FORMED] == [1.0] * len(WELL_FORMED)


@pytest.mark.parametrize("completion", [*LOOP_HOLES, "<answer>B</answer>"])
def test_loop_holes_earn_no_format(completion):
    score = REWARDS["format"](completion, SAMPLE)
    assert (score.value, score.breakdown) == (0.0, {"format": 0.0})


@pytest.mark.parametrize("completion", ["<answer>B</answer>", " \n<answer>\nB </answer>\n"])
def test_nothink_format_takes_exactly_one_answer(completion):
    assert REWARDS["format-nothink"](completion, SAMPLE).value == 1.0


@pytest.mark.parametrize("completion", [*LOOP_HOLES, *WELL_FORMED, "<answer>B</answer>\nB", "x <answer>B</answer>"])
def test_nothink_format_takes_nothing_else(completion):
    assert REWARDS["format-nothink"](completion, SAMPLE).value == 0.0


@pytest.mark.parametrize(
    ("name", "completion", "value"),
    [
        # Where the measured table does not reach.
        ("medvlm-r1/accuracy", "<ANSWER>\nb\n</ANSWER>", 1.0),
        ("medvlm-r1/accuracy", "<answer>Only B</answer>", 0.5),
        ("medvlm-r1/accuracy", "<answer>**B**</answer>", 0.5),
        ("medvlm-r1/accuracy", "<answer>Only K</answer>", 0.0),
        ("medvlm-r1/accuracy", "<answer>C.</answer>", 0.0),
        ("medvlm-r1/accuracy", "<answer>B\nB</answer>", 0.0),
        ("med-r1/accuracy", "<answer>\nB\n</answer>", 0.0),  # its pattern does not cross lines
        ("med-r1/accuracy", "\n B \t", 1.0),
        ("med-r1/accuracy", "<ANSWER>B</ANSWER>", 0.0),
        ("med-r1/accuracy", "<answer>\nA\n</answer><answer>B</answer>", 1.0),
        ("medvlm-r1/format", "<think>r</think>\n\n<answer>x</answer>junk<answer>B</answer>", 1.0),
        ("medvlm-r1/format", "<think>\nr\n</think><answer>B</answer>", 1.0),
        ("medvlm-r1/format", " <think>r</think><answer>B</answer>", 0.0),
        ("med-r1/format-nothink", "\n <answer>B</answer>", 1.0),
        ("med-r1/format-nothink", "<answer>B</answer>\n", 0.0),
        ("med-r1/format-nothink", "<answer>A</answer> or <answer>B</answer>", 1.0),
    ],
)
def test_published_rewards_by_hand(name, completion, value):
    assert REWARDS[name](completion, SAMPLE).value == value


def test_reward_without_a_right_option_is_refused():
    open_question = Sample(id="s9", images=(), question="?", answer_type="text", answers=("x",))
    for name in ("accuracy", "medvlm-r1/accuracy", "med-r1/accuracy"):
        with pytest.raises(DataError, match=r"s9.*answer_index"):
            REWARDS[name](GOOD, open_question)


def columns_of(*samples: Sample) -> dict[str, list]:
    rows = [sample_columns(sample) for sample in samples]
    return {key: [row[key] for row in rows] for key in rows[0]}


def test_sample_columns_hold_what_a_reward_needs():
    assert sample_columns(SAMPLE) == {
        "id": "s1",
        "question": "What is shown?",
        "options": ["CT", "Breast tissue", "MRI", "X-ray"],
        "answer_index": 1,
        "answer_type": "choice",
        "answers": [],
    }


def test_trl_reward_scores_row_by_row():
    yes_no = Sample(id="s2", images=(), question="Any?", options=("Yes", "No"), answer_index=0)
    columns = columns_of(SAMPLE, yes_no, yes_no)
    completions = ["<answer>B</answer>", "<answer>B</answer>", "<answer>Yes</answer>"]
    reward = trl_reward("accuracy")
    assert reward(prompts=["p"] * 3, completions=completions, **columns) == [1.0, 0.0, 1.0]
    assert reward(["p"] * 3, completions, trainer_state=object(), modality=["CT"] * 3, **columns) == [1.0, 0.0, 1.0]


def test_parts_of_scores_are_logged_but_those_that_are_the_score():
    logged = {}
    columns = {name: values * 2 for name, values in columns_of(SAMPLE).items()}
    texts = ["<answer>A</answer>", "no answer"]
    trl_reward("accuracy")(prompts=["p"] * 2, completions=texts, log_metric=logged.__setitem__, **columns)
    assert logged == {"rewards/accuracy/readable": 0.5}
    assert part_means([Score(value=1.0, breakdown={"a": 1.0, "b": 0.0}), Score(value=0.0, breakdown={"a": 0.5})]) == {
        "a": 0.75,
        "b": 0.0,
    }


def test_trl_reward_reads_conversations():
    parts = [{"type": "text", "text": "<think>r</think>"}, {"type": "text", "text": "<answer>B</answer>"}]
    completions = [
        [{"role": "assistant", "content": GOOD}],
        [{"role": "assistant", "content": parts}],
        [{"role": "assistant", "content": None}],
    ]
    reward = trl_reward("format")
    assert reward(prompts=[[]] * 3, completions=completions, **columns_of(SAMPLE, SAMPLE, SAMPLE)) == [1.0, 1.0, 0.0]


def test_trl_reward_names():
    assert [trl_reward(name).__name__ for name in ("accuracy", "format-nothink", "med-r1/format-nothink")] == [
        "accuracy",
        "format_nothink",
        "med_r1_format_nothink",
    ]


def test_rows_of_different_number_are_a_bug():
    with pytest.raises(ValueError, match="zip"):
        trl_reward("accuracy")(prompts=["p"], completions=["x", "y"], **columns_of(SAMPLE))
