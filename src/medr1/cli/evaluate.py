"""`medr1 eval` and `medr1 reasoning`: a checkpoint on a data set, and what its thinking is worth."""

import typer
from rich.console import Console

from medr1.cli.options import print_json, progress, takes
from medr1.eval.settings import EvalSettings, ReasoningSettings


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
    from medr1.report.answers import reasoning_tables
    from medr1.report.tables import rich_table

    if settings.engine == "endpoint":
        typer.echo(f"medr1: {settings.told_patience()}", err=True)
    with progress("Reading") as show:
        result = run_reasoning(settings, lambda what, done, total: show(done, total, what))
    if as_json:
        print_json(result)
        return
    for table in reasoning_tables(result, str(settings.run)):
        Console().print(rich_table(table))
