"""`medr1 verify`: whether stored numbers follow from the answers that they are about."""

from dataclasses import asdict

import typer
from rich.console import Console

from medr1.cli.options import print_json, takes
from medr1.eval.settings import VerifySettings

SHOWN = 20
"""Differences that are printed; --json prints all."""


@takes(VerifySettings, prints="JSON")
def verify_command(settings: VerifySettings, as_json: bool) -> None:
    """Compute every number of results.json or rescore.json again from the completions, and say what differs.

    Completions and a judge's replies are read again as well. The exit code is 1 if anything differs.

    \b
    medr1 verify runs/eval
    medr1 verify runs/rescored --data questions.tsv
    """
    from medr1.flows.stored import run_verify

    found = run_verify(settings)
    if as_json:
        print_json(asdict(found))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for line in found.differing[:SHOWN]:
            console.print(line, style="red")
        if len(found.differing) > SHOWN:
            console.print(f"and {len(found.differing) - SHOWN:,} more; --json lists them")
        for path in found.unchecked:
            option = "--data and, where a text prior was fitted, --train-data"
            console.print(f"not checked: {path} (needs {option})", style="yellow")
        verdict = f"{len(found.differing):,} differ" if found.differing else "all as stored"
        console.print(f"{settings.run}: {found.checked:,} values computed again, {verdict}")
    if found.differing:
        raise typer.Exit(1)
