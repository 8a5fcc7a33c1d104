"""Image reliance: does an answer change when its evidence is taken away?

A question is image-reliant when its answer changes under at least one control without the evidence (blank, noise, no
image, another image): our reading of arXiv:2603.03437. An answer that can be read on the original only is neither the
same nor another one and is counted apart. Guesses change too, and the more controls there are the more often one of
them changes: the share says something only beside its chance, `right_without_image` and the single controls. Together
with the consistency under rotated options it puts a question into one of four quadrants (arXiv:2603.20985): ideal,
fragile, dangerous (firm without looking) and worst.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from medr1.eval.measures import is_right, share
from medr1.eval.permutation import complete_rotations, consistent, question_of
from medr1.types import Prediction
from medr1.variants import VARIANTS
from medr1.variants.controls import chosen_option

QUADRANTS = {(True, True): "ideal", (False, True): "fragile", (True, False): "dangerous", (False, False): "worst"}
"""Name of a question by whether it is consistent and whether it is image-reliant."""


def reliance_rows(
    originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]
) -> list[dict[str, Any]]:
    """One row a question: its answer, whether that is right, and what became of it under each control without evidence.

    Outcomes are `same`, `changed` and `unreadable`; `reliant` is None where no verdict is possible: the original
    chose no option, or no control did. `quadrant` is None too where the options were not rotated.
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
        outcomes = {name: _outcome(original, by_key[key]) for name, by_key in others.items() if key in by_key}
        reliant = _reliant(original, outcomes)
        turned = rotations.get(key)
        rows.append(
            {
                "id": original.id,
                "draw": original.draw,
                "group": original.group,
                "num_options": len(original.options),
                "answer": original.answer,
                "right": is_right(original),
                "controls": outcomes,
                "reliant": reliant,
                "quadrant": None if reliant is None or turned is None else QUADRANTS[consistent(turned), reliant],
            }
        )
    return rows


def score_reliance(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Shares over the `n` questions with a verdict; None where there is none.

    `reliant`: the answer changes under some control; its `chance` is that of answers drawn anew each time.
    `right_and_reliant`: right, and so. `right_without_image`: right, and the same whatever is shown. `by_control`: the
    share of changed answers among those readable in both.
    """
    judged = [row for row in rows if row["reliant"] is not None]
    if not judged:
        return None
    groups = _groups(judged)
    names = dict.fromkeys(name for row in rows for name in row["controls"])
    in_quadrants = [row for row in judged if row["quadrant"] is not None]
    return {
        "n": len(judged),
        "reliant": {
            **share([row["reliant"] for row in judged], groups, "share"),
            "chance": fmean(1 - row["num_options"] ** -_num_verdicts(row) for row in judged),
        },
        "right_and_reliant": share([row["right"] and row["reliant"] for row in judged], groups, "share"),
        "right_without_image": share([row["right"] and not row["reliant"] for row in judged], groups, "share"),
        "by_control": {name: _changes(rows, name) for name in names},
        "quadrants": {
            quadrant: share([row["quadrant"] == quadrant for row in in_quadrants], _groups(in_quadrants), "share")
            for quadrant in QUADRANTS.values()
        }
        if in_quadrants
        else None,
    }


def _outcome(original: Prediction, control: Prediction) -> str:
    before, after = chosen_option(original), chosen_option(control)
    if before is None or after is None:
        return "unreadable"
    return "same" if before == after else "changed"


def _reliant(original: Prediction, outcomes: Mapping[str, str]) -> bool | None:
    verdicts = {outcome for outcome in outcomes.values() if outcome != "unreadable"}
    return "changed" in verdicts if verdicts and chosen_option(original) is not None else None


def _num_verdicts(row: Mapping[str, Any]) -> int:
    return sum(outcome != "unreadable" for outcome in row["controls"].values())


def _changes(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    asked = [row for row in rows if name in row["controls"]]
    both = [row for row in asked if row["controls"][name] != "unreadable"]
    counts: dict[str, Any] = {"n": len(both), "unreadable": len(asked) - len(both)}
    if both:
        counts["changed"] = share([row["controls"][name] == "changed" for row in both], _groups(both), "share")
    return counts


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["group"] or row["id"] for row in rows]
