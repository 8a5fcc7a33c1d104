"""What every prompt promises: the question as its author wrote it, nothing of the answer, and a target it can read."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medr1.answers import PROTOCOLS, parse_answer
from medr1.prompts import PROMPTS, messages, render, target
from medr1.types import LETTERS, ImageRef, ParseStatus, Sample

pieces = st.sampled_from(
    ["{Question}", "{Answer}", "{", "}", "%s", "\\1", "A) ", "B)CT", "\n", "<answer>", "<image>", "？"]
)
texts = st.lists(pieces | st.text("abcdefg ", min_size=1, max_size=6), min_size=1, max_size=6).map("".join)
names = st.lists(st.text("bcdefghijklmnop", min_size=3, max_size=8), min_size=2, max_size=12, unique=True)


@st.composite
def choices(draw: st.DrawFn) -> Sample:
    """A question with options, of which some may be left out."""
    options = draw(names)
    gold = draw(st.integers(0, len(options) - 1))
    left_out = draw(st.sets(st.integers(0, len(options) - 1), max_size=2)) - {gold}
    return Sample(
        id="1",
        images=tuple(ImageRef(path=f"secret/{n}.png") for n in range(draw(st.integers(0, 3)))),
        question=draw(texts),
        options=tuple("" if place in left_out else option for place, option in enumerate(options)),
        answer_index=gold,
        rationale="It is soft.",
    )


@pytest.mark.parametrize("name", PROMPTS)
@settings(max_examples=25)
@given(sample=choices())
def test_question_and_options_stand_as_they_were_written(name: str, sample: Sample) -> None:
    shown = render(PROMPTS[name], sample)
    before, _, after = PROMPTS[name].text.partition("{Question}")
    assert shown.startswith(before.replace("{Answer}", "the letter of the right option") + sample.question)
    assert shown.endswith(after.replace("{Answer}", "the letter of the right option"))
    at = len(before) + len(sample.question)
    for letter, option in zip(LETTERS, sample.options, strict=False):
        if option:
            space = {"lines": " ", "inline": ""}[PROMPTS[name].options_style]
            found = shown.find(f"{letter}){space}{option}", at)
            assert found >= 0, "every option behind its own letter, in order"
            at = found + len(option)


@pytest.mark.parametrize("name", PROMPTS)
@settings(max_examples=25)
@given(sample=choices())
def test_nothing_of_the_answer_and_no_path_is_shown(name: str, sample: Sample) -> None:
    other = next((n for n, option in enumerate(sample.options) if option and n != sample.answer_index), None)
    blind = replace(
        sample, answer_index=other, rationale="other", modality="CT", task="Lesion Grading", group="g", source="s",
        images=tuple(ImageRef(path="elsewhere.png") for _ in sample.images), answers=("x",), id="2",
    )  # fmt: skip
    assert messages(PROMPTS[name], blind) == messages(PROMPTS[name], sample)
    assert "secret" not in str(messages(PROMPTS[name], sample))


@pytest.mark.parametrize("name", PROMPTS)
@settings(max_examples=25)
@given(sample=choices())
def test_a_place_for_every_picture_where_the_template_says(name: str, sample: Sample) -> None:
    template = PROMPTS[name]
    *system, user = messages(template, sample)
    assert [turn["role"] for turn in system] == (["system"] if template.system is not None else [])
    assert [turn["content"] for turn in system] == [[{"type": "text", "text": template.system}]][: len(system)]
    assert user["role"] == "user"
    text, pictures = [{"type": "text", "text": render(template, sample)}], [{"type": "image"}] * len(sample.images)
    assert user["content"] == ([*pictures, *text] if template.image_first else [*text, *pictures])


@pytest.mark.parametrize("name", PROMPTS)
@settings(max_examples=25)
@given(sample=choices())
def test_its_target_is_read_as_the_right_answer(name: str, sample: Sample) -> None:
    template = PROMPTS[name]
    taught = target(template, sample)
    read = PROTOCOLS[template.protocol]
    found = read(taught, sample) if read is not parse_answer else parse_answer(taught, sample, template.answer_format)
    assert (found.letter, found.status) == (sample.gold, ParseStatus.OK)
    assert parse_answer(taught, sample, answer_format=template.answer_format).letter == sample.gold
    assert ("<think>" in taught) == (template.answer_format == "think")


@pytest.mark.parametrize("name", [name for name, template in PROMPTS.items() if template.any_answer])
@pytest.mark.parametrize(
    ("kind", "answers"), [("yes_no", ("yes",)), ("number", ("12",)), ("multi", ("a", "b")), ("text", ("a rib",))]
)
def test_other_answers_are_asked_for_in_words(name: str, kind: str, answers: tuple[str, ...]) -> None:
    open_question = Sample(
        id="1",
        images=(),
        question="What?",
        answers=answers,
        answer_type=kind,
        rationale="It is soft.",  # type: ignore[arg-type]
    )
    shown = render(PROMPTS[name], open_question)
    assert "{Answer}" not in shown
    assert "letter" not in shown
    assert answers[0] in target(PROMPTS[name], open_question)
