"""The one default parser: training rewards and evaluation read a completion with the same few lines."""

from typing import Literal

from medr1.answers.reading import read_answer
from medr1.answers.tags import answer_block, outside_thinking
from medr1.types import ParsedAnswer, ParseStatus, Sample

AnswerFormat = Literal["think", "nothink", "letter"]
"""What a prompt asks for: thinking and an answer block, an answer block alone, or just the letter."""


def parse_answer(completion: str, sample: Sample, answer_format: AnswerFormat = "think") -> ParsedAnswer:
    """Read a completion; the letter is one of the question's options, or None with the reason as status.

    Thinking is removed first, so an answer inside it never counts. `think` and `nothink` are read alike: whether the
    thinking is there is a matter of the format reward. With `letter` the whole rest is the answer where there are no
    answer tags.

    >>> from medr1.types import Sample
    >>> sample = Sample(id="1", images=(), question="What is shown?", options=("CT", "Breast tissue"), answer_index=1)
    >>> parse_answer("<think>A?</think><answer>B. Breast tissue</answer>", sample).letter
    'B'
    """
    body, status = answer_text(completion, answer_format)
    return read_answer(body, sample.options) if status is ParseStatus.OK else ParsedAnswer(None, status)


def answer_text(completion: str, answer_format: AnswerFormat = "think") -> tuple[str, ParseStatus]:
    """What a completion gives as its one answer, whatever kind of answer that is, and `OK`; or why there is none.

    >>> answer_text("<think>About 12.</think><answer> 12.5 </answer>")
    ('12.5', <ParseStatus.OK: 'ok'>)
    """
    if not completion.strip():
        return "", ParseStatus.EMPTY
    rest = outside_thinking(completion)
    if rest is None:
        return "", ParseStatus.TRUNCATED
    body, status = answer_block(rest)
    if status is ParseStatus.MISSING_TAG and answer_format == "letter":
        return rest, ParseStatus.OK
    return body, status
