"""`medr1 eval` and `medr1 reasoning`: a checkpoint on a data set, and what its thinking is worth."""

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from medr1.cli.options import print_json, progress, takes
from medr1.eval.settings import EvalSettings, ReasoningSettings

if TYPE_CHECKING:
    from medr1.report.tables import Table


@takes(EvalSettings, prints="results.json")
def evaluate_command(settings: EvalSettings, as_json: bool) -> None:
    """Evaluate a checkpoint: accuracy with intervals, beside chance, blind rules and image controls.

    Called again, it goes on where it stopped.

    \b
    medr1 eval medvlm-r1 --data data/test --out runs/eval
    medr1 eval qwen --engine endpoint --base-url http://127.0.0.1:8000/v1 --data data/test --out runs/eval
    """
    from medr1.eval.files import named, read_failures
    from medr1.flows.engines import as_trained
    from medr1.flows.evaluation import run_eval
    from medr1.report.tables import overview, rich_table

    if settings.engine == "endpoint":
        typer.echo(f"medr1: {settings.told_patience()}", err=True)
    settings = as_trained(settings, lambda line: typer.echo(line, err=True))
    with progress("Evaluating") as show:
        results = run_eval(settings, show)
    if as_json:
        print_json(results)
    else:
        Console().print(rich_table(overview(results, title=str(settings.out))))
    if failures := read_failures(settings.out):
        typer.echo(f"medr1: {len(failures):,} could not be asked and count for nothing ({named(failures)})", err=True)


@takes(ReasoningSettings, prints="reasoning.json")
def reasoning_command(settings: ReasoningSettings, as_json: bool) -> None:
    """Say whether answers follow from their thinking, and whether the thinking speaks about the image.

    Without --interventions nothing is generated. With them, the answer is generated anew after another thinking; called
    again, they go on where they stopped.

    \b
    medr1 reasoning runs/eval
    medr1 reasoning runs/eval --data data/test --interventions own,empty,contradicting
    """
    from medr1.flows.evaluation import run_reasoning
    from medr1.report.tables import rich_table

    if settings.engine == "endpoint":
        typer.echo(f"medr1: {settings.told_patience()}", err=True)
    with progress("Reading") as show:
        result = run_reasoning(settings, lambda what, done, total: show(done, total, what))
    if as_json:
        print_json(result)
        return
    for table in _tables(result, str(settings.run)):
        Console().print(rich_table(table))


def _tables(result: dict[str, Any], title: str) -> "list[Table]":
    return [table for table in (_consistency(result, title), _record(result), _interventions(result)) if table.rows]


def _consistency(result: dict[str, Any], title: str) -> "Table":
    from medr1.eval.reasoning import CONCLUSIONS
    from medr1.report.tables import Table, percent, with_interval

    scores = result["consistency"] or {}
    rows = [
        (name.replace("_", " "), f"{part['n']:,}", with_interval(part, "share"), percent(part["accuracy"]))
        for name, part in scores.items()
        if name in CONCLUSIONS
    ]
    words = result["words"]["all"]
    note = f"{result['n']:,} answers with thinking, {result['without_thinking']:,} without"
    if words is not None:
        note += f"; words: median {words['median']:.0f}, 90 % from {words['q05']:.0f} to {words['q95']:.0f}"
    columns = ("answer and thinking", "n", "share [95 % interval]", "accuracy")
    return Table(title=f"Thinking of {title}", columns=columns, rows=rows, note=f"{note}.")


def _record(result: dict[str, Any]) -> "Table":
    from medr1.report.tables import Table, with_interval

    rows = [
        (name, f"{part['n']:,}", f"{part['named']:,}", with_interval(part["contradicting"], "share"))
        for name, part in result["contradictions"].items()
        if part is not None
    ]
    columns = ("", "record knows it", "named", "contradicting, % [95 % interval]")
    return Table(title="Thinking against the record", columns=columns, rows=rows)


def _interventions(result: dict[str, Any]) -> "Table":
    from medr1.report.tables import Table, percent, with_interval

    rows = [
        (
            name,
            f"{part['n']:,}",
            f"{part['unreadable']:,}",
            with_interval(part.get("changed") or {}, "share"),
            with_interval(part.get("follows") or {}, "share"),
            percent(part.get("original_accuracy")),
            percent(part.get("accuracy")),
        )
        for name, part in result["interventions"].items()
    ]
    columns = ("thinking", "n", "unreadable", "changed, %", "as planted, %", "accuracy", "after")
    note = "Changed: another option than before. As planted: the option that the changed thinking concludes."
    return Table(title="Answers after changed thinking", columns=columns, rows=rows, note=note)
