"""The odd completions on which the published systems were measured: every reward and every evaluator, gold letter B."""

import pytest

from medr1.answers import PROTOCOLS
from medr1.rewards import REWARDS
from medr1.types import Sample

SAMPLE = Sample(
    id="odd",
    images=(),
    question="What is shown?",
    options=("CT", "Breast tissue", "MRI", "X-ray"),
    answer_index=1,
)

REWARD_NAMES = ("medvlm-r1/accuracy", "medvlm-r1/format", "med-r1/accuracy", "med-r1/format", "med-r1/format-nothink")

# completion, the five rewards in the order above, then what is extracted by MedVLM-R1's complex evaluator, by Med-R1's
# think evaluator, whether the whole output is right, and what the Qwen2.5 no-think evaluator extracts.
CASES = [
    ("<think>r</think><answer>B</answer>", (1, 1, 1, 1, 0), "B", "B", False, "B"),
    ("<think>r</think>\n<answer> B </answer>", (1, 1, 1, 1, 0), "B", "B", False, "B"),
    ("<think>r</think><answer>b</answer>", (1, 1, 0, 1, 0), None, "b", False, "b"),
    ("<think>r</think><answer>B.</answer>", (0.5, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>(B)</answer>", (0.5, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>B) CT</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>B) Breast tissue</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>Option B</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>The answer is B</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>A or B</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>BB</answer>", (0, 1, 0, 1, 0), None, "BB", False, "BB"),
    ("<think>r</think><answer>A</answer>", (0, 1, 0, 1, 0), "A", "A", False, "A"),
    ("<think>r</think><answer>CT</answer>", (0, 1, 0, 1, 0), None, "CT", False, "CT"),
    ("<think>r</think><answer>K</answer>", (0, 1, 0, 1, 0), "K", "K", False, "K"),
    ("<think>r</think><answer>\\boxed{B}</answer>", (0, 1, 0, 1, 0), None, None, False, None),
    ("<think>r</think><answer>B</answer> ", (1, 0, 1, 0, 0), "B", "B", False, "B"),
    ("<think>r</think><answer>B</answer>\n", (1, 0, 1, 0, 0), "B", "B", False, "B"),
    ("<think>r</think><answer>B</answer><answer>A</answer>", (1, 1, 1, 1, 0), "B", "B", False, "B"),
    ("<think>maybe <answer>A</answer></think><answer>B</answer>", (0, 1, 0, 1, 0), "A", "A", False, "A"),
    ("<think>a</think>junk<answer>B</answer>", (1, 0, 1, 0, 0), "B", "B", False, "B"),
    ("<think></think><answer>B</answer>", (1, 1, 1, 1, 0), "B", "B", False, "B"),
    ("<answer>B</answer>", (1, 0, 1, 0, 1), "B", "B", False, "B"),
    ("<answer>B</answer> because it is breast", (1, 0, 1, 0, 0), "B", "B", False, "B"),
    ("<ANSWER>B</ANSWER>", (1, 0, 0, 0, 0), None, None, False, "<ANSWER>B</ANSWER>"),
    ("<THINK>r</THINK><answer>B</answer>", (1, 0, 1, 0, 0), "B", "B", False, "B"),
    ("B", (0, 0, 1, 0, 0), None, None, True, "B"),
    ("B.", (0, 0, 0, 0, 0), None, None, False, "B."),
    ("B) Breast tissue", (0, 0, 0, 0, 0), None, None, False, "B) Breast tissue"),
    ("<think>r</think>B", (0, 0, 0, 0, 0), None, None, False, "<think>r</think>B"),
    ("<think>r</think><answer>B", (0, 0, 0, 0, 0), None, None, False, None),
    ("", (0, 0, 0, 0, 0), None, None, False, ""),
    ("The answer is <answer>B", (0, 0, 0, 0, 0), None, None, False, None),
]


@pytest.mark.parametrize(("completion", "rewards"), [case[:2] for case in CASES])
def test_published_rewards(completion: str, rewards: tuple[float, ...]):
    assert tuple(REWARDS[name](completion, SAMPLE).value for name in REWARD_NAMES) == rewards


@pytest.mark.parametrize(("completion", "_", "complex_", "think", "whole_is_right", "nothink"), CASES)
def test_published_evaluators(completion, _, complex_, think, whole_is_right, nothink):
    assert PROTOCOLS["medvlm-r1/complex"](completion, SAMPLE).letter == complex_
    assert PROTOCOLS["med-r1/think"](completion, SAMPLE).letter == think
    assert PROTOCOLS["med-r1/nothink"](completion, SAMPLE).letter == nothink
    for name in ("medvlm-r1/simple", "med-r1/zeroshot"):
        assert PROTOCOLS[name](completion, SAMPLE).letter == completion
        assert (PROTOCOLS[name](completion, SAMPLE).letter == SAMPLE.gold) is whole_is_right
