"""`medr1 verify`: whether the numbers of a stored evaluation follow from its answers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

SHOWN = 20
"""Differences that are printed; --json prints all."""


def verify_command(
    run: Annotated[Path, typer.Argument(help="Folder that `medr1 eval` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="The evaluated samples; by default where the manifest says, if they are there.")
    ] = None,
    train_data: Annotated[Path | None, typer.Option(help="Samples that the text prior was fitted on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Compute every number of results.json again from predictions.jsonl and manifest.json, and say what differs.

    Completions are read again as well. The exit code is 1 if anything differs.
    """
    from medr1.eval.verify import verify

    found = verify(run, data, train_data)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for line in found.differing[:SHOWN]:
            console.print(line, style="red")
        if len(found.differing) > SHOWN:
            console.print(f"and {len(found.differing) - SHOWN:,} more; --json lists them")
        for path in found.unchecked:
            option = "--train-data (and --data)" if path == "blind.text_prior" else "--data"
            console.print(f"not checked: {path} (needs {option})", style="yellow")
        verdict = f"{len(found.differing):,} differ" if found.differing else "all as stored"
        console.print(f"{run}: {found.checked:,} values computed again, {verdict}")
    if found.differing:
        raise typer.Exit(1)
