"""`medr1 demo`: the whole pipeline on a laptop."""

import typer
from rich.console import Console

from medr1.cli.options import print_json, takes
from medr1.flows.settings import DemoSettings


@takes(DemoSettings, prints="summary.json")
def demo_command(settings: DemoSettings, as_json: bool) -> None:
    """Draw phantoms, train a tiny Qwen2.5-VL to look at them, test it against its blind twin, write a report.

    \b
    medr1 demo
    medr1 demo --num-seeds 3 --shuffled --out runs/demo3
    """
    from medr1.flows.demo import run_demo
    from medr1.report.tables import rich_table

    summary, table = run_demo(settings, Console(stderr=True))
    if as_json:
        print_json(summary)
    else:
        Console().print(rich_table(table))
        typer.echo(f"Report: {settings.out / 'report.html'}")
