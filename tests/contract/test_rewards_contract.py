"""What every reward promises: bounded, pure, never None, and full marks for the gold answer in its own format."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medr1.answers.default import normalise
from medr1.answers.without_options import gold_text
from medr1.answers.wording import plain_words
from medr1.errors import DataError
from medr1.rewards import PAYS_FOR, REWARDS, sample_columns, trl_reward
from medr1.types import ANSWER_TYPES, LETTERS, Sample, Score

PUBLISHED = {"medvlm-r1/accuracy", "medvlm-r1/format", "med-r1/accuracy", "med-r1/format", "med-r1/format-nothink"}
ACCURACIES = [name for name in REWARDS if name.endswith("accuracy")]
LISTED = ("choice", "yes_no")
TYPES_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*ACCURACIES, "consistency"), LISTED),
    "yes-no": ("yes_no",),
    "number": ("number",),
    "number-relaxed": ("number",),
    "labels-f1": ("multi",),
    "labels-exact": ("multi",),
    "text-f1": ("text",),
    "text-exact": ("text",),
}
"""Answer types that a reward can score; those that are not named can score all."""

pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "A", "B", "b", "B.", "CT", "12.5", "yes", "; ", "\n"]
)
texts = st.lists(pieces | st.text(max_size=10), max_size=10).map("".join)
words = st.lists(st.text("bcdefghijklmnop", min_size=2, max_size=6), min_size=1, max_size=4).map(" ".join)
listed = st.lists(st.text(max_size=10), min_size=1, max_size=10).flatmap(
    lambda options: st.integers(0, len(options) - 1).map(
        lambda gold: Sample(id="1", images=(), question="?", options=tuple(options), answer_index=gold)
    )
)
ANSWERS = {
    "number": st.decimals(-(10**6), 10**6, places=3).map(lambda number: (str(number),)),
    "multi": st.lists(words, min_size=1, max_size=5).map(tuple),
    "text": st.lists(words, min_size=1, max_size=3).map(tuple),
}


def open_samples(kind: str) -> st.SearchStrategy[Sample]:
    return ANSWERS[kind].map(
        lambda answers: Sample(id="1", images=(), question="?", answer_type=kind, answers=answers)  # type: ignore[arg-type]
    )


yes_no = st.integers(0, 1).map(
    lambda gold: Sample(id="1", images=(), question="?", options=("Yes", "No"), answer_index=gold, answer_type="yes_no")
) | st.sampled_from(["Yes", "no"]).map(
    lambda answer: Sample(id="1", images=(), question="?", answer_type="yes_no", answers=(answer,))
)
SAMPLES = {"choice": listed, "yes_no": yes_no, **{kind: open_samples(kind) for kind in ANSWERS}}


def scorable(name: str, sample: Sample) -> bool:
    """Letters are wanted by those that read letters."""
    return sample.gold is not None or TYPES_OF.get(name) != LISTED


def samples_of(name: str) -> st.SearchStrategy[Sample]:
    kinds = TYPES_OF.get(name, ANSWER_TYPES)
    return st.one_of(*(SAMPLES[kind] for kind in kinds)).filter(lambda sample: scorable(name, sample))


def ideal(name: str, answer: str | None) -> str:
    block = f"<answer>{answer}</answer>"
    if name.endswith("nothink"):
        return block
    # "(B)" is the only way to name an option that no other option's text can be taken for.
    return f"<think>({answer})</think>{block}"


def test_the_promised_names_are_there():
    assert {"accuracy", "format", "format-nothink"} | PUBLISHED <= set(REWARDS)
    assert list(PAYS_FOR) == list(REWARDS)


@pytest.mark.parametrize("name", REWARDS)
@given(data=st.data(), completion=texts)
def test_bounded_and_deterministic(name, data, completion):
    sample = data.draw(samples_of(name))
    score = REWARDS[name](completion, sample)
    assert isinstance(score, Score)
    assert isinstance(score.value, float)
    assert 0.0 <= score.value <= 1.0
    assert score.breakdown
    assert all(isinstance(part, float) for part in score.breakdown.values())
    assert score == REWARDS[name](completion, sample)


@pytest.mark.parametrize("name", REWARDS)
@given(data=st.data())
def test_the_gold_answer_earns_full_marks_in_its_own_format(name, data):
    sample = data.draw(samples_of(name))
    # Thinking that names the letter "B" names an option that is called "B", if there is one.
    assume(name != "consistency" or sample.gold not in {plain_words(option).upper() for option in sample.options})
    length = 0.001 + len(str(gold_text(sample))) / 1000 if name == "length-cosine" else 0.0
    assert REWARDS[name](ideal(name, gold_text(sample)), sample).value == pytest.approx(1.0, abs=max(length, 1e-12))


@pytest.mark.parametrize("name", [*ACCURACIES, "answer", "length-cosine"])
@given(sample=listed)
def test_no_other_letter_earns_anything(name, sample):
    named_like_letters = {normalise(option).upper() for option in sample.options}  # an option called "K" is no letter
    for wrong in set(LETTERS) - {sample.gold} - named_like_letters:
        assert REWARDS[name](ideal(name, wrong), sample).value == 0.0


@pytest.mark.parametrize("name", REWARDS)
@given(data=st.data())
def test_nothing_earns_nothing(name, data):
    sample = data.draw(samples_of(name))
    assert REWARDS[name]("", sample).value == 0.0
    assert REWARDS[name]("\u200b \n", sample).value == 0.0


@pytest.mark.parametrize("name", TYPES_OF)
def test_a_sample_of_another_type_is_refused_whatever_the_completion(name):
    for kind in set(ANSWER_TYPES) - set(TYPES_OF[name]):
        with pytest.raises(DataError, match=r"sample x9 "):
            REWARDS[name]("", Sample(id="x9", images=(), question="?", answer_type=kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REWARDS)
@given(data=st.data(), completions=st.lists(texts, min_size=1, max_size=4))
def test_trl_gives_the_same_numbers(name, data, completions):
    sample = data.draw(samples_of(name))
    columns = {key: [value] * len(completions) for key, value in sample_columns(sample).items()}
    conversations = [[{"role": "assistant", "content": text}] for text in completions]
    wanted = [REWARDS[name](text, sample).value for text in completions]
    reward = trl_reward(name)
    assert reward(prompts=[""] * len(completions), completions=completions, **columns) == wanted
    assert reward(prompts=[[]] * len(completions), completions=conversations, **columns) == wanted
