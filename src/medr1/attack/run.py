"""Every attack at every budget of a job, with the checks, the tables and the page."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from medr1.attack.cells import CELL_ERRORS, Inputs, failed_cell, run_cell, swapped_images
from medr1.attack.checking import reasons, run_checks, trust
from medr1.attack.stage import (
    AttackJob,
    Progress,
    Stage,
    attack_settings,
    clean_run,
    load_masks,
    open_run,
    with_images,
)
from medr1.attack.store import manifest_lines, png_name
from medr1.data.images import open_image
from medr1.engines.transformers import TransformersEngine
from medr1.errors import DataError
from medr1.eval.measures import is_right
from medr1.eval.runner import read_predictions
from medr1.records import content_hashes, read_record, short_hash
from medr1.report.attack import Example, attack_report
from medr1.report.html import write_report
from medr1.results.attacked import Beside, Cell, CellScores, Crash, CrashedCell, Grid
from medr1.stats import holm
from medr1.types import Sample

GRID = "grid.json"
GALLERY = 8
"""Examples on the page."""


def run_attack(
    job: AttackJob,
    samples: Sequence[Sample],
    engine: TransformersEngine,
    *,
    train_samples: Sequence[Sample] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Grid:
    """What `grid.json` holds; a single attack's `attack.json` is its cell.

    Raises `ConfigError` for a folder of another run and `DataError` for samples that cannot be attacked. A cell that
    crashes is a cell with an error and without an accuracy.
    """
    if not samples:
        raise DataError("there is no sample to attack; check the data and --limit")
    masks = load_masks(job, samples)
    asked = {
        "cells": job.cell_names,
        "attacks": attack_settings(job),
        "checks": [job.check_samples, job.square_queries] if job.checks else None,
        "train_data": None if train_samples is None else short_hash(content_hashes(train_samples)),
    }
    with open_run(job, engine, samples, masks) as run:
        if run.done and run.holds(asked):
            return read_record(job.out / GRID, Grid)
        run.start(**asked)
        return _attacked(Stage(job, run, engine, progress), samples, train_samples, masks)


def _attacked(
    stage: Stage,
    samples: Sequence[Sample],
    train_samples: Sequence[Sample] | None,
    masks: Mapping[str, np.ndarray] | None,
) -> Grid:
    """Do what is left to do, and write the results."""
    job, run = stage.job, stage.run
    clean = clean_run(stage, samples, train_samples)
    inputs = Inputs(clean=clean, masks=masks, swapped=swapped_images(stage, clean))
    cells = _run_cells(stage, inputs)
    noise = _noise_controls(stage, inputs, cells)
    found = run_checks(stage, inputs, cells)
    errors = _errors(cells)
    if not errors:
        run.reach("whole")
    p_values = adjusted(cells)
    trusted = trust(found, clean.results)
    whole = {}
    for (attack, k), (name, cell) in zip(job.cells, cells.items(), strict=True):
        beside = trusted.extended(Beside, noise_control_accuracy=noise.get(k), mcnemar_p_holm=p_values.get(name))
        whole[name] = cell.extended(CrashedCell if isinstance(cell, Crash) else Cell, **dict(beside))
        run.write_json(stage.name(job.folder(attack, k) / "attack.json"), whole[name])
    result = trusted.extended(
        Grid,
        n=clean.n_asked,
        clean=clean.results,
        native_clean_accuracy=clean.native_accuracy,
        noise_floor=clean.noise_floor,
        image_reliant=len(clean.reliant),
        failures=dict(clean.failures),
        cells=whole,
        area_under_curve=_areas(clean.results.accuracy.value, cells),
        reasons=list(reasons(found, clean.results)),
    )
    run.write_json(GRID, result)
    facts = {"failures": result.failures, "errors": errors}
    made_by = run.manifest.noting(**facts).model_dump(exclude={"state", "seconds"}, exclude_unset=True)
    with run.tree() as aside:
        write_report(aside / "attack.html", attack_report(result, _examples(stage, clean.samples), made_by))
    if errors:
        run.start(**facts)  # the same command tries again what crashed
    else:
        run.reach("done", **facts)
    return result


def _run_cells(stage: Stage, inputs: Inputs) -> dict[str, CellScores | Crash]:
    """The cells by name; each search starts from the next smaller budget of the same attack."""
    cells: dict[str, CellScores | Crash] = {}
    smaller = {}
    for (attack, k), name in zip(stage.job.cells, stage.job.cell_names, strict=True):
        folder = stage.job.folder(attack, k)
        try:
            cells[name] = run_cell(stage, inputs, attack, k, smaller.get(attack.name) if attack.nested else None)
            smaller[attack.name] = folder
        except CELL_ERRORS as error:
            cells[name] = failed_cell(attack, k, error)
    return cells


def _noise_controls(stage: Stage, inputs: Inputs, cells: Mapping[str, CellScores | Crash]) -> dict[int, float | None]:
    """Accuracy under random noise of every budget that the run has; a single attack brings its own control."""
    known = {cell.k: _robust(cell) for cell in cells.values() if cell.attack == "noise"}
    (attack, k) = stage.job.cells[0]
    if len(cells) == 1 and attack.bounded and not known:
        control = stage.noise_control()
        known[k] = _robust(run_cell(control, inputs, control.job.attacks[0], k, None))
    return known


def _robust(cell: CellScores | Crash) -> float | None:
    return None if isinstance(cell, Crash) or cell.robust_accuracy is None else cell.robust_accuracy.value


def _errors(cells: Mapping[str, CellScores | Crash]) -> dict[str, str]:
    return {name: cell.error for name, cell in cells.items() if isinstance(cell, Crash)}


def adjusted(cells: Mapping[str, CellScores | Crash]) -> dict[str, float]:
    """McNemar's p of every cell of a grid, corrected for their number (Holm)."""
    found = {name: cell.mcnemar_p for name, cell in cells.items() if isinstance(cell, CellScores)}
    return dict(zip(found, holm(list(found.values())), strict=True))


def _areas(clean: float, cells: Mapping[str, CellScores | Crash]) -> dict[str, float | None]:
    curves: dict[str, dict[int, float]] = {}
    for cell in cells.values():
        robust = _robust(cell)
        if robust is not None and isinstance(cell, CellScores) and cell.norm != "none":
            curves.setdefault(cell.attack, {0: clean})[cell.k] = robust
    return {name: area_under_curve(curve) for name, curve in curves.items()}


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


def _examples(stage: Stage, clean: Sequence[Sample]) -> list[Example]:
    """Answers that the strongest cell changed, with clean and adversarial image, one modality after the other."""
    job = stage.job
    attack, k = next((cell for cell in reversed(job.cells) if cell[0].kind != "typographic"), job.cells[-1])
    folder = job.folder(attack, k)
    before = {p.id: p for p in read_predictions(job.out / "clean") if p.variant == ""}
    after = {p.id: p for p in read_predictions(folder)}
    lines = manifest_lines(folder)
    lost = [
        one
        for one in clean
        if one.id in after and lines[one.id].attacked and is_right(before[one.id]) and not is_right(after[one.id])
    ]
    first = {one.modality: one for one in reversed(lost)}
    chosen = [*first.values(), *(one for one in lost if first[one.modality].id != one.id)][:GALLERY]
    return [
        Example(
            sample=one,
            clean=open_image(one.images[0]),
            attacked=open_image(with_images([one], folder)[0].images[0]),
            before=before[one.id].completion,
            after=after[one.id].completion,
            answer=after[one.id].answer,
            note=f"{attack.name}, k = {k}, {(folder / png_name(one.id)).name}",
        )
        for one in chosen
    ]
