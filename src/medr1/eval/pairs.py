"""Pairs of answers to one question, before and after something was done: the one place where they are scored.

Three different things are published as a "flip". Here each has a name:

    turned    right became wrong, or wrong right (Dutta et al., arXiv:2407.09141; McNemar's test counts these)
    changed   another option was chosen, among the answers that can be read before and after (the flip rate of
              Hendrycks and Dietterich, arXiv:1903.12261; how far answers depend on image or thinking)
    misled    an answer that was right became another option; one that can no longer be read or refuses is lost, too,
              and counted apart (an attack's success). On disk its name is `flipped`.
"""

from collections.abc import Collection, Sequence
from typing import Literal

from medr1.answers.refusal import is_refusal
from medr1.eval.measures import accuracy_of, group_of, is_right, question_of
from medr1.results.attacked import AttackScores, Lost, Robustness
from medr1.results.compared import Turns
from medr1.stats import mcnemar, paired_difference, proportion
from medr1.types import Change, Estimate, ParseStatus, Prediction
from medr1.variants.controls import chosen_option


def originals(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Those on the images as they are: a control of one run must not be compared with an original of the other."""
    return [prediction for prediction in predictions if prediction.variant == ""]


def paired(before: Sequence[Prediction], after: Sequence[Prediction]) -> list[Change]:
    """The answers of both to the questions (and draws) that both answered, in the order of `before`."""
    later = {question_of(prediction): prediction for prediction in after}
    return [Change(before=p, after=later[question_of(p)]) for p in before if question_of(p) in later]


def groups_of(changes: Sequence[Change]) -> list[str]:
    """What the questions share: an image, where that is known."""
    return [group_of(change.before) for change in changes]


def hits(changes: Sequence[Change]) -> tuple[list[bool], list[bool]]:
    """Whether the answers were right before, and after."""
    return [is_right(change.before) for change in changes], [is_right(change.after) for change in changes]


def difference(changes: Sequence[Change]) -> Estimate:
    """Change of the accuracy."""
    return paired_difference(*hits(changes), groups_of(changes))


def turns(changes: Sequence[Change]) -> Turns:
    """How many answers turned, either way."""
    both = list(zip(*hits(changes), strict=True))
    return Turns(wrong_to_right=both.count((False, True)), right_to_wrong=both.count((True, False)))


def changed(change: Change) -> bool | None:
    """Whether another option was chosen; None where one of the answers cannot be read."""
    before, after = chosen_option(change.before), chosen_option(change.after)
    return None if before is None or after is None else before != after


def changed_share(changes: Sequence[Change]) -> Estimate | None:
    """Share of changed answers among those that can be read before and after; None where there are none."""
    read = [change for change in changes if changed(change) is not None]
    return proportion([bool(changed(change)) for change in read], groups_of(read)) if read else None


def noise_floor(first: Sequence[Prediction], second: Sequence[Prediction]) -> Estimate:
    """Share of answers that differ between two clean runs, unreadable being an answer: no attack is told below it."""
    changes = paired(first, second)
    return proportion([change.before.answer != change.after.answer for change in changes], groups_of(changes))


def fate(prediction: Prediction) -> Literal["right", "misled", "unreadable", "refused"]:
    """What became of an answer that had been right."""
    if is_right(prediction):
        return "right"
    if prediction.parse_status == ParseStatus.OK:
        return "misled"
    return "refused" if is_refusal(prediction.completion) else "unreadable"


def robustness(
    changes: Sequence[Change],
    *,
    n_asked: int,
    reliant: Collection[str] | None = None,
    in_train: Collection[str] | None = None,
) -> Robustness:
    """Accuracy before and after an attack on the same questions, and what became of the right answers.

    High robust accuracy may simply mean that the model does not look at the image, so everything is repeated on the
    questions whose answer depends on it.

    Args:
        changes: answers on the clean and on the adversarial image, one draw a question.
        n_asked: questions that were to be attacked; those without both answers are counted as `failed`, never as
            wrong: a crash is no successful attack.
        reliant: ids of the questions whose answer depends on the image; None where that was not measured.
        in_train: ids of the questions whose image occurs in the training data; None where that is not known.
    """

    def by(axis: Literal["modality", "task"]) -> dict[str, AttackScores]:
        names = sorted({getattr(change.before, axis) for change in changes})
        return {name: attack_scores([c for c in changes if getattr(c.before, axis) == name]) for name in names}

    seen = None if reliant is None else [change for change in changes if change.before.id in reliant]
    new = None if in_train is None else [change for change in changes if change.before.id not in in_train]
    return attack_scores(changes).extended(
        Robustness,
        failed=n_asked - len(changes),
        image_reliant=None if seen is None else attack_scores(seen),
        image_not_in_train=None if new is None else attack_scores(new),
        by_modality=by("modality"),
        by_task=by("task"),
    )


def attack_scores(changes: Sequence[Change]) -> AttackScores:
    """Both accuracies, and what became of the answers that were right before."""
    before, after = hits(changes)
    right = [change for change in changes if is_right(change.before)]
    fates = [fate(change.after) for change in right]
    return AttackScores(
        n=len(changes),
        clean_accuracy=accuracy_of([change.before for change in changes]) if changes else None,
        robust_accuracy=accuracy_of([change.after for change in changes]) if changes else None,
        n_attacked=len(right),
        attack_success_rate=proportion([one != "right" for one in fates], groups_of(right)) if right else None,
        lost=Lost(flipped=fates.count("misled"), unreadable=fates.count("unreadable"), refused=fates.count("refused")),
        recovered=turns(changes).wrong_to_right,
        mcnemar_p=mcnemar(before, after),
    )
