"""What a reward is, and what it asks of a sample."""

from collections.abc import Callable

from medr1.errors import DataError
from medr1.types import AnswerType, Sample, Score

Reward = Callable[[str, Sample], Score]
"""Scores one completion to one sample: pure, deterministic, 0 to 1; `DataError` for a sample that it cannot score."""


def gold_letter(sample: Sample) -> str:
    """Letter of the right option. Raises `DataError` where there is none."""
    if sample.gold is None:
        raise DataError(f"sample {sample.id} has no right option to reward: keep only samples with an answer_index")
    return sample.gold


def gold_answers(sample: Sample, answer_type: AnswerType) -> tuple[str, ...]:
    """Accepted answers of a sample of that type. Raises `DataError` where it has none, or another type."""
    if sample.answer_type != answer_type or not sample.answers:
        raise DataError(
            f"sample {sample.id} has the answer type {sample.answer_type} and {len(sample.answers)} answers: this "
            f"reward takes the type {answer_type} with answers; the reward 'answer' takes every type"
        )
    return sample.answers
