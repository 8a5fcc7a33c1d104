"""What image corruptions cost: a run on the clean images against a run on corrupted copies of them.

Every corrupted answer stands beside the clean one to the same question. As in ImageNet-C (Hendrycks and Dietterich
2019), the means weigh every corruption alike and, within it, every severity, however many questions it has.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medr1.errors import ConfigError, DataError
from medr1.eval.confidence import score_confidence
from medr1.eval.measures import accuracy_of, question_of
from medr1.eval.pairs import changed_share, difference, groups_of, hits, originals
from medr1.eval.reliance import reliance_rows
from medr1.eval.side_by_side import open_runs
from medr1.records import file_hash, read_record
from medr1.results.compared import CalibrationShift, CorruptionMeans, Corruptions, CorruptionScores, Severity, Shift
from medr1.runs import Run, check_finished
from medr1.stats import effective_size, proportion, resampled_totals
from medr1.types import Change, Estimate, Prediction
from medr1.variants.controls import chosen_option
from medr1.variants.corruptions import CORRUPTIONS, parse_variant

PREDICTIONS, RESULTS = "predictions.jsonl", "corruptions.json"
ABOUT_THE_DATA = ("data", "data_hash", "limit")
"""Arguments of an evaluation in which the two runs may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted(Change):
    """The answers to one question on the clean and on a corrupted image."""

    name: str
    severity: int


def compare_corrupted(clean: Path, corrupted: Path, *, out: Path | None, overwrite: bool = False) -> Corruptions:
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
            return read_record(out / RESULTS, Corruptions)
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


def score_corruptions(clean: Sequence[Prediction], corrupted: Sequence[Prediction]) -> Corruptions:
    """Results of a run over corrupted images beside those of the clean run.

    `corrupted` is the mean corruption accuracy and `clean` the mean over the same questions with the same weights;
    `image_reliant` repeats them for the questions whose answer changes under a control of the clean run (None without
    controls). Raises `DataError` where the runs share no question.
    """
    answers = {question_of(p): p for p in originals(clean)}
    pairs, without_clean = [], 0
    for prediction in corrupted:
        parsed, twin = parse_variant(prediction.variant), answers.get(question_of(prediction))
        if parsed is None:
            continue
        if twin is None:
            without_clean += 1
        else:
            pairs.append(Corrupted(before=twin, after=prediction, name=parsed[0], severity=parsed[1]))
    if not pairs:
        raise DataError(
            "the corrupted run has no answer to a question of the clean run; make its data with `medr1 corrupt` from "
            "the data of the clean run"
        )
    reliant = _image_reliant(clean)
    on_reliant = [pair for pair in pairs if question_of(pair.before) in reliant]
    return _means(pairs).extended(
        Corruptions,
        without_clean=without_clean,
        image_reliant=_means(on_reliant) if on_reliant else None,
        corruptions=_by_corruption(pairs),
    )


def _by_corruption(pairs: Iterable[Corrupted]) -> dict[str, CorruptionScores]:
    cells: dict[str, dict[int, list[Corrupted]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        cells[pair.name][pair.severity].append(pair)
    return {
        name: _means([pair for cell in cells[name].values() for pair in cell]).extended(
            CorruptionScores,
            severities={str(severity): _severity(cells[name][severity]) for severity in sorted(cells[name])},
        )
        for name in CORRUPTIONS
        if name in cells
    }


def _severity(pairs: Sequence[Corrupted]) -> Severity:
    """One corruption at one severity."""
    before, after = hits(pairs)
    return Severity(
        n=len(pairs),
        accuracy=accuracy_of([pair.after for pair in pairs]),
        clean=proportion(before, groups_of(pairs)),
        difference=difference(pairs),
        relative_drop=1 - sum(after) / sum(before) if any(before) else None,
        flip_rate=changed_share(pairs),
        unreadable=sum(chosen_option(pair.after) is None for pair in pairs) / len(pairs),
        calibration=_calibration_shift(pairs),
    )


def _calibration_shift(pairs: Sequence[Corrupted]) -> CalibrationShift | None:
    """Calibration error and overconfidence on both images and what the corruption adds; None without probabilities."""
    blocks = [score_confidence([pair.before for pair in pairs]), score_confidence([pair.after for pair in pairs])]
    before, after = (block.options if block else None for block in blocks)
    if before is None or after is None:
        return None

    def shift(clean: float, corrupted: float) -> Shift:
        return Shift(clean=clean, corrupted=corrupted, shift=corrupted - clean)

    return CalibrationShift(
        ece=shift(before.ece, after.ece),
        overconfidence=shift(before.overconfidence, after.overconfidence),
        mean_confidence=shift(before.mean_confidence, after.mean_confidence),
    )


def _image_reliant(clean: Sequence[Prediction]) -> set[tuple[str, int]]:
    """Questions (and draws) of the clean run whose answer changes when their evidence is taken away."""
    controls: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in clean:
        if prediction.variant:
            controls[prediction.variant].append(prediction)
    return {(row.id, row.draw) for row in reliance_rows(originals(clean), controls) if row.reliant}


def _means(pairs: Sequence[Corrupted]) -> CorruptionMeans:
    """Means over corruptions and severities, with intervals by image."""
    weights, groups = _weights(pairs), groups_of(pairs)
    before, after = (np.array(found, dtype=float) for found in hits(pairs))
    drop, relative = _drops(before, after, weights, groups)
    return CorruptionMeans(
        n=len(pairs),
        clean=_weighted_share(before, weights, groups),
        corrupted=_weighted_share(after, weights, groups),
        drop=drop,
        relative_drop=relative,
        flip_rate=changed_share(pairs),
    )


def _weights(pairs: Sequence[Corrupted]) -> np.ndarray:
    """One weight a pair, sum 1: alike for the corruptions, within one for its severities, within one for its pairs."""
    sizes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for pair in pairs:
        sizes[pair.name][pair.severity] += 1
    return np.array([1 / (len(sizes) * len(sizes[p.name]) * sizes[p.name][p.severity]) for p in pairs])


def _weighted_share(right: np.ndarray, weights: np.ndarray, groups: Sequence[str]) -> Estimate:
    """Wilson interval of the number of independent answers that a clustered, weighted share is worth."""
    from statsmodels.stats.proportion import proportion_confint

    mean, n = min(1.0, float(weights @ right)), len(right)
    parts = mean + n * weights * (right - mean)  # their plain mean is the weighted one
    size, n_groups = effective_size(parts, groups)
    if right.any() and not right.all():
        size *= mean * (1 - mean) / parts.var()
    low, high = map(float, np.asarray(proportion_confint(mean * size, size, method="wilson")))
    return Estimate(value=mean, low=low, high=high, n=n, groups=n_groups, method="wilson-weighted-clustered")


def _drops(
    before: np.ndarray, after: np.ndarray, weights: np.ndarray, groups: Sequence[str]
) -> tuple[Estimate, Estimate | None]:
    """Fall of the accuracy, and as a share of the clean one, with bootstrap intervals over images."""
    members = np.unique(groups, return_inverse=True)[1]
    columns = [np.bincount(members, weights * values) for values in (np.ones_like(before), before, after)]
    total_R, before_R, after_R = resampled_totals(np.stack(columns, axis=1)).T

    def estimate(value: float, resampled: np.ndarray) -> Estimate:
        low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
        n_groups = int(members.max()) + 1
        return Estimate(
            value=value, low=low, high=high, n=len(before), groups=n_groups, method="bootstrap-weighted-clustered"
        )

    drop = float(weights @ (before - after))
    absolute = estimate(drop, (before_R - after_R) / total_R)
    if not before.any():
        return absolute, None
    some_R = before_R > 0
    return absolute, estimate(drop / float(weights @ before), 1 - after_R[some_R] / before_R[some_R])
