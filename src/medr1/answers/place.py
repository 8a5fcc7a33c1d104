"""Where in a completion the answer begins: what the probabilities of the option letters are read at."""

from medr1.answers.parser import AnswerFormat
from medr1.answers.tags import outside_thinking, tags_of


def answer_start(completion: str, answer_format: AnswerFormat = "think") -> int | None:
    """Characters before the first one of the answer; None where there is no single answer block after the thinking.

    With `letter`, a completion without answer tags answers where its thinking ends, or at once.

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
    start += len(completion[start:]) - len(completion[start:].lstrip())
    return start if start < len(completion) else None
