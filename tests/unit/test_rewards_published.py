"""The linear readings of the published rewards against the published regular expressions."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from medr1.rewards.published import (
    first_answer_any_case,
    first_answer_in_a_line,
    is_answer,
    is_think_then_answer,
)

pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<ANSWER>",
        "</Answer>",
        "<anſwer>",
        "</anſwer>",
        "<answer",
        ">",
        "answer>",
        "</",
        "B",
        "b.",
        " ",
        "\n",
        "\r",
        "\v",
        "\x1c",
        "\x85",
        "\u2028",
    ]
)
soup = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)
framed = st.builds(lambda text: f"<think>{text}</answer>", soup)


def group(pattern: str, text: str, flags: int = 0) -> str | None:
    match = re.search(pattern, text, flags)
    return match[1] if match else None


@settings(max_examples=1000)
@given(text=soup | framed)
@example(text="<think></think><answer></answer>")
@example(text="<think></answer>")
@example(text="<answer></answer>")
@example(text="<answer>\nA</answer><answer>B</answer>")
@example(text="<answer>")
@example(text="")
def test_readings_equal_the_published_expressions(text):
    between = r"<answer>(.*?)</answer>"
    assert first_answer_any_case(text) == group(between, text, re.DOTALL | re.IGNORECASE)
    assert first_answer_in_a_line(text) == group(between, text)
    think_then_answer = re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)
    assert is_think_then_answer(text) is (think_then_answer is not None)
    assert is_answer(text) is (re.fullmatch(r"\s*<answer>.*?</answer>", text, re.DOTALL) is not None)
