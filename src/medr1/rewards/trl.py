"""Rewards in the form that TRL's trainers call."""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from medr1.prompts import Message
from medr1.rewards.ours import Reward
from medr1.types import Sample, Score


def sample_columns(sample: Sample) -> dict[str, object]:
    """The columns of a training row from which a reward made by `as_trl_reward` knows the sample again."""
    return {
        "id": sample.id,
        "question": sample.question,
        "options": list(sample.options),
        "answer_index": sample.answer_index,
        "answer_type": sample.answer_type,
        "answers": list(sample.answers),
    }


def as_trl_reward(name: str, reward: Reward) -> Callable[..., list[float]]:
    """A reward in the form of TRL's `reward_funcs`; TRL logs it as `rewards/<__name__>/mean`.

    The function takes `prompts`, `completions` (texts, or conversations of which the last turn counts) and the columns
    of `sample_columns`, one value a completion, and returns one number a completion. Other columns are ignored. Where
    TRL gives it `log_metric`, the means of the parts of the scores are logged as `rewards/<__name__>/<part>`.
    """

    def reward_func(
        prompts: Sequence[Any], completions: Sequence[str | Sequence[Message]], **columns: Any
    ) -> list[float]:
        scores = [reward(_text(text), sample) for text, sample in zip(completions, _samples(columns), strict=True)]
        if (log_metric := columns.get("log_metric")) is not None:
            for part, mean in part_means(scores).items():
                log_metric(f"rewards/{reward_func.__name__}/{part}", mean)
        return [score.value for score in scores]

    reward_func.__name__ = re.sub(r"[/-]", "_", name)
    return reward_func


def part_means(scores: Sequence[Score]) -> dict[str, float]:
    """Mean of every part over the scores that have it, but of those that are the score itself."""
    values: dict[str, list[float]] = {}
    own: dict[str, bool] = {}
    for score in scores:
        for part, value in score.breakdown.items():
            values.setdefault(part, []).append(value)
            own[part] = own.get(part, True) and value == score.value
    return {part: fmean(some) for part, some in values.items() if not own[part]}


def _samples(columns: Mapping[str, Sequence[Any]]) -> list[Sample]:
    names = ("id", "question", "options", "answer_index", "answer_type", "answers")
    rows = zip(*(columns[name] for name in names), strict=True)
    return [
        Sample(
            id=id_,
            images=(),
            question=question,
            options=tuple(options),
            answer_index=answer_index,
            answer_type=answer_type,
            answers=tuple(answers),
        )
        for id_, question, options, answer_index, answer_type, answers in rows
    ]


def _text(completion: str | Sequence[Message]) -> str:
    """The text of a completion; in a conversation that of its last turn, whose content may be a list of parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
