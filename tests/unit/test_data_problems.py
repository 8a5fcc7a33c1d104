import string
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.data.formats.problems import (
    choice_in_text,
    format_inline_problem,
    format_lines_problem,
    parse_inline_problem,
    parse_lines_problem,
)
from medr1.errors import DataError

Format = Callable[[str, Sequence[str]], str]
Parse = Callable[[str], tuple[str, tuple[str, ...]]]

FORMS = [
    pytest.param(format_inline_problem, parse_inline_problem, id="inline"),
    pytest.param(format_lines_problem, parse_lines_problem, id="lines"),
]
nasty = st.text(st.sampled_from("ABC)( ,\n.é"), max_size=12) | st.text(max_size=12)


@pytest.mark.parametrize(
    ("problem", "question", "options"),
    [
        ("Which? A)CT, B)MRI", "Which?", ("CT", "MRI")),
        ("Is (A) it? A)Stain (H&E), B)x, y, C)AMD (B), D)", "Is (A) it?", ("Stain (H&E)", "x, y", "AMD (B)", "")),
        ('"Quoted?" A)MRI (B), B)C)D), C)E', '"Quoted?"', ("MRI (B)", "C)D)", "E")),
        ("No B marker for A: A)x, C)y, B)z", "No B marker for A:", ("x, C)y", "z")),
        ("? " + ", ".join(f"{letter}){letter}" for letter in "ABCDEFGHIJK"), "?", tuple("ABCDEFGHIJK")),
    ],
)
def test_inline_problems(problem: str, question: str, options: tuple[str, ...]):
    assert parse_inline_problem(problem) == (question, options)


def test_lines_problems():
    problem = "Is it A) or B)?\nReally?\nA) No, B) no\nB) Yes (C)\nC) x\ny"
    assert parse_lines_problem(problem) == ("Is it A) or B)?\nReally?", ("No, B) no", "Yes (C)", "x\ny"))


@pytest.mark.parametrize(
    "problem", ["", "Which?", "Which? A)only one", "Which? B)b, A)a", "Which?\nA)x\nB)y", "Which? A)x B)y"]
)
def test_problems_without_two_options_are_refused(problem: str):
    for parse in (parse_inline_problem, parse_lines_problem):
        with pytest.raises(DataError, match="no options"):
            parse(problem)


@pytest.mark.parametrize(("form", "parse"), FORMS)
@given(question=nasty, options=st.lists(nasty, min_size=2, max_size=10))
def test_what_is_formatted_reads_back(form: Format, parse: Parse, question: str, options: list[str]):
    try:
        problem = form(question, options)
    except DataError:
        return  # a marker inside a text; test_texts_that_would_read_back_differently_are_refused
    assert parse(problem) == (question, tuple(options))


@pytest.mark.parametrize(("form", "parse"), FORMS)
@given(
    start=st.tuples(nasty, nasty),
    pieces=st.lists(nasty | st.sampled_from([" A)", ", B)", ", C)", ", D)", "\nA) ", "\nB) ", "\nC) "]), max_size=12),
)
def test_what_is_read_formats_back(form: Format, parse: Parse, start: tuple[str, str], pieces: list[str]):
    problem = f"{start[0]} A)\nA) {start[1]}, B)\nB) " + "".join(pieces)
    assert form(*parse(problem)) == problem


@pytest.mark.parametrize(
    ("question", "options"),
    [("x A) y", ["a", "b"]), ("x", ["a, B)c", "b"]), ("x", ["a"]), ("x", ["a"] * 27)],
)
def test_texts_that_would_read_back_differently_are_refused(question: str, options: list[str]):
    with pytest.raises(DataError):
        format_inline_problem(question, options)


def test_more_options_than_letters_are_refused_not_joined():
    letters = [*string.ascii_uppercase, "AA"]
    with pytest.raises(DataError, match="more than 26 options"):
        parse_inline_problem("? " + ", ".join(f"{letter}){letter}" for letter in letters))
    with pytest.raises(DataError, match="more than 26 options"):
        parse_lines_problem("?" + "".join(f"\n{letter}) {letter}" for letter in letters))


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Which?\nA. CT\nB. MRI\nC. X-ray", "Which?", ("CT", "MRI", "X-ray")),
        ("Which?\n(A) CT\n(B) MRI", "Which?", ("CT", "MRI")),
        ("Which?\r\nA: CT\r\nB: MRI\r\n", "Which?", ("CT", "MRI")),
        ("Which?\n\nA. CT\nof the head\nB. MRI", "Which?", ("CT\nof the head", "MRI")),
        ("Which? A. CT B. MRI", "Which?", ("CT", "MRI")),
        ("Which? (A) CT (B) MRI", "Which?", ("CT", "MRI")),
        ("Which? A)CT, B)MRI", "Which?", ("CT", "MRI")),
        ("Example:\nA. x\nB. y\nNow, which?\nA. CT\nB. MRI", "Example:\nA. x\nB. y\nNow, which?", ("CT", "MRI")),
        ("哪一个？\nA、CT\nB、MRI", "哪一个？", ("CT", "MRI")),
    ],
)
def test_options_in_the_text_of_others(text: str, question: str, options: tuple[str, ...]):
    for answer, place in (("A", 0), ("b", 1), ("MRI", 1), ("B. MRI", 1)):
        assert choice_in_text(text, answer) == (question, options, place, "")


def test_words_behind_the_options_are_an_instruction_or_refused():
    told = "Which?\nA. CT\nB. MRI\n\nAnswer with the option's letter from the given choices directly."
    assert choice_in_text(told, "B") == ("Which?", ("CT", "MRI"), 1, told.split("\n")[-1])
    for text in ("Which?\nA. CT\nB. MRI\nof the head", "Which? A)CT, B)MRI Your task: choose."):
        with pytest.raises(DataError, match=r"behind the options|last option"):
            choice_in_text(text, "B")


@pytest.mark.parametrize("text", ["What is seen?", "Hepatitis A. Which vaccine?", "A. CT\nB. MRI", "Which?\nA. CT"])
def test_questions_without_options_stay_open(text: str):
    assert choice_in_text(text, "a shadow") is None


def test_an_option_may_name_a_letter_that_is_past():
    options = ("a", "b, B)c", "vitamins (A, C)")
    assert parse_inline_problem(format_inline_problem("x", options)) == ("x", options)
