"""What image corruptions cost: a run on the clean images against a run on corrupted copies of them.

Every corrupted answer stands beside the clean one to the same question. As in ImageNet-C (Hendrycks and Dietterich
2019), the means weigh every corruption alike and, within it, every severity, however many questions it has.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medr1.errors import ConfigError, DataError
from medr1.eval.compare import originals
from medr1.eval.confidence import score_confidence
from medr1.eval.measures import accuracy, difference, group_of, is_right, share
from medr1.eval.reliance import reliance_rows
from medr1.eval.side_by_side import open_runs
from medr1.records import file_hash, read_json
from medr1.runs import Run, check_finished
from medr1.stats import effective_size, resampled_totals
from medr1.types import Prediction
from medr1.variants.controls import chosen_option
from medr1.variants.corruptions import CORRUPTIONS, parse_variant

PREDICTIONS, RESULTS = "predictions.jsonl", "corruptions.json"
ABOUT_THE_DATA = ("data", "data_hash", "limit")
"""Arguments of an evaluation in which the two runs may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The answers to one question on the clean and on a corrupted image."""

    clean: Prediction
    corrupted: Prediction
    name: str
    severity: int


def compare_corrupted(clean: Path, corrupted: Path, *, out: Path | None, overwrite: bool = False) -> dict[str, Any]:
    """Results of two evaluations, as `corruptions.json` in the folder `out` where there is one.

    Raises `ConfigError` where the folder holds the results of other evaluations, and as `open_predictions` does.
    """
    predictions = open_predictions(clean, corrupted)
    if out is None:
        return score_corruptions(*predictions)
    with Run(
        out,
        command="robustness",
        arguments={"clean": clean, "corrupted": corrupted},
        identity={
            "clean_predictions": file_hash(clean / PREDICTIONS),
            "corrupted_predictions": file_hash(corrupted / PREDICTIONS),
        },
        seed=None,
        owns=(RESULTS,),
        overwrite=overwrite,
    ) as run:
        if run.done:
            return read_json(out / RESULTS)
        results = score_corruptions(*predictions)
        run.start()
        run.write_json(RESULTS, results)
        run.reach("done")
    return results


def open_predictions(clean: Path, corrupted: Path) -> tuple[Sequence[Prediction], Sequence[Prediction]]:
    """Predictions of both folders.

    Raises `ConfigError` where they are of different models, prompts or engines, `DataError` where one is not finished.
    """
    for folder in (clean, corrupted):
        check_finished(folder)
    runs = open_runs([clean, corrupted])
    first, second = (dict(run.arguments) for run in runs)
    differing = [
        name
        for name in sorted(first.keys() | second.keys())
        if name not in ABOUT_THE_DATA and first.get(name) != second.get(name)
    ]
    if differing:
        changes = "; ".join(f"{name}: {first.get(name)!r} and {second.get(name)!r}" for name in differing)
        raise ConfigError(f"the runs differ in more than their images ({changes}); evaluate both alike")
    return runs[0].predictions, runs[1].predictions


def score_corruptions(clean: Sequence[Prediction], corrupted: Sequence[Prediction]) -> dict[str, Any]:
    """Results of a run over corrupted images beside those of the clean run.

    `{n, without_clean, clean, corrupted, drop, relative_drop, flip_rate, image_reliant, corruptions}`: `corrupted` is
    the mean corruption accuracy and `clean` the mean over the same questions with the same weights; `image_reliant`
    repeats them for the questions whose answer changes under a control of the clean run (None without controls);
    `corruptions` has a block for every severity. Raises `DataError` where the runs share no question.
    """
    answers = {(p.id, p.draw): p for p in originals(clean)}
    pairs, without_clean = [], 0
    for prediction in corrupted:
        parsed, twin = parse_variant(prediction.variant), answers.get((prediction.id, prediction.draw))
        if parsed is None:
            continue
        if twin is None:
            without_clean += 1
        else:
            pairs.append(Pair(clean=twin, corrupted=prediction, name=parsed[0], severity=parsed[1]))
    if not pairs:
        raise DataError(
            "the corrupted run has no answer to a question of the clean run; make its data with `medr1 corrupt` from "
            "the data of the clean run"
        )
    reliant = _image_reliant(clean)
    on_reliant = [pair for pair in pairs if (pair.clean.id, pair.clean.draw) in reliant]
    return {
        "without_clean": without_clean,
        **_means(pairs),
        "image_reliant": _means(on_reliant) if on_reliant else None,
        "corruptions": _by_corruption(pairs),
    }


def _by_corruption(pairs: Iterable[Pair]) -> dict[str, Any]:
    cells: dict[str, dict[int, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        cells[pair.name][pair.severity].append(pair)
    return {
        name: {
            **_means([pair for cell in cells[name].values() for pair in cell]),
            "severities": {str(severity): _cell(cells[name][severity]) for severity in sorted(cells[name])},
        }
        for name in CORRUPTIONS
        if name in cells
    }


def _cell(pairs: Sequence[Pair]) -> dict[str, Any]:
    """One corruption at one severity."""
    before, after = [is_right(pair.clean) for pair in pairs], [is_right(pair.corrupted) for pair in pairs]
    groups = [group_of(pair.clean) for pair in pairs]
    return {
        **accuracy([pair.corrupted for pair in pairs]),
        "clean": share(before, groups, "accuracy"),
        "difference": difference(before, after, groups),
        "relative_drop": 1 - sum(after) / sum(before) if any(before) else None,
        "flip_rate": _flips(pairs),
        "unreadable": sum(chosen_option(pair.corrupted) is None for pair in pairs) / len(pairs),
        "calibration": _calibration_shift(pairs),
    }


def _flips(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Share of changed answers among those that could be read on both images."""
    both = [(pair, chosen_option(pair.clean), chosen_option(pair.corrupted)) for pair in pairs]
    both = [(pair, before, after) for pair, before, after in both if before is not None and after is not None]
    if not both:
        return None
    flips = [before != after for _, before, after in both]
    return {"n": len(both), **share(flips, [group_of(pair.clean) for pair, _, _ in both], "share")}


def _calibration_shift(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Calibration error and overconfidence on both images and what the corruption adds; None without probabilities."""
    blocks = [score_confidence([pair.clean for pair in pairs]), score_confidence([pair.corrupted for pair in pairs])]
    before, after = ((block or {}).get("options") for block in blocks)
    if before is None or after is None:
        return None
    names = ("ece", "overconfidence", "mean_confidence")
    return {
        name: {"clean": before[name], "corrupted": after[name], "shift": after[name] - before[name]} for name in names
    }


def _image_reliant(clean: Sequence[Prediction]) -> set[tuple[str, int]]:
    """Questions (and draws) of the clean run whose answer changes when their evidence is taken away."""
    controls: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in clean:
        if prediction.variant:
            controls[prediction.variant].append(prediction)
    return {(row["id"], row["draw"]) for row in reliance_rows(originals(clean), controls) if row["reliant"]}


def _means(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Means over corruptions and severities, with intervals by image."""
    weights = _weights(pairs)
    groups = [group_of(pair.clean) for pair in pairs]
    before = np.array([is_right(pair.clean) for pair in pairs], dtype=float)
    after = np.array([is_right(pair.corrupted) for pair in pairs], dtype=float)
    drop, relative = _drops(before, after, weights, groups)
    return {
        "n": len(pairs),
        "clean": _weighted_share(before, weights, groups),
        "corrupted": _weighted_share(after, weights, groups),
        "drop": drop,
        "relative_drop": relative,
        "flip_rate": _flips(pairs),
    }


def _weights(pairs: Sequence[Pair]) -> np.ndarray:
    """One weight a pair, sum 1: alike for the corruptions, within one for its severities, within one for its pairs."""
    sizes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for pair in pairs:
        sizes[pair.name][pair.severity] += 1
    return np.array([1 / (len(sizes) * len(sizes[p.name]) * sizes[p.name][p.severity]) for p in pairs])


def _weighted_share(hits: np.ndarray, weights: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Wilson interval of the number of independent answers that a clustered, weighted share is worth."""
    from statsmodels.stats.proportion import proportion_confint

    mean = min(1.0, float(weights @ hits))
    parts = mean + len(hits) * weights * (hits - mean)  # their plain mean is the weighted one
    size, n_groups = effective_size(parts, groups)
    if hits.any() and not hits.all():
        size *= mean * (1 - mean) / parts.var()
    lo, hi = map(float, np.asarray(proportion_confint(mean * size, size, method="wilson")))
    return {"accuracy": mean, "ci95": [lo, hi], "ci_method": "wilson-weighted-clustered", "n_groups": n_groups}


def _drops(
    before: np.ndarray, after: np.ndarray, weights: np.ndarray, groups: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Fall of the accuracy, and as a share of the clean one, with bootstrap intervals over images."""
    members = np.unique(groups, return_inverse=True)[1]
    columns = [np.bincount(members, weights * values) for values in (np.ones_like(before), before, after)]
    total_R, before_R, after_R = resampled_totals(np.stack(columns, axis=1)).T
    drop = float(weights @ (before - after))
    absolute = {"value": drop, "ci95": np.quantile((before_R - after_R) / total_R, [0.025, 0.975]).tolist()}
    if not before.any():
        return absolute, None
    some_R = before_R > 0
    quantiles = np.quantile(1 - after_R[some_R] / before_R[some_R], [0.025, 0.975]).tolist()
    return absolute, {"value": drop / float(weights @ before), "ci95": quantiles}
