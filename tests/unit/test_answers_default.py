"""What the text of an answer names: one letter of this question, or why not."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medr1.answers.default import normalise, option_letters, parse_answer, read_answer
from medr1.answers.wording import word_rows
from medr1.types import LETTERS, ParsedAnswer, ParseStatus, Sample

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


CHINESE = ("计算机断层扫描", "磁共振成像", "超声", "X线")

ALSO_READ_AS_B = [
    *(
        "B：磁共振成像",
        "B、磁共振成像",
        "B．磁共振成像",
        "B）磁共振成像",
        "（B）磁共振成像",
        "【B】磁共振成像",
        "B磁共振成像",
        "B。",
    ),
    *("选B", "选 B。", "选择B", "应选B", "故选：B", "我选B", "因此选B", "本题选B", "選B", "选B项", "选(B)磁共振成像"),
    *(
        "答案：B",
        "答案:B",
        "答案是B",
        "答案为 B。",
        "正确答案是：B",
        "最终答案是【B】",
        "综上所述，正确答案为B",
        "答案选B",
        "答：B",
    ),
    *("选项B", "正确选项是B", "B选项", "B项", "B项正确", "B是正确的", "B 正确", "B选项是正确答案"),
    *("答えはBです", "正解：B", "정답: B", "정답은 B입니다", "답은 B번"),
    *(
        "Ｂ",
        "ｂ",
        "（Ｂ）",
        "Ｂ．磁共振成像",
        "【B】",
        "「B」",
        "『B』",
        "《B》",
        "Ⓑ",
        "𝐁",
        "磁共振成像。",
        "答案是磁共振成像",
    ),
    *(
        r"\(\boxed{B}\)",
        r"\[\boxed{B}\]",
        r"$$\boxed{B}$$",
        r"\boxed{\mathbf{B}}",
        r"\boxed{\textrm{(B)}}",
        r"\fbox{B}",
    ),
    *(r"\boxed{\text{B. }}", "\\\\boxed{B}", "boxed{B}", "\x08oxed{B}", r"答案：\(\boxed{B}\)"),
    *("<|begin_of_box|>B<|end_of_box|>", "<|box_start|>B<|box_end|>", "B<|im_end|>", "B</s>", "B<｜end▁of▁sentence｜>"),
    *("B is correct", "B is the correct answer.", "Option B is correct", "B would be the best option", "I choose B"),
    *("I would go with option B.", "Select B", "The answer should be B", '{"answer": "B"}', "{'answer': 'B'}"),
]


@pytest.mark.parametrize("text", ALSO_READ_AS_B)
def test_chinese_forms_boxes_and_words_around_a_letter(text: str) -> None:
    assert read_answer(text, CHINESE) == ParsedAnswer("B", S.OK)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("A或B", S.SEVERAL_LETTERS),
        ("A、B", S.SEVERAL_LETTERS),
        ("答案：A和B", S.SEVERAL_LETTERS),
        ("不是A，是B", S.SEVERAL_LETTERS),
        ("选A，不选B", S.SEVERAL_LETTERS),
        ("A is wrong, B is correct", S.SEVERAL_LETTERS),
        (r"\boxed{A}，\boxed{B}", S.SEVERAL_LETTERS),
        ("选AB", S.NOT_AN_OPTION),
        ("不选B", S.NOT_AN_OPTION),
        ("B is not correct", S.NOT_AN_OPTION),
        ("B不正确", S.NOT_AN_OPTION),
        ("非B", S.NOT_AN_OPTION),
        ("维生素B", S.NOT_AN_OPTION),
        ("B超", S.NOT_AN_OPTION),
        ("答案是", S.NOT_AN_OPTION),
        ("答案：Е", S.NOT_AN_OPTION),  # Cyrillic
        ("选E", S.NOT_AN_OPTION),
        ("B：超声", S.CONTRADICTION),
        ("答案：B、计算机断层扫描", S.CONTRADICTION),
        ("B、磁共振成像或超声", S.SEVERAL_LETTERS),
    ],
)
def test_chinese_answers_that_are_none(text: str, status: ParseStatus) -> None:
    assert read_answer(text, CHINESE) == ParsedAnswer(None, status)


IMAGING = ("CT", "MRI", "X-ray", "Optical coherence tomography (OCT)")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B) MRI (magnetic resonance imaging)", "B"),
        ("B. MRI [magnetic resonance imaging]", "B"),
        ("B：MRI（磁共振成像）", "B"),
        ("B) Magnetic resonance imaging (MRI)", "B"),
        ("B) Magnetic resonance imaging", "B"),
        ("B. The MRI", "B"),
        ("The answer is A) CT (computed tomography).", "A"),
        ("C) X-ray (radiograph)", "C"),
        ("D) OCT", "D"),
        ("D) Optical coherence tomography", "D"),
        ("D) OCT (optical coherence tomography)", "D"),
        ("B、磁共振成像", "B"),  # a translation cannot contradict
        ("A：计算机断层扫描。", "A"),
        ("B) MRI (not CT)", None),
        ("B) MRI (or CT)", None),
        ("B) MRI（非CT）", None),
        ("B) CT (computed tomography)", None),
        ("B) Ultrasound (US)", None),
        ("B) Computed tomography", None),
        ("B) MRI of the brain", None),
        ("A MRI (magnetic resonance imaging)", None),
        ("A 计算机断层扫描", None),  # might be an article
        ("MRI (magnetic resonance imaging)", None),  # without its letter, a text must be that of the option
        ("Tomography (CT)", None),
    ],
)
def test_a_letter_agrees_with_its_text_and_a_remark_in_brackets(text: str, letter: str | None) -> None:
    assert read_answer(text, IMAGING).letter == letter


def test_remarks_that_tell_options_apart_are_no_remarks() -> None:
    lesions = ("Lesion (benign)", "Lesion (malignant)", "Cyst")
    assert read_answer("B) Lesion (benign)", lesions) == ParsedAnswer(None, S.CONTRADICTION)
    assert read_answer("B) Lesion", lesions).letter is None
    assert read_answer("B) Lesion (malign)", lesions).letter is None
    assert read_answer("A) Lesion (benign).", lesions).letter == "A"
    assert read_answer("B) Lesion (malign)", ("CT", "Lesion (benign)")).letter is None
    assert read_answer("B、肺", ("肺", "Lung")) == ParsedAnswer(None, S.CONTRADICTION)
    assert read_answer("B、肝", ("肺", "Lung")).letter is None, "one option is written so: it may be meant"


@given(
    st.sampled_from([row for row in word_rows("lead_ins") if row["part"] in ("noun", "choose")]),
    st.sampled_from(["{}", "({})", "（{}）", "【{}】", "**{}**", r"\boxed{{{}}}", "{}.", "{}。", "{}．"]),
    st.sampled_from("ABCD"),
    st.sampled_from([" ", ": ", "："]),
)
def test_every_announcement_leaves_the_letter(row, dress, letter, between) -> None:
    assert read_answer(f"{row['words']}{between}{dress.format(letter)}", CHINESE).letter == letter


@given(st.text("AB选答案是：、。（）或和不【】 isthecorrectanswer", max_size=12))
def test_two_letters_in_any_words_are_no_answer(text: str) -> None:
    if "A" in text and "B" in text and "是B" not in text:
        assert read_answer(text, ("x", "y")).letter is None


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        (r"The image shows a joint, so \boxed{B}.", "B"),
        ("It is soft tissue.\n<|begin_of_box|>B<|end_of_box|>", "B"),
        (r"Hence \boxed{B}. Again: \boxed{B}", "B"),
        (r"<think>\boxed{A}</think>So \(\boxed{\text{B}}\)", "B"),
        (r"Either \boxed{A} or \boxed{B}", None),
        ("<|begin_of_box|>A<|end_of_box|> <|begin_of_box|>B<|end_of_box|>", None),
        (r"The answer is \boxed{}", None),
        (r"The answer is \boxed{B", None),
    ],
)
def test_one_box_in_prose_is_the_answer_where_just_a_letter_is_asked_for(completion: str, letter: str | None) -> None:
    sample = Sample(id="1", images=(), question="?", options=CHINESE, answer_index=1)
    assert parse_answer(completion, sample, "letter").letter == letter
    assert parse_answer(completion, sample, "think").letter is None
