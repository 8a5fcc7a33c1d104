"""The default parser: tags and thinking, by hand and by property (the text inside: test_answers_reading)."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medr1.answers import PROTOCOLS, parse_answer
from medr1.answers.tags import answer_block, outside_thinking
from medr1.types import LETTERS, ParseStatus, Sample

S = ParseStatus


def sample_of(*options: str, gold: int = 1) -> Sample:
    return Sample(id="1", images=(), question="What is shown?", options=options, answer_index=gold)


SAMPLE = sample_of("CT", "Breast tissue", "MRI", "X-ray")

TAGGED = [
    ("<think>r</think><answer>B</answer>", "B", S.OK),
    ("<think>r</think>\n<answer>\n B \n</answer>\n", "B", S.OK),
    ("<answer>B</answer>", "B", S.OK),
    ("<THINK>r</THINK><Answer>B</ANSWER>", "B", S.OK),
    ("< think >r</ think >< answer >B</answer\n>", "B", S.OK),
    ("<think>r</think>So:<answer>B</answer> because of A", "B", S.OK),
    ("<answer>B</answer></answer>", "B", S.OK),
    ("", None, S.EMPTY),
    (" \n\t", None, S.EMPTY),
    ("<think>r</think><answer></answer>", None, S.EMPTY),
    ("<think>r</think><answer> \n </answer>", None, S.EMPTY),
    ("B", None, S.MISSING_TAG),
    ("<think>r</think>B", None, S.MISSING_TAG),
    ("<think>r</think>", None, S.MISSING_TAG),
    ("B</answer>", None, S.MISSING_TAG),
    ("<an\u017fwer>B</an\u017fwer>", None, S.MISSING_TAG),
    ("<thin\u212a>r<answer>B</answer>", "B", S.OK),  # the Kelvin sign is a k in lower case, but no k
    ("<think>r", None, S.TRUNCATED),
    ("<think>r <answer>B</answer>", None, S.TRUNCATED),
    ("<think>r</think><answer>B", None, S.TRUNCATED),
    ("<think>r</think><answer>B</answer><think>", None, S.TRUNCATED),
    ("<answer>B</answer> or <answer>", None, S.TRUNCATED),
    ("<answer>B</answer><answer>A</answer>", None, S.SEVERAL_ANSWERS),
    ("<answer>B</answer><answer>B</answer>", None, S.SEVERAL_ANSWERS),
    ("<answer>A<answer>B</answer>", None, S.SEVERAL_ANSWERS),
    ("<think>r</think><answer>A</answer><think>s</think><answer>B</answer>", None, S.SEVERAL_ANSWERS),
    # An answer inside the thinking never counts, however the thinking is marked.
    ("<think>maybe <answer>A</answer></think><answer>B</answer>", "B", S.OK),
    ("<think>maybe <answer>A</answer></think>", None, S.MISSING_TAG),
    ("maybe <answer>A</answer></think><answer>B</answer>", "B", S.OK),
    ("<think>a<think>b</think><answer>A</answer></think><answer>B</answer>", "B", S.OK),
    ("<answer>A</answer><think>r</think>s</think><answer>B</answer>", "B", S.OK),
    ("<answer>B</answer></think>", None, S.MISSING_TAG),
    ("<think>unclosed <answer></think><answer>B</answer>", "B", S.OK),
    ("<answer>A<think>", None, S.TRUNCATED),
    ("<ans<think>r</think>wer>B</answer>", None, S.MISSING_TAG),
]


@pytest.mark.parametrize(("completion", "letter", "status"), TAGGED)
@pytest.mark.parametrize("answer_format", ["think", "nothink"])
def test_tags(completion, letter, status, answer_format):
    parsed = parse_answer(completion, SAMPLE, answer_format)
    assert (parsed.letter, parsed.status) == (letter, status)


@pytest.mark.parametrize(
    ("completion", "letter", "status"),
    [
        ("B", "B", S.OK),
        (" (b).\n", "B", S.OK),
        ("The answer is B.", "B", S.OK),
        ("Breast tissue", "B", S.OK),
        ("<think>The answer is A</think>B", "B", S.OK),
        ("<think>A", None, S.TRUNCATED),
        ("<think>A</think>", None, S.EMPTY),
        ("A lesion, so <answer>B</answer>", "B", S.OK),
        ("A <answer>B</answer><answer>B</answer>", None, S.SEVERAL_ANSWERS),
        ("A or B", None, S.SEVERAL_LETTERS),
        ("A lesion", None, S.NOT_AN_OPTION),
        ("B. MRI", None, S.CONTRADICTION),
    ],
)
def test_letter_format_reads_the_whole_rest(completion, letter, status):
    parsed = parse_answer(completion, SAMPLE, "letter")
    assert (parsed.letter, parsed.status) == (letter, status)


def test_the_default_protocol_is_the_parser():
    assert PROTOCOLS["default"] is parse_answer


def test_outside_thinking_keeps_both_sides_apart():
    assert outside_thinking("a<think>x</think>b") == "a\nb"
    assert outside_thinking("x</think>y</think>z") == "z"
    assert outside_thinking("a<think>") is None


def test_answer_block_says_why_there_is_none():
    assert answer_block("<answer> B </answer>") == ("B", S.OK)
    assert answer_block("</answer>") == ("", S.MISSING_TAG)


# Pieces that make parsers stumble, and anything else.
pieces = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "<Answer>", "< answer>", "<answer"),
        *("A", "B", "b", "E", "K", "(B)", "B.", "A or B", "CT", "Breast tissue", "B) CT", "The answer is "),
        *("\\boxed{B}", "\\boxed{", "**", "`", "\n", " ", "", "，", "В", "Ｂ", "\u0131", "\u212a"),
    ]
)
texts = st.lists(pieces | st.text(max_size=8), max_size=12).map("".join)
option_lists = st.lists(pieces | st.text(max_size=12), min_size=1, max_size=10)
formats = st.sampled_from(["think", "nothink", "letter"])


@given(texts, option_lists | st.just([]), formats)
def test_a_letter_is_one_of_the_options_and_only_then_ok(completion, options, answer_format):
    parsed = parse_answer(completion, sample_of(*options, gold=0), answer_format)
    assert (parsed.letter is not None) == (parsed.status is S.OK)
    assert parsed.letter is None or parsed.letter in list(LETTERS[: len(options)])


@given(st.data(), option_lists, texts)
def test_gold_in_the_ideal_format_is_read(data, options, thought):
    assume("</think>" not in thought.lower())
    gold = data.draw(st.integers(0, len(options) - 1))
    sample = sample_of(*options, gold=gold)
    assert parse_answer(f"<think>{thought}</think><answer>{sample.gold}</answer>", sample).letter == sample.gold
    assert parse_answer(f"<answer>{sample.gold}</answer>", sample, "nothink").letter == sample.gold
    assert parse_answer(sample.gold or "", sample, "letter").letter == sample.gold


@given(texts, texts, texts, formats)
def test_what_stands_in_the_thinking_changes_nothing(thought, other, answer, answer_format):
    assume(all("</think" not in text.lower().replace(" ", "").replace("\n", "") for text in (thought, other)))
    first, second = (parse_answer(f"<think>{text}</think>{answer}", SAMPLE, answer_format) for text in (thought, other))
    assert first == second


@given(texts, st.sampled_from(LETTERS[:4]), formats)
def test_an_answer_block_added_to_another_is_never_read(text, letter, answer_format):
    assume("think" not in text.lower())
    block = f"<answer>{letter}</answer>"
    assert parse_answer(f"{block}{text}{block}", SAMPLE, answer_format).letter is None


@given(texts, formats)
def test_surrounding_white_space_is_harmless(completion, answer_format):
    assert parse_answer(f" \n{completion}\t ", SAMPLE, answer_format) == parse_answer(completion, SAMPLE, answer_format)
