"""From predictions to `results.json`: pure functions, so that saved predictions can be scored again without a model.

Unreadable is not wrong: accuracy counts what is readable and right over everything that was generated, and the counts
of how the answers could be read stand beside it. Failed generations are no predictions; they are counted apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from medr1.answers import PROTOCOLS, Protocol, parse_answer
from medr1.data.shortcuts import MajorityLetter, TextPrior, format_rule, longest_option, normalise, rule_accuracy
from medr1.eval.controls import SHOWN_ANSWER
from medr1.prompts import PROMPTS
from medr1.stats import chance, paired_difference_interval, proportion_interval
from medr1.types import LETTERS, Prediction, Sample

Key = tuple[str, str]
"""Identity of a question as asked: id and variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRun:
    """What a control was made for and what came of it."""

    samples: Sequence[Sample]
    """The prepared variants; fewer than the originals where a sample has no variant."""
    predictions: Sequence[Prediction]


def score_predictions(
    predictions: Sequence[Prediction],
    samples: Sequence[Sample],
    *,
    controls: Mapping[str, ControlRun] | None = None,
    train_samples: Sequence[Sample] | None = None,
    num_draws: int = 1,
) -> dict[str, Any]:
    """Results of one run in the shape of `results.json`.

    `predictions` are those of the original images; `samples` all that were asked, so that what failed is counted.
    `train_samples` is what the text prior is fitted on. Raises AssertionError for predictions of other samples.
    """
    assert predictions, "nothing to score"
    by_key = {key_of(sample): sample for sample in samples}
    scored_controls = {
        name: score_control(run, predictions, n_asked=len(samples), num_draws=num_draws)
        for name, run in (controls or {}).items()
    }
    return {
        **accuracy(predictions),
        "failed": len(samples) * num_draws - len(predictions),
        "chance": chance(samples),
        "majority_letter": rule_accuracy(MajorityLetter(samples), samples),
        "blind": {
            "text_prior": rule_accuracy(TextPrior(train_samples), samples) if train_samples else None,
            "format_rule": rule_accuracy(format_rule, samples),
            "longest_option": rule_accuracy(longest_option, samples),
            "blank_image": scored_controls.get("blank", {}).get("accuracy"),
            "swapped_image": scored_controls.get("swapped", {}).get("accuracy"),
        },
        "parse": parse_counts(predictions),
        "mean_tokens": sum(p.num_tokens for p in predictions) / len(predictions),
        "protocols": score_protocols(predictions, by_key),
        "by_modality": score_by(predictions, by_key, lambda p: p.modality),
        "by_task": score_by(predictions, by_key, lambda p: p.task),
        "by_source": score_by(predictions, by_key, lambda p: p.source),
        "by_modality_and_task": [
            {"modality": modality, "task": task, **scores}
            for (modality, task), scores in score_by(predictions, by_key, lambda p: (p.modality, p.task)).items()
        ],
        "controls": scored_controls,
    }


def key_of(record: Sample | Prediction) -> Key:
    """Identity of a question as asked, the same for a sample and its predictions."""
    return record.id, record.variant


def is_right(prediction: Prediction) -> bool:
    """Whether the answer is the gold letter; unreadable answers are not."""
    return prediction.answer is not None and prediction.answer == prediction.gold


def group_of(prediction: Prediction) -> str:
    """What predictions of one image share; the sample itself where no group is known."""
    return prediction.group or prediction.id


def score_by(
    predictions: Iterable[Prediction], by_key: Mapping[Key, Sample], name: Callable[[Prediction], Any]
) -> dict[Any, dict[str, Any]]:
    """`{name: {n, accuracy, ci95, chance, …}}` for every name of a part, in alphabetical order."""
    parts: dict[Any, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        parts[name(prediction)].append(prediction)
    return {
        part_name: {**accuracy(part), "chance": chance(by_key[key_of(p)] for p in part)}
        for part_name, part in sorted(parts.items(), key=lambda item: str(item[0]))
    }


def score_protocols(predictions: Sequence[Prediction], by_key: Mapping[Key, Sample]) -> dict[str, dict[str, Any]]:
    """Accuracy of the same completions under every published way to read them; `default` is ours."""
    groups = [group_of(p) for p in predictions]
    return {
        name: share(
            [protocol_for(name, p.prompt_style)(p.completion, by_key[key_of(p)]).letter == p.gold for p in predictions],
            groups,
            "accuracy",
        )
        for name in PROTOCOLS
    }


def protocol_for(name: str, prompt_style: str) -> Protocol:
    """The protocol of that name; the default one reads what the prompt asked for."""
    if name == "default" and prompt_style in PROMPTS:
        return partial(parse_answer, answer_format=PROMPTS[prompt_style].answer_format)
    return PROTOCOLS[name]


def score_control(
    run: ControlRun, originals: Sequence[Prediction], *, n_asked: int, num_draws: int = 1
) -> dict[str, Any]:
    """Accuracy of a control against the original answers, and what the changed images cost on the same samples.

    `follows` is there for controls that show an image with another answer: the share that answers what the shown image
    says, where that answer is among the options.
    """
    scores: dict[str, Any] = {
        "n": len(run.predictions),
        "dropped": n_asked - len(run.samples),
        "failed": len(run.samples) * num_draws - len(run.predictions),
    }
    if not run.predictions:
        return scores
    scores |= accuracy(run.predictions)
    scores["parse"] = parse_counts(run.predictions)
    before, after, groups = paired_hits(originals, run.predictions)
    if groups:
        scores["original"] = share(before, groups, "accuracy")
        scores["difference"] = difference(before, after, groups)
    follows, follow_groups = _follows(run)
    if follows:
        scores["follows"] = {"n": len(follows), **share(follows, follow_groups, "share")}
    return scores


def paired_hits(first: Sequence[Prediction], second: Sequence[Prediction]) -> tuple[list[bool], list[bool], list[str]]:
    """Right or not in both runs, for what both answered (same id and draw), and the groups."""
    theirs = {(p.id, p.draw): p for p in second}
    pairs = [(p, theirs[p.id, p.draw]) for p in first if (p.id, p.draw) in theirs]
    return [is_right(a) for a, _ in pairs], [is_right(b) for _, b in pairs], [group_of(a) for a, _ in pairs]


def difference(before: Sequence[bool], after: Sequence[bool], groups: Sequence[str]) -> dict[str, Any]:
    """Change of accuracy on the same samples, with its interval."""
    interval = paired_difference_interval(before, after, groups)
    value = (sum(after) - sum(before)) / len(before)
    return {"n": len(before), "value": value, "ci95": [interval.lo, interval.hi], "ci_method": interval.method}


def accuracy(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """`{n, accuracy, ci95, ci_method, n_groups}`."""
    hits, groups = [is_right(p) for p in predictions], [group_of(p) for p in predictions]
    interval = proportion_interval(hits, groups)
    return {
        "n": len(hits),
        "accuracy": sum(hits) / len(hits),
        "ci95": [interval.lo, interval.hi],
        "ci_method": interval.method,
        "n_groups": interval.n_groups,
    }


def share(hits: Sequence[bool], groups: Sequence[str], name: str) -> dict[str, Any]:
    """`{name: share of hits, ci95}`."""
    interval = proportion_interval(hits, groups)
    return {name: sum(hits) / len(hits), "ci95": [interval.lo, interval.hi]}


def parse_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """How many completions were read how, by status."""
    return dict(sorted(Counter(p.parse_status for p in predictions).items()))


def _follows(run: ControlRun) -> tuple[list[bool], list[str]]:
    """Whether each answer is that of the shown image, where it is an option, and the groups."""
    shown_by_key = {key_of(sample): sample.extra.get(SHOWN_ANSWER) for sample in run.samples}
    hits, groups = [], []
    for prediction in run.predictions:
        shown = shown_by_key[key_of(prediction)]
        letters = {normalise(text): letter for text, letter in zip(prediction.options, LETTERS, strict=False)}
        if shown is not None and normalise(shown) in letters:
            hits.append(prediction.answer == letters[normalise(shown)])
            groups.append(group_of(prediction))
    return hits, groups
