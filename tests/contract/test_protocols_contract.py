"""What every protocol promises, whatever a model writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.answers import PROTOCOLS, applies
from medr1.answers.default import normalise
from medr1.types import LETTERS, ParsedAnswer, ParseStatus, Sample

PUBLISHED = {"medvlm-r1/complex", "medvlm-r1/simple", "med-r1/think", "med-r1/nothink", "med-r1/zeroshot", "advmed-r1"}
IDEAL = ("<think>r</think><answer>{}</answer>", "<answer>{}</answer>", "{}")
"""What the prompts of the field ask for; every protocol gives full marks to one of them."""
COMPARE_TEXTS = {name for name in PROTOCOLS if name.startswith(("omnimedvqa", "medix", "lmms-slake"))} | {
    "medevalkit-judgement@9b12e3b",
    "medevalkit-closed@9b12e3b",
    "vlmevalkit-yorn@e8e78f0",
}
"""Protocols that compare with the texts of the options, to which a letter means nothing."""
MISREAD_TEXTS = {"omnimedvqa-qa@bd2999a/medvint", "lmms-mcq@75571cf"}
"""Protocols that see a letter inside an option's text."""

pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "A", "B", "b", "CT", " ", "\n", "Ｂ"]
)
texts = st.lists(pieces | st.text(max_size=10), max_size=10).map("".join)
samples = st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=10).flatmap(
    lambda options: st.integers(0, len(options) - 1).map(
        lambda gold: Sample(id="1", images=(), question="?", options=tuple(options), answer_index=gold)
    )
)


def test_the_promised_names_are_there():
    assert {"default"} | PUBLISHED <= set(PROTOCOLS)


@pytest.mark.parametrize("name", PROTOCOLS)
@given(completion=texts, sample=samples | st.just(Sample(id="o", images=(), question="?", answer_type="text")))
def test_any_text_is_read_without_an_error_and_always_alike(name, completion, sample):
    parsed = PROTOCOLS[name](completion, sample)
    assert isinstance(parsed, ParsedAnswer)
    assert isinstance(parsed.status, ParseStatus)
    assert parsed == PROTOCOLS[name](completion, sample)


@pytest.mark.parametrize("name", PROTOCOLS)
@given(completion=texts, sample=samples)
def test_ok_means_a_letter_of_this_question(name, completion, sample):
    parsed = PROTOCOLS[name](completion, sample)
    assert (parsed.status is ParseStatus.OK) == (parsed.letter in list(LETTERS[: len(sample.options)]))


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - COMPARE_TEXTS))
@given(sample=samples)
def test_the_gold_answer_is_right_in_an_ideal_format_and_no_other_letter_is(name, sample):
    gold = {PROTOCOLS[name](form.format(sample.gold), sample).letter for form in IDEAL}
    assert sample.gold in gold
    named_like_letters = {normalise(option).upper() for option in sample.options}  # an option called "K" is no letter
    ours = name in {"default"} | PUBLISHED  # the kits look for option texts, which may occur in a tag, or guess
    wrong_letters = set(LETTERS if ours else LETTERS[: len(sample.options)]) - {sample.gold} - named_like_letters
    for wrong in wrong_letters:
        for form in IDEAL if ours else ("{}",):
            assert PROTOCOLS[name](form.format(wrong), sample).letter != sample.gold


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("options", [("Left lung", "Right kidney", "X-ray film"), ("Yes", "No")])
@pytest.mark.parametrize("gold", [0, 1])
def test_the_gold_text_or_letter_is_right_and_another_options_is_not(name, options, gold):
    sample = Sample(id="1", images=(), question="?", options=options, answer_index=gold)
    if not applies(name, sample):
        return
    read = PROTOCOLS[name]
    right = {read(form.format(text), sample).letter for form in IDEAL for text in (sample.gold, options[gold])}
    assert sample.gold in right
    other = options[1 - gold]
    assert read(other, sample).letter != sample.gold or name in MISREAD_TEXTS
