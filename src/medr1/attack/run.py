"""Every attack at every budget of a job, with the checks, the tables and the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np

from medr1.attack import checks
from medr1.attack.cells import CELL_ERRORS, Inputs, failed_cell, first_problem, run_cell, starts_of, swapped_images
from medr1.attack.checks import CHECKS, Check, not_run
from medr1.attack.craft import ATTACKS, craft
from medr1.attack.problem import RIGHT, Problem
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
from medr1.attack.store import manifest_lines, pixel_hash, png_names
from medr1.data.images import open_image
from medr1.engines.transformers import TransformersEngine
from medr1.errors import DataError
from medr1.eval.measures import is_right
from medr1.eval.runner import read_predictions
from medr1.records import content_hashes, read_json, read_record, short_hash
from medr1.report.attack import Example, attack_report
from medr1.report.html import write_report
from medr1.results.attacked import AttackedImage, Beside, Cell, CellScores, Crash, CrashedCell, Grid, Trust
from medr1.results.evaluated import Results
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
            note=f"{attack.name}, k = {k}, {lines[one.id].adv_png}",
        )
        for one in chosen
    ]


MOST_SURVIVORS = 100
"""Samples that the check with twice the steps attacks again."""


def run_checks(stage: Stage, inputs: Inputs, cells: Mapping[str, CellScores | Crash]) -> dict[str, Check]:
    """All fifteen checks; those that need the model are kept in `checks.json` and run once."""
    path, job = stage.job.out / "checks.json", stage.job
    known = [f"{name}:{cell.k}{':failed' if isinstance(cell, Crash) else ''}" for name, cell in cells.items()]
    known += [f"checks:{job.checks}:{job.check_samples}:{job.square_queries}"]
    if path.exists() and (old := read_json(path))["cells"] == known:
        return {name: Check(**old["checks"][name]) for name in CHECKS}
    found = {**_table_checks(stage, inputs, cells), **_model_checks(stage, inputs, cells)}
    ordered = {name: found[name] for name in CHECKS}
    kept = {"cells": known, "checks": {name: asdict(check) for name, check in ordered.items()}}
    stage.run.write_json(path.name, kept)
    return ordered


def _table_checks(stage: Stage, inputs: Inputs, cells: Mapping[str, CellScores | Crash]) -> dict[str, Check]:
    """Those that read files and tables."""
    lines, curves = [], {}
    for attack, k in stage.job.cells:
        folder = stage.job.folder(attack, k)
        if attack.bounded:
            lines += manifest_lines(folder).values()
    for name, cell in cells.items():
        if isinstance(cell, Crash):
            curves.setdefault(name, {})
        elif ATTACKS[cell.attack].bounded and cell.robust_accuracy is not None:
            curves.setdefault(cell.attack, {})[cell.k] = cell.robust_accuracy.value
    nested = {name: curve for name, curve in curves.items() if name in ATTACKS and ATTACKS[name].nested}
    by_folder = {(one.name, k): stage.job.folder(one, k) for one, k in stage.job.cells}

    def hash_of(line: AttackedImage) -> str:
        folder = by_folder[line.attack.name, line.attack.k]
        return pixel_hash([folder / name for name in png_names(line.sample_id, line.pictures)])

    ran = {name: cell for name, cell in cells.items() if isinstance(cell, CellScores)}
    crashed = [name for name in cells if name not in ran]
    books = checks.bookkeeping(ran, inputs.clean.n_asked)
    if crashed:
        books = Check(status="failed", detail=f"{', '.join(crashed)} ended with an error and has no accuracy")
    return {
        "budget_on_disk": checks.budget_on_disk(lines, hash_of),
        "monotone": checks.monotone(nested),
        "order": checks.order(inputs.clean.results.accuracy.value, curves),
        "bookkeeping": books,
        "oracle": not_run("compared with the adversarial-robustness-toolbox in the tests of medr1"),
        "engines": not_run("needs predictions of a second engine on clean/dataset.parquet"),
    }


def _model_checks(stage: Stage, inputs: Inputs, cells: Mapping[str, CellScores | Crash]) -> dict[str, Check]:
    """Those that run the model, on a few samples that it answers rightly."""
    job, modes, seed = stage.job, stage.modes, stage.job.seed
    names = (
        "preprocessing", "wrapper_logits", "gradient", "zero_budget", "unbounded", "convergence", "black_box",
        "batch_independence", "planted_shortcut",
    )  # fmt: skip
    k = max((cell.k for cell in cells.values() if ATTACKS[cell.attack].bounded), default=0)
    problem = first_problem(stage, inputs, inputs.attacked()[: job.check_samples], k) if job.checks else None
    if problem is None or k == 0:
        reason = "switched off" if not job.checks else "no sample to attack" if problem is None else "no budget"
        return dict.fromkeys(names, not_run(reason))
    few = checks.part(problem, range(min(4, len(problem))))
    steps: list[tuple[str, Callable[[], Check]]] = [
        ("preprocessing", lambda: checks.preprocessing(problem)),
        ("wrapper_logits", lambda: checks.wrapper_logits(problem, modes[0])),
        ("gradient", lambda: checks.gradient(few, modes[0])),
        ("zero_budget", lambda: checks.zero_budget(few, modes, seed)),
        ("unbounded", lambda: _unbounded(stage, inputs)),
        ("convergence", lambda: _convergence(stage, inputs)),
        ("black_box", lambda: _black_box(stage, inputs, k)),
        ("batch_independence", lambda: _batch_independence(few, stage)),
        ("planted_shortcut", lambda: checks.planted_shortcut(problem, modes, seed)),
    ]
    found = {}
    for number, (name, check) in enumerate(steps, start=1):
        stage.progress(f"check: {name.replace('_', ' ')}", number, len(steps))
        found[name] = check()
    return found


def _batch_independence(problem: Problem, stage: Stage) -> Check:
    if len(problem) < 2:
        return not_run("one sample to attack has no others beside it")
    return checks.batch_independence(problem, stage.modes, stage.job.seed, replace(ATTACKS["pgd"], steps=4, refresh=2))


def _unbounded(stage: Stage, inputs: Inputs) -> Check:
    reliant = [one for one in inputs.attacked() if one.id in inputs.clean.reliant][: 2 * stage.job.check_samples]
    problem = first_problem(stage, inputs, reliant, 1)
    if problem is None:
        return not_run("no right answer depends on the image")
    return checks.unbounded(problem, stage.modes, stage.job.seed, starts_of(problem, inputs, None))


def _black_box(stage: Stage, inputs: Inputs, k: int) -> Check:
    """At a third of the largest budget, where something may survive the gradient that random search finds."""
    few = inputs.attacked()[: stage.job.check_samples]
    problem = first_problem(stage, inputs, few, max(1, k // 3))
    assert problem is not None
    starts = starts_of(problem, inputs, None)
    white_box = craft(problem, ATTACKS["pgd"], stage.modes, seed=stage.job.seed, starts=starts)
    return checks.black_box(problem, stage.modes, stage.job.seed, stage.job.square_queries, white_box)


def _convergence(stage: Stage, inputs: Inputs) -> Check:
    """9: twice the steps on what survived the strongest cell."""
    searches = [(attack, k) for attack, k in stage.job.cells if attack.kind == "ascent"]
    if not searches:
        return not_run("no iterative attack in this run")
    attack, k = searches[-1]
    folder = stage.job.folder(attack, k)
    alive = {p.id for p in read_predictions(folder) if is_right(p)}
    survivors = [one for one in inputs.attacked() if one.id in alive]
    problem = first_problem(stage, inputs, survivors[:MOST_SURVIVORS], k)
    if problem is None:
        return checks.verdict(True, f"nothing survives {attack.name} at k = {k}")
    longer = replace(attack, steps=2 * attack.steps)
    best = craft(problem, longer, stage.modes, seed=stage.job.seed + 1, starts=starts_of(problem, inputs, folder))
    found = len(problem) - best.rank_N.count(RIGHT)
    lost = found / len(problem) * len(survivors) / inputs.clean.n_asked
    detail = f"{2 * attack.steps} steps instead of {attack.steps} cost {100 * lost:.1f} points more at k = {k}"
    return checks.verdict(lost < checks.POINTS, detail)


def trust(found: Mapping[str, Check], clean: Results) -> Trust:
    """The outcome of the checks for `attack.json`: nothing can be lost of a clean accuracy that is no measurement."""
    return Trust(
        checks={name: check.status for name, check in found.items()},
        check_details={name: check.detail for name, check in found.items()},
        trustworthy=checks.trustworthy(found) and not clean.void,
    )


def reasons(found: Mapping[str, Check], clean: Results) -> Sequence[str]:
    """Why a run is not trustworthy; empty where it is."""
    required = checks.REQUIRED
    return [f"clean {item.what}: {item.why}" for item in clean.void or ()] + [
        f"{name}: {check.detail}"
        for name, check in found.items()
        if check.status == "failed" or (check.status == "not_run" and name in required)
    ]
