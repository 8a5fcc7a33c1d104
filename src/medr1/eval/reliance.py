"""Image reliance: does an answer change when its evidence is taken away?

A question is image-reliant when its answer changes under at least one control without the evidence (blank, noise, no
image, another image): our reading of arXiv:2603.03437. An answer that can be read on the original only is neither the
same nor another one and is counted apart. Guesses change too, and the more controls there are the more often one of
them changes: the share says something only beside its chance, `right_without_image` and the single controls. Together
with the consistency under rotated options it puts a question into one of four quadrants (arXiv:2603.20985): ideal,
fragile, dangerous (firm without looking) and worst.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from medr1.eval.measures import is_right
from medr1.eval.pairs import changed
from medr1.eval.permutation import complete_rotations, consistent, question_of
from medr1.results.evaluated import ChanceShare, ControlChange, Reliance, RelianceRow
from medr1.stats import proportion
from medr1.types import Change, Estimate, Prediction
from medr1.variants import VARIANTS

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
