"""What the text of an answer names: one letter of this question, or why not."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medr1.answers.default import normalise, option_letters, read_answer
from medr1.types import LETTERS, ParsedAnswer, ParseStatus

S = ParseStatus
OPTIONS = ("CT", "Breast tissue", "MRI", "X-ray")

READ_AS_B = [
    *("B", "b", "B)", "(B)", "[B]", "B.", "B:", '"B"', "**B**", "**B.**", "__B__", "`B`", "{B}", "（B）", "\n B \n"),
    *("B. Breast tissue", "B) Breast tissue", "(B) Breast tissue", "B: breast tissue.", "B - Breast tissue"),
    *("**B.** Breast tissue", "**B) Breast tissue**", "B Breast tissue", "b. BREAST  TISSUE", "B\nBreast tissue"),
    *("B, Breast tissue", "B) (Breast tissue)", "B. **Breast tissue**"),
    *(
        "Breast tissue",
        "breast tissue.",
        " Breast\n tissue ",
        '"Breast tissue"',
        "**Breast tissue**",
        "Breast *tissue*",
    ),
    *(
        "Option B",
        "option b",
        "(Option B)",
        "Option B: Breast tissue",
        "Choice B",
        "Answer: B",
        "Answer B",
        "ANSWER IS: b",
    ),
    *(
        "The answer is B",
        "The answer is (B).",
        "The answer is **B**.",
        "The **answer** is `B`",
        "The correct answer is B) Breast tissue",
    ),
    *("So, the final answer is option B.", "The best option is B", "The answer is Breast tissue."),
    *(r"\boxed{B}", r"$\boxed{B}$", r"\boxed{\text{B}}", r"The answer is \boxed{B}.", r"\boxed{Breast tissue}"),
]

NOT_READ = [
    ("", S.EMPTY),
    (" \n", S.EMPTY),
    ("A or B", S.SEVERAL_LETTERS),
    ("a or b", S.SEVERAL_LETTERS),
    ("A and B", S.SEVERAL_LETTERS),
    ("A, B, C, D", S.SEVERAL_LETTERS),
    ("A/B", S.SEVERAL_LETTERS),
    ("A\nB", S.SEVERAL_LETTERS),
    ("(A) or (B)", S.SEVERAL_LETTERS),
    ("A) CT or B) Breast tissue", S.SEVERAL_LETTERS),
    ("CT or MRI", S.SEVERAL_LETTERS),
    ("The answer is A or B", S.SEVERAL_LETTERS),
    (r"\boxed{A} or \boxed{B}", S.SEVERAL_LETTERS),
    ("B, not A", S.SEVERAL_LETTERS),
    ("Not A, so B", S.SEVERAL_LETTERS),
    ("A lesion is seen, so B", S.SEVERAL_LETTERS),
    ("A lesion", S.NOT_AN_OPTION),
    ("The answer is A lesion", S.NOT_AN_OPTION),
    ("a lesion", S.NOT_AN_OPTION),
    ("A MRI", S.NOT_AN_OPTION),
    ("B because CT would look different", S.NOT_AN_OPTION),
    ("K", S.NOT_AN_OPTION),
    ("E", S.NOT_AN_OPTION),
    ("E) Breast tissue", S.NOT_AN_OPTION),
    ("BB", S.NOT_AN_OPTION),
    ("AB", S.NOT_AN_OPTION),
    ("B2", S.NOT_AN_OPTION),
    ("Breast", S.NOT_AN_OPTION),
    ("Breast tissue of a woman", S.NOT_AN_OPTION),
    ("not breast tissue", S.NOT_AN_OPTION),
    ("None of the above", S.NOT_AN_OPTION),
    ("The answer is", S.NOT_AN_OPTION),
    ("...", S.NOT_AN_OPTION),
    ("2", S.NOT_AN_OPTION),
    ("В", S.NOT_AN_OPTION),  # Cyrillic Ve
    ("Ｂ", S.NOT_AN_OPTION),  # full width
    ("В. Breast tissue", S.NOT_AN_OPTION),  # Cyrillic again
    ("B. CT", S.CONTRADICTION),
    ("B) MRI", S.CONTRADICTION),
    ("(B) X-ray", S.CONTRADICTION),
    ("B MRI", S.CONTRADICTION),
    ("A. Breast tissue", S.CONTRADICTION),
    ("The answer is B. CT", S.CONTRADICTION),
    ("B. Lung", S.CONTRADICTION),
]


@pytest.mark.parametrize("text", READ_AS_B)
def test_one_letter_is_read_in_many_dresses(text):
    assert read_answer(text, OPTIONS) == ParsedAnswer("B", S.OK)


@pytest.mark.parametrize(("text", "status"), NOT_READ)
def test_everything_else_is_unreadable_for_a_reason(text, status):
    assert read_answer(text, OPTIONS) == ParsedAnswer(None, status)


@pytest.mark.parametrize(
    ("options", "text", "letter", "status"),
    [
        (("No", "No diabetic retinopathy"), "No", "A", S.OK),
        (("No", "No diabetic retinopathy"), "No diabetic retinopathy.", "B", S.OK),
        (("Yes", "No diabetic retinopathy"), "No", None, S.NOT_AN_OPTION),
        (("Yes", "No.", "no"), "No", None, S.SEVERAL_LETTERS),
        (("Yes", "No.", "no"), "B) No", "B", S.OK),
        (("Yes", "No.", "no"), "C. no", "C", S.OK),
        (("A lesion", "A cyst"), "A cyst", "B", S.OK),
        (("Hepatitis A", "Hepatitis C", "Hepatitis B"), "Hepatitis B", "C", S.OK),
        (("Hepatitis A", "Hepatitis C", "Hepatitis B"), "B. Hepatitis A", None, S.CONTRADICTION),
        (("B", "A"), "A", "A", S.OK),  # blood groups: a bare letter is the letter that the prompt asked for
        (("+", "-"), "-", "B", S.OK),
        (("5", "-5"), "-5", "B", S.OK),
        (("!", "?"), "?", "B", S.OK),
        (("", "x"), "The answer is", None, S.NOT_AN_OPTION),
        (("Calcification and scar", "Scar"), "calcification and scar", "A", S.OK),
        (("CT", "MRI"), "C", None, S.NOT_AN_OPTION),
        ((), "A", None, S.NOT_AN_OPTION),
        (tuple("abcdefghij"), "J", "J", S.OK),
        (("x",) * 9, "\u0131", None, S.NOT_AN_OPTION),  # dotless i becomes I in upper case, the ninth letter
    ],
)
def test_options_decide(options, text, letter, status):
    assert read_answer(text, options) == ParsedAnswer(letter, status)


def test_normalise_keeps_signs_and_inner_punctuation():
    assert normalise("x_ray.") == "x_ray"
    assert normalise("Stage -1") == "stage -1"
    assert normalise("(CT)") == normalise("ct.") == "ct"
    assert normalise("e\u0301") == normalise("\u00e9")
    assert normalise("β-lactam") != normalise("b-lactam")


def test_option_letters():
    assert option_letters(()) == ()
    assert option_letters(("x", "y")) == ("A", "B")
    assert option_letters(("x",) * 27) == tuple(LETTERS)


words = st.text("abcdxyz éß-+()*._\\{}$ \n\t12AB", min_size=1, max_size=12)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_an_options_own_text_names_it(options, data):
    place = data.draw(st.integers(0, len(options) - 1))
    keys = [normalise(option) for option in options]
    assume(len(keys[place]) > 1 and keys.count(keys[place]) == 1)
    assert read_answer(options[place], options).letter == LETTERS[place]


plain_words = st.text("abcxyz", min_size=2, max_size=4)


@given(
    st.lists(plain_words, min_size=2, max_size=6, unique=True), st.sampled_from([". ", ") ", ": ", " - "]), st.data()
)
def test_letter_and_own_text_name_it_and_another_text_never_does(options, between, data):
    places = st.integers(0, len(options) - 1)
    place, other = data.draw(places), data.draw(places)
    parsed = read_answer(f"{LETTERS[place]}{between}{options[other].upper()}", options)
    assert parsed == (ParsedAnswer(LETTERS[place], S.OK) if place == other else ParsedAnswer(None, S.CONTRADICTION))


@given(st.sets(st.sampled_from("ABCD"), min_size=2), st.sampled_from([" or ", ", ", " and ", "/", " & ", "\n", "; "]))
def test_two_letters_are_never_one_answer(letters, between):
    text = between.join(sorted(letters))
    assert read_answer(text, OPTIONS) == ParsedAnswer(None, S.SEVERAL_LETTERS)
    assert read_answer(text.lower(), OPTIONS).letter is None
