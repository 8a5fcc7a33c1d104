"""What every reward promises: bounded, pure, never None, and full marks for the gold answer in its own format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.rewards import REWARDS, sample_columns, trl_reward
from medr1.types import LETTERS, Sample, Score

PUBLISHED = {"medvlm-r1/accuracy", "medvlm-r1/format", "med-r1/accuracy", "med-r1/format", "med-r1/format-nothink"}
ACCURACIES = [name for name in REWARDS if name.endswith("accuracy")]

pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "A", "B", "b", "B.", "CT", " ", "\n"]
)
texts = st.lists(pieces | st.text(max_size=10), max_size=10).map("".join)
samples = st.lists(st.text(max_size=10), min_size=1, max_size=10).flatmap(
    lambda options: st.integers(0, len(options) - 1).map(
        lambda gold: Sample(id="1", images=(), question="?", options=tuple(options), answer_index=gold)
    )
)


def ideal(name: str, letter: str | None) -> str:
    answer = f"<answer>{letter}</answer>"
    return answer if name.endswith("nothink") else f"<think>r</think>{answer}"


def test_the_promised_names_are_there():
    assert {"accuracy", "format", "format-nothink"} | PUBLISHED <= set(REWARDS)


@pytest.mark.parametrize("name", REWARDS)
@given(completion=texts, sample=samples)
def test_bounded_and_deterministic(name, completion, sample):
    score = REWARDS[name](completion, sample)
    assert isinstance(score, Score)
    assert isinstance(score.value, float)
    assert 0.0 <= score.value <= 1.0
    assert score.breakdown
    assert all(isinstance(part, float) for part in score.breakdown.values())
    assert score == REWARDS[name](completion, sample)


@pytest.mark.parametrize("name", REWARDS)
@given(sample=samples)
def test_the_gold_answer_earns_full_marks_in_its_own_format(name, sample):
    assert REWARDS[name](ideal(name, sample.gold), sample).value == 1.0


@pytest.mark.parametrize("name", ACCURACIES)
@given(sample=samples)
def test_no_other_letter_earns_anything(name, sample):
    for wrong in set(LETTERS) - {sample.gold}:
        assert REWARDS[name](ideal(name, wrong), sample).value == 0.0


@pytest.mark.parametrize("name", REWARDS)
def test_nothing_earns_nothing(name):
    sample = Sample(id="1", images=(), question="?", options=("x", "y"), answer_index=0)
    assert REWARDS[name]("", sample).value == 0.0


@pytest.mark.parametrize("name", REWARDS)
@given(completions=st.lists(texts, min_size=1, max_size=4), sample=samples)
def test_trl_gives_the_same_numbers(name, completions, sample):
    columns = {key: [value] * len(completions) for key, value in sample_columns(sample).items()}
    conversations = [[{"role": "assistant", "content": text}] for text in completions]
    wanted = [REWARDS[name](text, sample).value for text in completions]
    reward = trl_reward(name)
    assert reward(prompts=[""] * len(completions), completions=completions, **columns) == wanted
    assert reward(prompts=[[]] * len(completions), completions=conversations, **columns) == wanted
