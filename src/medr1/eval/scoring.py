"""From predictions to `results.json`: pure functions, so that saved predictions can be scored again without a model.

Unreadable is not wrong: accuracy counts what is readable and right over everything that was generated, and the counts
of how the answers could be read stand beside it. Failed generations are no predictions; they are counted apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medr1.answers.wording import plain_words
from medr1.data.leakage import sample_overlap
from medr1.data.shortcuts import MajorityLetter, TextPrior, format_rule, hits, longest_option, rule_accuracy
from medr1.diagnosis import Answers, Void, unreadable, void
from medr1.eval.confidence import score_confidence
from medr1.eval.measures import (
    Key,
    accuracy,
    difference,
    draws_of,
    group_of,
    is_right,
    key_of,
    paired_hits,
    parse_counts,
    share,
    written,
)
from medr1.eval.permutation import question_of, score_option_order
from medr1.eval.protocols import protocol_for as protocol_for
from medr1.eval.protocols import score_protocols
from medr1.eval.receipts import receipt_verdicts
from medr1.eval.reliance import reliance_rows, score_reliance
from medr1.eval.sampling import score_draws
from medr1.stats import bootstrap_mean, chance, option_logits, option_probabilities
from medr1.types import LETTERS, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import SHOWN_ANSWER, chosen_option
from medr1.variants.thinking import PLANTED

MIN_GROUPS = 10
"""Subgroups of fewer independent questions are counted but not scored: an accuracy of nine says nothing."""


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
    controls = controls or {}
    varied = {name: run.predictions for name, run in controls.items()}
    scored_controls = {
        name: score_control(run, predictions, n_asked=len(samples), num_draws=num_draws)
        | score_probe(name, run, predictions)
        for name, run in controls.items()
    }
    failed = len(samples) * num_draws - len(predictions)
    prior = list(map(TextPrior(train_samples), samples)) if train_samples else None
    overlap = sample_overlap(train_samples, samples) if train_samples else None
    return {
        "void": [
            *void(answers_of(predictions, failed), overlap, receipt_verdicts(predictions, samples)),
            *_void_controls(controls, num_draws),
        ],
        **accuracy(predictions),
        "failed": failed,
        "chance": chance(samples),
        "majority_letter": rule_accuracy(MajorityLetter(samples), samples),
        "blind": {
            "text_prior": None if prior is None else sum(hits(prior, samples)) / len(samples),
            "format_rule": rule_accuracy(format_rule, samples),
            "longest_option": rule_accuracy(longest_option, samples),
            "blank_image": scored_controls.get("blank", {}).get("accuracy"),
            "swapped_image": scored_controls.get("swapped", {}).get("accuracy"),
        },
        "train_overlap": overlap,
        "parse": parse_counts(predictions),
        "mean_tokens": sum(p.num_tokens for p in predictions) / len(predictions),
        "protocols": score_protocols(predictions, by_key),
        "by_modality": score_by(predictions, by_key, lambda p: p.modality),
        "by_task": score_by(predictions, by_key, lambda p: p.task),
        "by_source": score_by(predictions, by_key, lambda p: p.source),
        "by_modality_and_task": _named_parts(
            score_by(predictions, by_key, lambda p: (p.modality, p.task)), ("modality", "task")
        ),
        "by_blind": score_by_blind(predictions, samples, blank=varied.get("blank"), prior=prior),
        "by_num_options": score_by(predictions, by_key, lambda p: str(len(p.options))),
        "subgroups": subgroups(predictions, by_key),
        "sampling": score_draws(predictions, num_draws) if num_draws > 1 else None,
        "confidence": score_confidence(predictions),
        "controls": scored_controls,
        "image_reliance": score_reliance(reliance_rows(predictions, varied)),
        "option_order": score_option_order(predictions, varied),
    }


def answers_of(predictions: Sequence[Prediction], failed: int = 0) -> Answers:
    """What the rules about void numbers look at."""
    return Answers(
        given=Counter(p.answer for p in predictions),
        statuses=parse_counts(predictions),
        gold=Counter(p.gold for p in predictions),
        questions=len({key_of(p) for p in predictions}),
        failed=failed,
    )


def _void_controls(controls: Mapping[str, ControlRun], num_draws: int) -> Iterator[Void]:
    """Controls of which next to nothing could be read or asked: what is not answered is no blind twin."""
    for name, run in controls.items():
        failed = len(run.samples) * num_draws - len(run.predictions)
        for why in unreadable(answers_of(run.predictions, failed)):
            yield Void(what=f"controls.{name}", why=why)


def score_by_blind(
    predictions: Sequence[Prediction],
    samples: Sequence[Sample],
    *,
    blank: Sequence[Prediction] | None,
    prior: Sequence[tuple[int, ...]] | None,
) -> dict[str, Any]:
    """Accuracy on what can be answered without looking, and on the rest.

    A question is answerable where most draws on its blank picture are right, or where the text prior chooses the right
    option alone; `by` says which of the two was asked. Both are right by luck now and then (at 1 / K), so `answerable`
    holds some questions that need the picture. `not_checked` counts answers to questions of which neither told;
    `reason` says why there is no split.

    Args:
        blank: answers to the blank pictures, where they were asked for.
        prior: what the text prior would choose for each of `samples`, where it was fitted.
    """
    told: dict[str, list[bool]] = defaultdict(list)
    for draws in draws_of(blank or ()):
        told[draws[0].id].append(sum(map(is_right, draws)) > len(draws) / 2)
    for sample, picked in zip(samples, prior or (), strict=False):
        told[sample.id].append(picked == (sample.answer_index,))
    parts: dict[str, list[Prediction]] = {"answerable": [], "not_answerable": []}
    for p in predictions:
        if p.id in told:
            parts["answerable" if any(told[p.id]) else "not_answerable"].append(p)
    asked = {"blank_image": blank, "text_prior": prior}
    by = [name for name, found in asked.items() if found is not None]
    by_key = {key_of(sample): sample for sample in samples}
    scored = {
        name: {**accuracy(part), "chance": chance(by_key[key_of(p)] for p in part)} if part else None
        for name, part in parts.items()
    }
    reason = None if by else "neither blank images nor a text prior were asked for: --variants blank, --train-data"
    return {**scored, "by": by, "not_checked": len(predictions) - sum(map(len, parts.values())), "reason": reason}


def answers_to(
    prepared: Mapping[str, Sequence[Sample]], predictions: Iterable[Prediction], num_draws: int
) -> dict[str, list[Prediction]]:
    """The predictions of every variant that was prepared, by variant, without draws beyond `num_draws`."""
    variants = {key_of(sample): name for name, samples in prepared.items() for sample in samples}
    answers: dict[str, list[Prediction]] = {name: [] for name in prepared}
    for prediction in predictions:
        if prediction.draw < num_draws and key_of(prediction) in variants:
            answers[variants[key_of(prediction)]].append(prediction)
    return answers


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


def _named_parts(parts: Mapping[Any, dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of parts that several fields name, a row each."""
    return [dict(zip(names, name, strict=True)) | scores for name, scores in parts.items()]


def subgroups(predictions: Iterable[Prediction], by_key: Mapping[Key, Sample]) -> list[dict[str, Any]]:
    """Accuracy by modality x task x source x number of options; None where a part has fewer than `MIN_GROUPS`."""
    names = ("modality", "task", "source", "num_options")
    parts = score_by(predictions, by_key, lambda p: (p.modality, p.task, p.source, len(p.options)))
    few = {"accuracy": None, "ci95": None}
    return [row | (few if row["n_groups"] < MIN_GROUPS else {}) for row in _named_parts(parts, names)]


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


def score_probe(name: str, run: ControlRun, originals: Sequence[Prediction]) -> dict[str, Any]:
    """What a variant tells beside its accuracy: what became of answers after another thinking, or of confidence."""
    if not run.predictions or name not in VARIANTS:
        return {}
    if VARIANTS[name].reads_answers:
        return {"thinking": score_thinking(originals, run.predictions, run.samples)}
    if name == "none_of_the_above":
        return {"confidence": score_confidence_change(originals, run.predictions)}
    return {}


def score_thinking(
    originals: Sequence[Prediction], answers: Sequence[Prediction], prepared: Sequence[Sample]
) -> dict[str, Any]:
    """Answers after another thinking beside the original ones.

    `changed` is the share of other options among answers that can still be read; `follows`, for a contradicting
    thinking, the share that answers what it concludes. `original_accuracy` is over the same questions.
    """
    before = {question_of(p): p for p in originals}
    pairs = [(before[question_of(p)], p) for p in answers if question_of(p) in before]
    read = [(first, second) for first, second in pairs if chosen_option(second) is not None]
    planted = {s.id: int(s.extra[PLANTED]) for s in prepared if PLANTED in s.extra}
    groups = [group_of(first) for first, _ in read]
    scores: dict[str, Any] = {"n": len(pairs), "unreadable": len(pairs) - len(read)}
    if pairs:
        scores["accuracy"] = accuracy([second for _, second in pairs])["accuracy"]
        scores["original_accuracy"] = sum(is_right(first) for first, _ in pairs) / len(pairs)
    if read:
        scores["changed"] = share([chosen_option(a) != chosen_option(b) for a, b in read], groups, "share")
    if read and planted:
        scores["follows"] = share([chosen_option(b) == planted[b.id] for _, b in read], groups, "share")
    return scores


def score_confidence_change(originals: Sequence[Prediction], answers: Sequence[Prediction]) -> dict[str, Any] | None:
    """Mean probability of the right letter among the options, `before` and `after` a change, over the same questions.

    Behind that letter the right option stood before, and what took its place after. None without log-probabilities.
    """
    first = {question_of(p): p for p in originals}
    pairs = [(first[question_of(p)], p) for p in answers if question_of(p) in first]
    told = [(a, b) for a, b in pairs if a.option_logprobs is not None and b.option_logprobs is not None]
    if not told:
        return None
    before, after = ([_gold_probability(p) for p in side] for side in zip(*told, strict=True))
    change = bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], [group_of(a) for a, _ in told])
    return {
        "n": change.n,
        "before": fmean(before),
        "after": fmean(after),
        **written(change, "difference", method=True),
    }


def _gold_probability(prediction: Prediction) -> float:
    assert prediction.gold is not None, "samples without a right option are refused"
    assert prediction.option_logprobs is not None, "predictions without are left out"
    return float(option_probabilities(option_logits([prediction.option_logprobs]))[0, LETTERS.index(prediction.gold)])


def _follows(run: ControlRun) -> tuple[list[bool], list[str]]:
    """Whether each answer is that of the shown image, where it is an option, and the groups."""
    shown_by_key = {key_of(sample): sample.extra.get(SHOWN_ANSWER) for sample in run.samples}
    hits, groups = [], []
    for prediction in run.predictions:
        shown = shown_by_key[key_of(prediction)]
        letters = {plain_words(text): letter for text, letter in zip(prediction.options, LETTERS, strict=False)}
        if shown is not None and plain_words(shown) in letters:
            hits.append(prediction.answer == letters[plain_words(shown)])
            groups.append(group_of(prediction))
    return hits, groups
