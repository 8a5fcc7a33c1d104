"""Rewards beside the answer: thinking that concludes what is answered, and length.

All of them are 0 for a completion that is not well-formed, so that none is earned without answering. Length is counted
in characters (about four a token), since words are no measure of a text without spaces.
"""

import math

from medr1.answers.default import answer_text, read_answer
from medr1.answers.tags import TAG
from medr1.answers.wording import conclusion
from medr1.errors import DataError
from medr1.rewards.ours import Reward, any_type, nothink_format, think_format
from medr1.types import LETTERS, Sample, Score

LIMIT = 1000
"""Characters from which on a completion earns nothing: about 250 tokens, what Med-R1 lets its models write."""
BUFFER = LIMIT // 5
"""Characters over which the punishment grows: DAPO's share, 4,096 of 20,480 tokens (arXiv 2503.14476, section 3.4)."""


def consistency(completion: str, sample: Sample) -> Score:
    """1 where the option that the thinking concludes is the one that is answered, right or wrong.

    `concluded` tells thinking that concludes no option from thinking that concludes another one.
    """
    if not sample.options:
        raise DataError(f"sample {sample.id} has no options to conclude: keep only questions with options")
    answer: str | None = None
    concluded: int | None = None
    if think_format(completion, sample).value:
        opening, closing, *_ = TAG.finditer(completion)
        thinking = completion[opening.end() : closing.start()]
        answer = read_answer(answer_text(completion)[0], sample.options).letter
        concluded = conclusion(thinking, sample.options)
    value = float(answer is not None and concluded is not None and answer == LETTERS[concluded])
    return Score(
        value=value, answer=answer, breakdown={"consistency": value, "concluded": float(concluded is not None)}
    )


def soft_overlong(limit: int = LIMIT, buffer: int = BUFFER) -> Reward:
    """Soft over-long punishment of DAPO (arXiv 2503.14476, equation 13), plus 1: from 1 down to 0.

    1 up to `limit - buffer` characters, then linearly less, 0 from `limit` on. It is the same to GRPO, which subtracts
    the mean of the group.
    """

    def reward(completion: str, sample: Sample) -> Score:
        left = (limit - len(completion)) / buffer
        value = min(1.0, max(0.0, left)) if _is_well_formed(completion, sample) else 0.0
        return Score(value=value, breakdown={"length": value, "characters": float(len(completion))})

    return reward


def cosine_length(limit: int = LIMIT, longest: float = 0.5) -> Reward:
    """What the answer earns, times a cosine from 1 for no length to `longest` at the limit (arXiv 2502.03373, eq. 1).

    Beyond the limit nothing. Their other half, a milder punishment for longer wrong answers, is left out: padding
    earns it.
    """

    def reward(completion: str, sample: Sample) -> Score:
        scored = any_type(completion, sample)
        falling = longest + (1 - longest) * (1 + math.cos(math.pi * len(completion) / limit)) / 2
        counts = len(completion) <= limit and _is_well_formed(completion, sample)
        length = falling if counts else 0.0
        breakdown = {"answer": scored.value, "length": length, "characters": float(len(completion))}
        return Score(value=scored.value * length, answer=scored.answer, breakdown=breakdown)

    return reward


def _is_well_formed(completion: str, sample: Sample) -> bool:
    return bool(think_format(completion, sample).value or nothink_format(completion, sample).value)
