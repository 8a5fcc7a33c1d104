"""The right letter."""

from medr1.answers import parse_answer
from medr1.rewards.contract import gold_letter
from medr1.types import ParseStatus, Sample, Score


def accuracy(completion: str, sample: Sample) -> Score:
    """1 where the default parser reads the gold letter, else 0; `readable` tells wrong from unreadable."""
    gold = gold_letter(sample)
    parsed = parse_answer(completion, sample)
    value = float(parsed.letter == gold)
    readable = float(parsed.status is ParseStatus.OK)
    return Score(value=value, answer=parsed.letter, breakdown={"accuracy": value, "readable": readable})
