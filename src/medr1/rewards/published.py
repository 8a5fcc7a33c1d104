"""The rewards of the published systems as they are, loop-holes included.

MedVLM-R1: arXiv 2502.19634. Med-R1: arXiv 2503.13939. Results are those of their regular expressions; the ways to them
are not, since those take quadratic time on a completion of thousands of unclosed tags, which a training can sample.
"""

import re

from medr1.rewards.ours import format_score, gold_letter
from medr1.types import Sample, Score

_OPEN_ANY_CASE = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE_ANY_CASE = re.compile(r"</answer>", re.IGNORECASE)
_OPEN, _CLOSE, _THINK = "<answer>", "</answer>", "<think>"
_FROM_THINKING_TO_ANSWER = re.compile(r"</think>\s*<answer>")
_ANSWER_FIRST = re.compile(r"\s*<answer>")


def medvlm_accuracy(completion: str, sample: Sample) -> Score:
    """MedVLM-R1: 1 for the letter alone between the first answer tags, 0.5 with anything beside it that has no A to J.

    Every character counts as a letter, so `B.` earns 0.5 but `Option B` and `B) CT` earn 0 (o-p-t-I-on is an I).
    """
    gold = gold_letter(sample)
    found = first_answer_any_case(completion)
    answer = "" if found is None else found.strip().upper()
    if re.findall(r"[A-J]", answer) != [gold]:
        return _accuracy_score(0.0, None if found is None else answer)
    return _accuracy_score(1.0 if answer == gold else 0.5, answer)


def medvlm_format(completion: str, sample: Sample) -> Score:
    """MedVLM-R1, and Med-R1 with thinking: a full match that allows empty blocks and further tags inside them."""
    return format_score(is_think_then_answer(completion))


def med_r1_accuracy(completion: str, sample: Sample) -> Score:
    """Med-R1: the text between the first answer tags that stand on one line, or without tags everything, is the letter.

    Its first step, symbolic comparison by math-verify, is left out: the gold `<answer> B </answer>` parses to nothing
    there, so the step never fires for a letter.
    """
    gold = gold_letter(sample)
    found = first_answer_in_a_line(completion)
    answer = (completion if found is None else found).strip()
    return _accuracy_score(float(answer == gold), answer)


def med_r1_nothink_format(completion: str, sample: Sample) -> Score:
    """Med-R1 without thinking: white space is allowed before the answer block, not behind it."""
    return format_score(is_answer(completion))


def first_answer_any_case(text: str) -> str | None:
    """The group of `<answer>(.*?)</answer>`, searched with DOTALL and IGNORECASE, in linear time."""
    opening = _OPEN_ANY_CASE.search(text)
    # If nothing closes the first tag, nothing closes a later one.
    closing = opening and _CLOSE_ANY_CASE.search(text, opening.end())
    return text[opening.end() : closing.start()] if opening and closing else None


def first_answer_in_a_line(text: str) -> str | None:
    """The group of `<answer>(.*?)</answer>`, searched without flags, in linear time."""
    for line in text.split("\n"):  # the only character that a dot does not match
        start = line.find(_OPEN) + len(_OPEN)
        end = line.find(_CLOSE, start) if start >= len(_OPEN) else -1
        if end >= 0:
            return line[start:end]
    return None


def is_think_then_answer(text: str) -> bool:
    r"""Whether all of it is `<think>.*?</think>\s*<answer>.*?</answer>` with DOTALL, in linear time."""
    if not (text.startswith(_THINK) and text.endswith(_CLOSE)):
        return False
    return _FROM_THINKING_TO_ANSWER.search(text) is not None  # no two of the four tags can overlap


def is_answer(text: str) -> bool:
    r"""Whether all of it is `\s*<answer>.*?</answer>` with DOTALL, in linear time."""
    return text.endswith(_CLOSE) and _ANSWER_FIRST.match(text) is not None


def _accuracy_score(value: float, answer: str | None) -> Score:
    return Score(value=value, answer=answer, breakdown={"accuracy": value})
