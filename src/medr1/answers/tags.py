"""Where thinking and answer of a completion stand: what lies outside the thinking, what the answer block holds.

Tags are known in any case and with white space beside the brackets: `<ANSWER>`, `< answer >`, `</answer >`.
"""

import re
from typing import Literal

from medr1.types import ParseStatus

AnswerFormat = Literal["think", "nothink", "letter"]
"""What a prompt asks for: thinking and an answer block, an answer block alone, or just the letter."""

TAG = re.compile(r"<\s*(?P<slash>/\s*)?(?P<name>think|answer)\s*>", re.IGNORECASE | re.ASCII)
"""Any of the four tags. ASCII, since Unicode case folding would also take `<anſwer>`."""


_BOX_BEGINS = re.compile(r"<\|begin_of_box\|>|\\boxed\{")
_BOX_TOKENS = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.DOTALL)


def tags_of(text: str, name: str) -> list[tuple[bool, re.Match[str]]]:
    """Every tag of that name in order, each with whether it opens a block."""
    return [(not tag["slash"], tag) for tag in TAG.finditer(text) if tag["name"].lower() == name]


def outside_thinking(completion: str) -> str | None:
    """The completion without its thinking; None if a thinking block is never closed.

    A block runs from an opening tag to the next closing one. A closing tag without an opening one ends thinking that
    began before the completion did (templates that end in `<think>`), so everything before it is thinking too.

    >>> outside_thinking("<think>A? <answer>A</answer></think><answer>B</answer>")
    '<answer>B</answer>'
    """
    kept: list[str] = []
    start, inside = 0, False
    for opens, tag in tags_of(completion, "think"):
        if opens and not inside:
            kept.append(completion[start : tag.start()])
        elif not opens:
            if not inside:
                kept.clear()
            start = tag.end()
        inside = opens
    if inside:
        return None
    # A line break, so that what stood on both sides of a thinking block does not grow together into a new tag.
    return "\n".join([*kept, completion[start:]]).strip()


def answer_block(text: str) -> tuple[str, ParseStatus]:
    """What stands between the answer tags, and `OK`; or an empty string and why there is no single block.

    >>> answer_block("So: <answer> B </answer>.")
    ('B', <ParseStatus.OK: 'ok'>)
    """
    tags = tags_of(text, "answer")
    opening = [index for index, (opens, _) in enumerate(tags) if opens]
    if not opening:
        return "", ParseStatus.MISSING_TAG
    if opening[-1] == len(tags) - 1:
        return "", ParseStatus.TRUNCATED
    if len(opening) > 1:
        return "", ParseStatus.SEVERAL_ANSWERS
    (_, first), (_, last) = tags[opening[0]], tags[opening[0] + 1]
    return text[first.end() : last.start()].strip(), ParseStatus.OK


def boxed_answer(text: str) -> str | None:
    r"""What stands in the one box of a text, `\boxed{…}` or between GLM's box tokens; None for none or different ones.

    >>> boxed_answer(r"So it is \boxed{B}."), boxed_answer(r"\boxed{A} or \boxed{B}")
    ('B', None)
    """
    found = {content.strip() for content in _BOX_TOKENS.findall(text)}
    for part in text.split(r"\boxed{")[1:]:
        found.add(boxed(r"\boxed{" + part) or "")
    return found.pop() or None if len(found) == 1 else None


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{…}`, stripped; None where there is none or it is not closed.

    >>> boxed(r"\boxed{\text{B}}")
    '\\text{B}'
    """
    _, opening, content = text.rpartition(r"\boxed{")
    if not opening:
        return None
    depth = 1
    for position, character in enumerate(content):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return content[:position].strip()
    return None


def answer_start(completion: str, answer_format: AnswerFormat = "think") -> int | None:
    """Characters before the first one of the answer; None where there is no single answer block after the thinking.

    With `letter`, a completion without answer tags answers in its one box, else where its thinking ends, or
    at once.

    >>> answer_start("<think>A?</think> <answer> B</answer>"), answer_start("B) Lung", "letter"), answer_start("B")
    (27, 0, None)
    """
    if outside_thinking(completion) is None:
        return None
    thought = max((tag.end() for opens, tag in tags_of(completion, "think") if not opens), default=0)
    opening = [tag for opens, tag in tags_of(completion, "answer") if opens and tag.start() >= thought]
    if len(opening) > 1 or (not opening and answer_format != "letter"):
        return None
    start = opening[0].end() if opening else thought
    if not opening and boxed_answer(completion[thought:]) is not None:
        start = next(_BOX_BEGINS.finditer(completion, thought)).end()
    start += len(completion[start:]) - len(completion[start:].lstrip())
    return start if start < len(completion) else None
