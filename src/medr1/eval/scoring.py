"""From predictions to `results.json`: pure functions, so that saved predictions can be scored again without a model.

Unreadable is not wrong: accuracy counts what is readable and right over everything that was generated, and the counts
of how the answers could be read stand beside it. Failed generations are no predictions; they are counted apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

from medr1.answers.wording import plain_words
from medr1.data.blind import MajorityLetter, TextPrior, format_rule, hits, longest_option, rule_accuracy
from medr1.data.leakage import sample_overlap
from medr1.diagnosis import Answers, unreadable, void
from medr1.eval.confidence import score_confidence
from medr1.eval.measures import Key, accuracy_of, draws_of, group_of, is_right, key_of, parse_counts, score_protocols
from medr1.eval.measures import protocol_for as protocol_for
from medr1.eval.pairs import changed_share, groups_of, paired
from medr1.eval.pairs import difference as paired_difference
from medr1.eval.receipts import receipt_verdicts
from medr1.eval.reliance import reliance_rows, score_option_order, score_reliance
from medr1.results.evaluated import (
    Blind,
    BlindSplit,
    ConfidenceChange,
    Control,
    Intervention,
    ModalityTask,
    Part,
    Results,
    Sampling,
    Spread,
    Subgroup,
    Void,
)
from medr1.stats import bootstrap_mean, chance, majority_hit, option_logits, option_probabilities, pass_at_k, proportion
from medr1.types import LETTERS, Change, Estimate, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import SHOWN_ANSWER, chosen_option
from medr1.variants.thinking import PLANTED

Name = TypeVar("Name")
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
) -> Results:
    """Results of one run.

    `predictions` are those of the original images; `samples` all that were asked, so that what failed is counted.
    `train_samples` is what the text prior is fitted on. Raises AssertionError for predictions of other samples.
    """
    assert predictions, "nothing to score"
    by_key = {key_of(sample): sample for sample in samples}
    controls = controls or {}
    varied = {name: run.predictions for name, run in controls.items()}
    scored = {
        name: score_control(name, run, predictions, n_asked=len(samples), num_draws=num_draws)
        for name, run in controls.items()
    }
    failed = len(samples) * num_draws - len(predictions)
    prior = list(map(TextPrior(train_samples), samples)) if train_samples else None
    overlap = sample_overlap(train_samples, samples) if train_samples else None

    def by(name: Callable[[Prediction], str]) -> dict[str, Part]:
        return {key: _part(part, by_key) for key, part in parted(predictions, name).items()}

    return Results(
        void=[
            *void(answers_of(predictions, failed), overlap, receipt_verdicts(predictions, samples)),
            *_void_controls(controls, num_draws),
        ],
        n=len(predictions),
        accuracy=accuracy_of(predictions),
        failed=failed,
        chance=chance(samples),
        majority_letter=rule_accuracy(MajorityLetter(samples), samples),
        blind=_blind(samples, prior, scored),
        train_overlap=overlap,
        parse=parse_counts(predictions),
        mean_tokens=sum(p.num_tokens for p in predictions) / len(predictions),
        protocols=score_protocols(predictions, by_key),
        by_modality=by(lambda p: p.modality),
        by_task=by(lambda p: p.task),
        by_source=by(lambda p: p.source),
        by_modality_and_task=[
            _part(part, by_key).extended(ModalityTask, modality=modality, task=task)
            for (modality, task), part in parted(predictions, lambda p: (p.modality, p.task)).items()
        ],
        by_blind=score_by_blind(predictions, samples, blank=varied.get("blank"), prior=prior),
        by_num_options=by(lambda p: str(len(p.options))),
        subgroups=subgroups(predictions, by_key),
        sampling=score_draws(predictions, num_draws) if num_draws > 1 else None,
        confidence=score_confidence(predictions),
        controls=scored,
        image_reliance=score_reliance(reliance_rows(predictions, varied)),
        option_order=score_option_order(predictions, varied),
    )


def _blind(
    samples: Sequence[Sample], prior: Sequence[tuple[int, ...]] | None, controls: Mapping[str, Control]
) -> Blind:
    """What rules without a picture reach, and the model on pictures that say nothing."""
    reached = {name: control.accuracy.value for name, control in controls.items() if control.accuracy}
    return Blind(
        text_prior=None if prior is None else sum(hits(prior, samples)) / len(samples),
        format_rule=rule_accuracy(format_rule, samples),
        longest_option=rule_accuracy(longest_option, samples),
        blank_image=reached.get("blank"),
        swapped_image=reached.get("swapped"),
    )


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
) -> BlindSplit:
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
    known = [p for p in predictions if p.id in told]
    blind = [p for p in known if any(told[p.id])]
    seen = [p for p in known if not any(told[p.id])]
    by_key = {key_of(sample): sample for sample in samples}
    by = [name for name, found in (("blank_image", blank), ("text_prior", prior)) if found is not None]
    return BlindSplit(
        answerable=_part(blind, by_key) if blind else None,
        not_answerable=_part(seen, by_key) if seen else None,
        by=by,
        not_checked=len(predictions) - len(known),
        reason=None if by else "neither blank images nor a text prior were asked for: --variants blank, --train-data",
    )


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


def parted(predictions: Iterable[Prediction], name: Callable[[Prediction], Name]) -> dict[Name, list[Prediction]]:
    """The predictions of every part, in alphabetical order of their names."""
    parts: dict[Name, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        parts[name(prediction)].append(prediction)
    return dict(sorted(parts.items(), key=lambda item: str(item[0])))


def _part(predictions: Sequence[Prediction], by_key: Mapping[Key, Sample]) -> Part:
    shown = (by_key[key_of(p)] for p in predictions)
    return Part(n=len(predictions), accuracy=accuracy_of(predictions), chance=chance(shown))


def subgroups(predictions: Iterable[Prediction], by_key: Mapping[Key, Sample]) -> list[Subgroup]:
    """Accuracy by modality x task x source x number of options; None where a part has fewer than `MIN_GROUPS`."""
    rows = []
    for name, part in parted(predictions, lambda p: (p.modality, p.task, p.source, len(p.options))).items():
        found, (modality, task, source, num_options) = _part(part, by_key), name
        groups = found.accuracy.groups or 0
        rows.append(
            Subgroup(
                modality=modality,
                task=task,
                source=source,
                num_options=num_options,
                n=found.n,
                n_groups=groups,
                ci_method=found.accuracy.method or "",
                chance=found.chance,
                accuracy=found.accuracy if groups >= MIN_GROUPS else None,
            )
        )
    return rows


def score_control(
    name: str, run: ControlRun, originals: Sequence[Prediction], *, n_asked: int, num_draws: int = 1
) -> Control:
    """Accuracy of a control against the original answers, and what the changed images cost on the same samples.

    `follows` is there for controls that show an image with another answer: the share that answers what the shown image
    says, where that answer is among the options. Of another thinking it is told what became of the answers, and of
    `none_of_the_above` what became of the confidence.
    """
    known = Control(
        n=len(run.predictions),
        dropped=n_asked - len(run.samples),
        failed=len(run.samples) * num_draws - len(run.predictions),
    )
    if not run.predictions:
        return known
    changes = paired(originals, run.predictions)
    follows, groups = _follows(run)
    reads_answers = name in VARIANTS and VARIANTS[name].reads_answers
    return known.model_copy(
        update={
            "accuracy": accuracy_of(run.predictions),
            "parse": parse_counts(run.predictions),
            "original": accuracy_of([change.before for change in changes]) if changes else None,
            "difference": paired_difference(changes) if changes else None,
            "follows": proportion(follows, groups) if follows else None,
            "thinking": score_thinking(originals, run.predictions, run.samples) if reads_answers else None,
            "confidence": score_confidence_change(changes) if name == "none_of_the_above" else None,
        }
    )


def score_thinking(
    originals: Sequence[Prediction], answers: Sequence[Prediction], prepared: Sequence[Sample]
) -> Intervention:
    """Answers after another thinking beside the original ones.

    `changed` is the share of other options among answers that can still be read; `follows`, for a contradicting
    thinking, the share that answers what it concludes. `original_accuracy` is over the same questions.
    """
    changes = paired(originals, answers)
    read = [change for change in changes if chosen_option(change.after) is not None]
    planted = {s.id: int(s.extra[PLANTED]) for s in prepared if PLANTED in s.extra}
    follows = [chosen_option(change.after) == planted[change.after.id] for change in read] if planted else []
    return Intervention(
        n=len(changes),
        unreadable=len(changes) - len(read),
        accuracy=accuracy_of([change.after for change in changes]).value if changes else None,
        original_accuracy=accuracy_of([change.before for change in changes]).value if changes else None,
        changed=changed_share(read),
        follows=proportion(follows, groups_of(read)) if follows else None,
    )


def score_confidence_change(changes: Sequence[Change]) -> ConfidenceChange | None:
    """Mean probability of the right letter among the options, `before` and `after` a change, over the same questions.

    Behind that letter the right option stood before, and what took its place after. None without log-probabilities.
    """
    told = [c for c in changes if c.before.option_logprobs is not None and c.after.option_logprobs is not None]
    if not told:
        return None
    before = [_gold_probability(change.before) for change in told]
    after = [_gold_probability(change.after) for change in told]
    return ConfidenceChange(
        n=len(told),
        before=fmean(before),
        after=fmean(after),
        difference=bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], groups_of(told)),
    )


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


def score_draws(predictions: Sequence[Prediction], num_draws: int) -> Sampling:
    """What k draws of every question amount to; questions with failed draws count by the draws that they have.

    `mean` is the accuracy of a single draw, `spread` how it varies from draw to draw over the whole set, `majority` the
    vote with ties drawn at random, `pass_at_k` the chance that one of k draws is right (Chen et al. 2021), for k of
    powers of two and `num_draws`, over the questions that have k draws.
    """
    questions = draws_of(predictions)
    whole_sets = [[p for p in predictions if p.draw == draw] for draw in range(num_draws)]
    by_draw = [accuracy_of(answers).value for answers in whole_sets if answers]
    votes = [majority_hit([p.answer for p in draws], draws[0].gold) for draws in questions]
    groups = [group_of(draws[0]) for draws in questions]
    return Sampling(
        num_draws=num_draws,
        n_questions=len(questions),
        mean=accuracy_of(predictions),
        spread=Spread(
            by_draw=by_draw,
            min=min(by_draw),
            max=max(by_draw),
            sd=stdev(by_draw) if len(by_draw) > 1 else None,
        ),
        majority=proportion(votes, groups),
        pass_at_k={str(k): _passed(questions, k, num_draws) for k in _powers_of_two(num_draws)},
    )


def _passed(questions: Sequence[Sequence[Prediction]], k: int, num_draws: int) -> Estimate | None:
    enough = [draws for draws in questions if len(draws) >= k]
    if not enough:
        return None
    chances = [pass_at_k(len(draws), sum(map(is_right, draws)), k) for draws in enough]
    return proportion(chances, [group_of(draws[0]) for draws in enough], draws=num_draws)


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … below `most`, and `most`."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
