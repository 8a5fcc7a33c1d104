"""What an attack cost: robust accuracy and success rate, with the blind figures that put them into proportion.

High robust accuracy may simply mean that the model does not look at the image, so everything is repeated on the
questions whose answer depends on it.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from medr1.answers.refusal import is_refusal
from medr1.eval.measures import accuracy, group_of, is_right, share
from medr1.stats import holm, mcnemar
from medr1.types import ParseStatus, Prediction

OUTCOMES = ("flipped", "unreadable", "refused")
"""What may become of a right answer: another option, nothing that can be read, or a refusal."""


def robustness(
    clean: Sequence[Prediction],
    attacked: Sequence[Prediction],
    *,
    n_asked: int,
    reliant: Collection[str] | None = None,
    in_train: Collection[str] | None = None,
) -> dict[str, Any]:
    """Accuracy before and after an attack on the same questions.

    Args:
        clean: one prediction a question on the clean image.
        attacked: those on the adversarial images, same ids.
        n_asked: questions that were to be attacked; those without both predictions are counted as `failed`, never as
            wrong: a crash is no successful attack.
        reliant: ids of the questions whose answer depends on the image; None where that was not measured.
        in_train: ids of the questions whose image occurs in the training data; None where that is not known.
    """
    after = {p.id: p for p in attacked}
    pairs = [(p, after[p.id]) for p in clean if p.id in after]
    scores = {**_pair_scores(pairs), "failed": n_asked - len(pairs)}
    parts = {
        "image_reliant": None if reliant is None else [pair for pair in pairs if pair[0].id in reliant],
        "image_not_in_train": None if in_train is None else [pair for pair in pairs if pair[0].id not in in_train],
    }
    scores |= {name: part and _pair_scores(part) for name, part in parts.items()}
    for axis in ("modality", "task"):
        names = sorted({getattr(p, axis) for p, _ in pairs})
        scores[f"by_{axis}"] = {
            name: _pair_scores([pair for pair in pairs if getattr(pair[0], axis) == name]) for name in names
        }
    return scores


def _pair_scores(pairs: Sequence[tuple[Prediction, Prediction]]) -> dict[str, Any]:
    """Both accuracies, and what became of the answers that were right before."""
    if not pairs:
        return {"n": 0, "clean_accuracy": None, "robust_accuracy": None, "attack_success_rate": None}
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    clean, robust = accuracy(before), accuracy(after)
    right = [(a, b) for a, b in pairs if is_right(a)]
    lost = [outcome(b) for _, b in right]
    groups = [group_of(a) for a, _ in right]
    success = share([name != "right" for name in lost], groups, "share") if right else None
    return {
        "n": len(pairs),
        "clean_accuracy": clean["accuracy"],
        "clean_ci95": clean["ci95"],
        "robust_accuracy": robust["accuracy"],
        "ci95": robust["ci95"],
        "n_attacked": len(right),
        "attack_success_rate": success and success["share"],
        "attack_success_ci95": success and success["ci95"],
        "lost": {name: lost.count(name) for name in OUTCOMES},
        "recovered": sum(not is_right(a) and is_right(b) for a, b in pairs),
        "mcnemar_p": mcnemar([is_right(a) for a in before], [is_right(b) for b in after]),
    }


def outcome(prediction: Prediction) -> str:
    """`right`, or one of `OUTCOMES`."""
    if is_right(prediction):
        return "right"
    if prediction.parse_status == ParseStatus.OK:
        return "flipped"
    return "refused" if is_refusal(prediction.completion) else "unreadable"


def reliant_ids(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of the questions whose answer changes under a control, from the rows of `medr1.eval.reliance`."""
    return {row["id"] for row in rows if row["reliant"]}


def noise_floor(first: Sequence[Prediction], second: Sequence[Prediction]) -> dict[str, Any]:
    """Share of answers that differ between two clean runs: no attack can be told apart below it."""
    theirs = {p.id: p.answer for p in second}
    pairs = [p for p in first if p.id in theirs]
    changed = [p.answer != theirs[p.id] for p in pairs]
    return {"n": len(pairs), **share(changed, [group_of(p) for p in pairs], "share")}


def adjusted(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """McNemar's p of every cell of a grid, corrected for their number (Holm)."""
    names = [name for name, cell in cells.items() if cell.get("mcnemar_p") is not None]
    return dict(zip(names, holm([cells[name]["mcnemar_p"] for name in names]), strict=True)) if names else {}


def area_under_curve(points: Mapping[int, float]) -> float | None:
    """Mean robust accuracy over the budgets from 0 to the largest, by trapezia; None without a budget beyond 0.

    >>> area_under_curve({0: 1.0, 2: 0.5, 4: 0.0})
    0.5
    """
    places = sorted(points)
    if len(places) < 2:
        return None
    area = sum((b - a) * (points[a] + points[b]) / 2 for a, b in pairwise(places))
    return area / (places[-1] - places[0])
