"""`medr1 doctor`: what is installed here, or what is wrong with a training run or an evaluation."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medr1.cli.options import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medr1.diagnosis import LogLine, Watch
    from medr1.records import Manifest


def doctor_command(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a training run or an evaluation; none: this machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Say what a training run or an evaluation suffers from; without RUN, what this machine has.

    \b
    medr1 doctor
    medr1 doctor runs/grpo
    """
    if run is None:
        _machine(as_json)
        return
    _examine(run, as_json)


def _machine(as_json: bool) -> None:
    """What is here, what is missing, and what to type for it."""
    from medr1.flows.machine import examine
    from medr1.report.tables import NONE, rich_table
    from medr1.report.tables import Table as Cells

    machine = examine()
    if as_json:
        print_json(machine)
        return
    rows = [(check.name, check.found or NONE, check.wanted, check.verdict) for check in machine.checks]
    about = f"medr1 {machine.medr1}, {machine.platform}, {machine.cpu_count} cores, {machine.gpu or 'no GPU'}"
    Console().print(rich_table(Cells(title=about, columns=("", "found", "wanted", "verdict"), rows=rows)))
    for check in machine.checks:
        if check.mend is not None:
            typer.echo(f"{check.name}: {check.mend}")


def _examine(run: Path, as_json: bool) -> None:
    from medr1.diagnosis import RULES, watched
    from medr1.errors import DataError
    from medr1.records import Manifest, read_jsonl, read_record

    log = run / "train_log.jsonl"
    if not log.is_file() and (run / "results.json").is_file():
        _examine_evaluation(run, as_json)
        return
    if not log.is_file():
        raise DataError(
            f"{run} is no training run and no evaluation: it has no train_log.jsonl and no results.json; "
            "name the --output_dir of a training or the --out of `medr1 eval`"
        )
    records = read_jsonl(log)
    path = run / "manifest.json"
    manifest = read_record(path, Manifest) if path.is_file() else Manifest()
    watch = watched(records)
    facts, not_checked = _facts(manifest, records), watch.not_checked()
    if as_json:
        failed = {finding.name for finding in watch.findings}
        outcome = {name: "failed" if name in failed else "passed" for name in RULES}
        report = {
            "run": facts,
            "findings": [asdict(finding) for finding in watch.findings],
            "checks": outcome | dict.fromkeys(not_checked, "not_checked"),
            "not_checked": not_checked,
            "rewards": watch.rewards(),
        }
        typer.echo(json.dumps(report, indent=2))
        return
    _show(run, facts, watch)


def _examine_evaluation(run: Path, as_json: bool) -> None:
    """What of the numbers of an evaluation cannot mean anything."""
    from medr1.records import as_json as written
    from medr1.records import read_record
    from medr1.results.evaluated import Results

    void = read_record(run / "results.json", Results).void
    if as_json:
        checks = {"void": "not_checked" if void is None else "failed" if void else "passed"}
        typer.echo(written({"checks": checks, "void": void}, indent=2))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for item in void or ():
        console.print(f"void: {item.what}: {item.why}", style="bold red")
    if void is None:
        console.print(f"Not checked: {run} was evaluated by a version that did not ask; call `medr1 rescore {run}`.")
    elif not void:
        console.print(f"{run}: no number is void by the rules of medr1.diagnosis.")


def _facts(manifest: "Manifest", records: "Sequence[LogLine]") -> dict[str, object]:
    """What a reader of the findings must know of the run."""
    rewards = [record["reward"] for record in records if "reward" in record]
    return {
        "model": _argument(manifest, "model", "model_name_or_path"),
        "prompt": _argument(manifest, "script", "prompt"),
        "learning_rate": _argument(manifest, "trainer", "learning_rate"),
        "questions": manifest.facts.get("num_samples"),
        "prompts_too_long": manifest.facts.get("prompts_too_long"),
        "steps": max((record.get("step", 0) for record in records), default=0),
        "first_reward": rewards[0] if rewards else None,
        "last_reward": rewards[-1] if rewards else None,
    }


def _argument(manifest: "Manifest", kind: str, name: str) -> object:
    of_kind = manifest.arguments.get(kind)
    return of_kind.get(name) if isinstance(of_kind, dict) else None


def _show(run: Path, facts: dict[str, object], watch: "Watch") -> None:
    from medr1.diagnosis import RULES

    console = Console()
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in facts.items()}
    known = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items() if value is not None)
    console.print(f"{run}: {known}", highlight=False, markup=False)
    if rewards := watch.rewards():
        table = Table("reward", "first", "last", "verdict")
        for name, found in rewards.items():
            table.add_row(Text(name), f"{found['first']:.3f}", f"{found['last']:.3f}", found["verdict"])
        console.print(table)
    not_checked = watch.not_checked()
    if watch.findings:
        table = Table("finding", "since step", "seen", "what is wrong", "what to try")
        for finding in watch.findings:
            name = Text(f"{finding.name} ({finding.severity})")
            table.add_row(name, str(finding.step), finding.figure, finding.problem, finding.remedy)
        console.print(table)
    elif len(not_checked) == len(RULES):
        console.print("Too short to judge: no rule of medr1.diagnosis could be applied.", highlight=False)
    else:
        judged = len(RULES) - len(not_checked)
        console.print(f"Nothing is wrong by {judged} of the {len(RULES)} rules of medr1.diagnosis.", highlight=False)
    if not_checked:
        told = "; ".join(f"{name}: {reason}" for name, reason in not_checked.items())
        console.print(f"Not checked: {told}.", highlight=False, markup=False)
