"""`medr1 demo`: the whole pipeline on a laptop."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder of the demo; called again, it goes on where it stopped.")] = Path(
        "runs/demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the reinforcement learning, all reported.")] = 1,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Train a further control on images shuffled between questions.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings that run at once; default: one per two cores' worth.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a demo.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json instead of the table.")] = False,
) -> None:
    """Draw phantoms, train a tiny Qwen2.5-VL to look at them, test it against its blind twin, write a report."""
    from medr1.flows.demo import DemoSettings, run_demo
    from medr1.report.tables import rich_table

    console = Console(stderr=True)
    settings = DemoSettings(out=out, num_seeds=seeds, shuffled=shuffled, workers=workers, overwrite=overwrite)
    summary, table = run_demo(settings, console)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        Console().print(rich_table(table))
        typer.echo(f"Report: {out / 'report.html'}")
