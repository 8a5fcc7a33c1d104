"""Image reliance: does an answer change when its evidence is taken away?

A question is image-reliant when its answer changes under at least one control without the evidence (blank, noise, no
image, another image): our reading of arXiv:2603.03437. An answer that can be read on the original only is neither the
same nor another one and is counted apart. Guesses change too, and the more controls there are the more often one of
them changes: the share says something only beside its chance, `right_without_image` and the single controls. Together
with the consistency under rotated options it puts a question into one of four quadrants (arXiv:2603.20985): ideal,
fragile, dangerous (firm without looking) and worst.

And option order: what a model answers when the same options stand behind other letters.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

from medr1.eval.measures import Question, group_of, is_right, question_of
from medr1.eval.pairs import changed
from medr1.results.evaluated import (
    ChanceAgreement,
    ChanceShare,
    Circular,
    ControlChange,
    LetterScore,
    OptionOrder,
    Reliance,
    RelianceRow,
)
from medr1.stats import proportion
from medr1.types import LETTERS, Change, Estimate, Prediction
from medr1.variants import VARIANTS
from medr1.variants.controls import ROTATIONS, chosen_option

QUADRANTS = {(True, True): "ideal", (False, True): "fragile", (True, False): "dangerous", (False, False): "worst"}
"""Name of a question by whether it is consistent and whether it is image-reliant."""
OUTCOMES = {True: "changed", False: "same", None: "unreadable"}
"""What became of an answer under a control, by whether it changed."""


def reliance_rows(originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]) -> list[RelianceRow]:
    """One row a question: its answer, whether that is right, and what became of it under each control without evidence.

    `reliant` is None where no verdict is possible: the original chose no option, or no control did. `quadrant` is None
    too where the options were not rotated.
    """
    others = {
        name: {question_of(prediction): prediction for prediction in predictions}
        for name, predictions in controls.items()
        if name in VARIANTS and VARIANTS[name].removes_evidence
    }
    rotations = complete_rotations(originals, controls)
    rows = []
    for original in originals:
        key = question_of(original)
        outcomes = {
            name: OUTCOMES[changed(Change(before=original, after=by_key[key]))]
            for name, by_key in others.items()
            if key in by_key
        }
        verdicts = set(outcomes.values()) - {OUTCOMES[None]}
        reliant = OUTCOMES[True] in verdicts if verdicts else None
        turned = rotations.get(key)
        rows.append(
            RelianceRow(
                id=original.id,
                draw=original.draw,
                group=original.group,
                num_options=len(original.options),
                answer=original.answer,
                right=is_right(original),
                controls=outcomes,
                reliant=reliant,
                quadrant=None if reliant is None or turned is None else QUADRANTS[consistent(turned), reliant],
            )
        )
    return rows


def score_reliance(rows: Sequence[RelianceRow]) -> Reliance | None:
    """Shares over the `n` questions with a verdict; None where there is none.

    `reliant`: the answer changes under some control; its `chance` is that of answers drawn anew each time.
    `right_and_reliant`: right, and so. `right_without_image`: right, and the same whatever is shown. `by_control`: the
    share of changed answers among those readable in both.
    """
    judged = [row for row in rows if row.reliant is not None]
    if not judged:
        return None
    names = dict.fromkeys(name for row in rows for name in row.controls)
    in_quadrants = [row for row in judged if row.quadrant is not None]
    chances = [
        1 - row.num_options ** -sum(found != OUTCOMES[None] for found in row.controls.values()) for row in judged
    ]
    return Reliance(
        n=len(judged),
        reliant=ChanceShare(share=_share(judged, lambda row: bool(row.reliant)), chance=fmean(chances)),
        right_and_reliant=_share(judged, lambda row: row.right and bool(row.reliant)),
        right_without_image=_share(judged, lambda row: row.right and not row.reliant),
        by_control={name: _changes(rows, name) for name in names},
        quadrants={
            name: _share(in_quadrants, lambda row, name=name: row.quadrant == name) for name in QUADRANTS.values()
        }
        if in_quadrants
        else None,
    )


def _changes(rows: Sequence[RelianceRow], name: str) -> ControlChange:
    asked = [row for row in rows if name in row.controls]
    both = [row for row in asked if row.controls[name] != OUTCOMES[None]]
    return ControlChange(
        n=len(both),
        unreadable=len(asked) - len(both),
        changed=_share(both, lambda row: row.controls[name] == OUTCOMES[True]) if both else None,
    )


def _share(rows: Sequence[RelianceRow], holds: Callable[[RelianceRow], bool]) -> Estimate:
    return proportion([holds(row) for row in rows], [row.group or row.id for row in rows])


def complete_rotations(
    originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]
) -> dict[Question, list[Prediction]]:
    """The predictions of every rotation, the original first, for the questions that have all of them."""
    rotations = {question_of(prediction): [prediction] for prediction in originals}
    for name in ROTATIONS:
        for prediction in controls.get(name, ()):
            rotations.get(question_of(prediction), []).append(prediction)
    return {key: group for key, group in rotations.items() if len(group) == len(group[0].options) > 1}


def consistent(rotations: Sequence[Prediction]) -> bool:
    """Whether the same option was chosen in all of them."""
    return _all_chosen(rotations) and len({chosen_option(prediction) for prediction in rotations}) == 1


def score_option_order(
    originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]
) -> OptionOrder | None:
    """Accuracy under all rotations, how often the answer follows its text or its letter, and bias to letters.

    Over the `n` questions that have every rotation: `circular` is the share right under all, with its chance for
    guesses (the mean of K^-K); `mean_accuracy` that of single rotations. Over those that chose an option each time:
    `same_option` and `same_letter` under all rotations, chance K^(1-K) each. By letter: how often it was `chosen`, how
    often choosing evenly would be, and its `recall`. None where no question has every rotation.
    """
    questions = list(complete_rotations(originals, controls).values())
    if not questions:
        return None
    groups = [group_of(rotations[0]) for rotations in questions]
    answered = [rotations for rotations in questions if _all_chosen(rotations)]
    everything = [prediction for rotations in questions for prediction in rotations]
    letters = _by_letter(everything)
    chances = [len(rotations) ** -len(rotations) for rotations in questions]
    return OptionOrder(
        n=len(questions),
        circular=Circular(
            accuracy=proportion([all(map(is_right, rotations)) for rotations in questions], groups),
            chance=fmean(chances),
        ),
        mean_accuracy=fmean(map(is_right, everything)),
        unreadable=sum(chosen_option(prediction) is None for prediction in everything),
        same_option=_agreement([consistent(rotations) for rotations in answered], answered),
        same_letter=_agreement([len({p.answer for p in rotations}) == 1 for rotations in answered], answered),
        letters=letters,
        recall_std=pstdev(score.recall for score in letters.values()),
    )


def _all_chosen(rotations: Sequence[Prediction]) -> bool:
    return all(chosen_option(prediction) is not None for prediction in rotations)


def _agreement(hits: Sequence[bool], questions: Sequence[Sequence[Prediction]]) -> ChanceAgreement | None:
    if not hits:
        return None
    groups = [group_of(rotations[0]) for rotations in questions]
    expected = fmean(len(rotations) ** (1 - len(rotations)) for rotations in questions)
    return ChanceAgreement(n=len(hits), share=proportion(hits, groups), chance=expected)


def _by_letter(predictions: Sequence[Prediction]) -> dict[str, LetterScore]:
    """For every letter that is right somewhere: shares chosen and expected of all answers that chose, and recall."""
    chosen = [p for p in predictions if chosen_option(p) is not None]
    hits: dict[str, list[bool]] = defaultdict(list)
    for prediction in predictions:
        if prediction.gold is not None:
            hits[prediction.gold].append(is_right(prediction))
    expected = {
        letter: sum(1 / len(p.options) for p in chosen if letter in LETTERS[: len(p.options)]) for letter in hits
    }
    return {
        letter: LetterScore(
            chosen=sum(p.answer == letter for p in chosen) / max(1, len(chosen)),
            expected=expected[letter] / max(1, len(chosen)),
            recall=fmean(hits[letter]),
        )
        for letter in sorted(hits)
    }
