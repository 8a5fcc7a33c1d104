"""Where an answer begins."""

import pytest

from medr1.answers import AnswerFormat
from medr1.answers.tags import answer_start


@pytest.mark.parametrize(
    ("completion", "form", "rest"),
    [
        ("<think>x</think><answer>B</answer>", "think", "B</answer>"),
        ("<think>x</think>\n< ANSWER >\n  B. Lung", "think", "B. Lung"),
        ("<think>so <answer>A</answer></think><answer>B</answer>", "think", "B</answer>"),
        ("thinking that began before</think><answer>C", "think", "C"),
        ("<answer>D</answer>", "nothink", "D</answer>"),
        ("  B) Lung", "letter", "B) Lung"),
        ("<think>x</think> C", "letter", "C"),
        (r"<think>\boxed{A}</think> So \boxed{ B}.", "letter", "B}."),
        ("It is <|begin_of_box|>C<|end_of_box|>", "letter", "C<|end_of_box|>"),
        (r"\boxed{A} or \boxed{B}", "letter", r"\boxed{A} or \boxed{B}"),
        ("I say <answer>A</answer>", "letter", "A</answer>"),
    ],
)
def test_the_first_character_of_the_answer(completion: str, form: AnswerFormat, rest: str) -> None:
    start = answer_start(completion, form)
    assert start is not None
    assert completion[start:] == rest


@pytest.mark.parametrize(
    ("completion", "form"),
    [
        ("", "letter"),
        ("B", "think"),
        ("<think>x", "letter"),
        ("<think>x</think><answer>", "think"),
        ("<think>x</think><answer>   ", "think"),
        ("<answer>A</answer><answer>B</answer>", "think"),
        ("<answer>A</answer><think>x</think>", "think"),
    ],
)
def test_no_single_answer_has_no_start(completion: str, form: AnswerFormat) -> None:
    assert answer_start(completion, form) is None
