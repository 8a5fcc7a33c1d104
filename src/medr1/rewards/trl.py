"""Rewards in the form that TRL's trainers call."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medr1.rewards.contract import Reward
from medr1.types import Sample


def sample_columns(sample: Sample) -> dict[str, Any]:
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
    of `sample_columns`, one value a completion, and returns one number a completion. Other columns are ignored.
    """

    def reward_func(
        prompts: Sequence[Any], completions: Sequence[str | Sequence[dict[str, Any]]], **columns: Any
    ) -> list[float]:
        samples = _samples(columns)
        return [reward(_text(text), sample).value for text, sample in zip(completions, samples, strict=True)]

    reward_func.__name__ = re.sub(r"[/-]", "_", name)
    return reward_func


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


def _text(completion: str | Sequence[dict[str, Any]]) -> str:
    """The text of a completion; in a conversation that of its last turn, whose content may be a list of parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
