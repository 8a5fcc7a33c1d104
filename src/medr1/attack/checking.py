"""The checks of an attack run: which samples they run on, and what they are told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from medr1.attack import checks
from medr1.attack.cells import Inputs, first_problem, starts_of
from medr1.attack.checks import CHECKS, Check, not_run
from medr1.attack.craft import ATTACKS, craft
from medr1.attack.problem import RIGHT, Problem
from medr1.attack.stage import Stage
from medr1.attack.store import manifest_lines, pixel_hash, png_name
from medr1.eval.measures import is_right
from medr1.eval.runner import read_predictions
from medr1.records import read_json
from medr1.results.attacked import AttackedImage, CellScores, Crash, Trust
from medr1.results.evaluated import Results

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
        return pixel_hash(by_folder[line.attack.name, line.attack.k] / png_name(line.sample_id))

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
