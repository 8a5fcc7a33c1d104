"""Reasoning: does the answer follow from the thinking, and does the thinking speak about this image?

What a thinking concludes is read by a rule, not by a model (`medr1.answers.wording`, by which the reward for
consistency and the comparison of runs read too). So `no_conclusion` is no fault of the model, and a sample of each
outcome should be read by a person before the shares are believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medr1.answers.wording import conclusion
from medr1.errors import DataError
from medr1.eval.compare import thinking_of
from medr1.eval.contradictions import score_contradictions
from medr1.eval.measures import group_of, is_right, share
from medr1.eval.runner import Progress, evaluate, read_predictions
from medr1.eval.scoring import score_thinking
from medr1.records import short_hash
from medr1.rollout.engine import Engine, SamplingParams
from medr1.types import LETTERS, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import chosen_option
from medr1.variants.thinking import COMPLETION_PREFIX

CONCLUSIONS = ("consistent", "inconsistent", "no_conclusion")


def score_reasoning(predictions: Sequence[Prediction], anatomies: Mapping[str, str]) -> dict[str, Any]:
    """All that saved predictions of the original images tell about their thinking.

    `anatomies` is the anatomy of the image by prediction id, where it is known. `n` counts predictions with thinking.
    """
    thinking = [prediction for prediction in predictions if thinking_of(prediction.completion)]
    return {
        "n": len(thinking),
        "without_thinking": len(predictions) - len(thinking),
        "consistency": score_consistency(thinking),
        "contradictions": score_contradictions(thinking, anatomies),
        "words": score_lengths(thinking),
    }


def score_consistency(predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    """Shares of the readable answers that their thinking concludes, contradicts or leaves open.

    Each with the `accuracy` of those answers: where `inconsistent` ones are as often right as others, the thinking does
    not carry the answer. None where no answer can be read.
    """
    readable = [prediction for prediction in predictions if chosen_option(prediction) is not None]
    if not readable:
        return None
    outcomes = [_consistency(prediction) for prediction in readable]
    groups = [group_of(prediction) for prediction in readable]
    scores: dict[str, Any] = {"n": len(readable), "unreadable": len(predictions) - len(readable)}
    for name in CONCLUSIONS:
        part = [p for p, outcome in zip(readable, outcomes, strict=True) if outcome == name]
        scores[name] = {
            "n": len(part),
            **share([outcome == name for outcome in outcomes], groups, "share"),
            "accuracy": sum(map(is_right, part)) / len(part) if part else None,
        }
    return scores


def _consistency(prediction: Prediction) -> str:
    concluded = conclusion(thinking_of(prediction.completion), prediction.options)
    if concluded is None:
        return "no_conclusion"
    letter = LETTERS.index(prediction.answer or "")
    return "consistent" if concluded == letter else "inconsistent"


def score_lengths(predictions: Sequence[Prediction]) -> dict[str, dict[str, float] | None]:
    """Words of thinking: mean, median, 5 and 95 % quantiles and most, over all, right and other answers."""
    right = [is_right(prediction) for prediction in predictions]
    words = np.array([len(thinking_of(prediction.completion).split()) for prediction in predictions], dtype=float)
    kept = np.array(right, dtype=bool)
    return {"all": _lengths(words), "right": _lengths(words[kept]), "not_right": _lengths(words[~kept])}


def _lengths(words: np.ndarray) -> dict[str, float] | None:
    if not len(words):
        return None
    q05, median, q95 = np.quantile(words, (0.05, 0.5, 0.95))
    return {
        "mean": float(words.mean()),
        "median": float(median),
        "q05": float(q05),
        "q95": float(q95),
        "max": float(words.max()),
    }


def intervene(
    name: str,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    engine: Engine,
    *,
    out: Path,
    prompt: str,
    protocol: str,
    params: SamplingParams,
    batch_size: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer anew after another thinking (`VARIANTS["thinking:" + name]`), and score that.

    It is an evaluation in `out`, where a killed one goes on. `predictions` are those of the original images and of the
    same prompt and sampling. Raises `DataError` where none of them has thinking and an answer.
    """
    changed = VARIANTS[f"thinking:{name}"].prepare(samples, seed, predictions)
    prepared = [replace(sample, variant="") for sample in changed]
    if not prepared:
        raise DataError(
            f"no answer of these samples has a closed think block, so {name!r} thinking cannot be put into one; "
            "evaluate with a prompt that asks for thinking, on the data that the run was made on"
        )
    evaluate(
        prepared,
        engine,
        out=out,
        params=replace(params, num_draws=1),
        batch_size=batch_size,
        seed=seed,
        prompt=prompt,
        protocol=protocol,
        arguments={"thinking": name, "prefixes": short_hash([s.extra[COMPLETION_PREFIX] for s in prepared])},
        progress=progress,
    )
    return score_thinking(predictions, read_predictions(out), prepared)
