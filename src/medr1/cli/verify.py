"""`medr1 verify`: whether stored numbers follow from the answers that they are about."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.eval.verify import Verification

SHOWN = 20
"""Differences that are printed; --json prints all."""


def verify_command(
    run: Annotated[Path, typer.Argument(help="Folder that `medr1 eval` or `medr1 rescore` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="The evaluated samples; by default where the manifest says, if they are there.")
    ] = None,
    train_data: Annotated[Path | None, typer.Option(help="Samples that the text prior was fitted on.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="The completions that `medr1 rescore` scored; by default where the manifest says."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Compute every number of results.json or rescore.json again from the completions, and say what differs.

    Completions and a judge's replies are read again as well. The exit code is 1 if anything differs.
    """
    found = _found(run, data, train_data, predictions)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
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
        console.print(f"{run}: {found.checked:,} values computed again, {verdict}")
    if found.differing:
        raise typer.Exit(1)


def _found(run: Path, data: Path | None, train_data: Path | None, predictions: Path | None) -> "Verification":
    """What the check of the folder finds; of both files where it was evaluated and rescored into one."""
    from medr1.eval.verify import Verification, verify
    from medr1.eval.verify_rescored import FILE, verify_rescored

    rescored = (run / FILE).exists()
    if predictions is not None and not rescored:
        raise ConfigError(f"--predictions is for what `medr1 rescore` wrote, and {run} holds no {FILE}; leave it out")
    found = []
    if not rescored or (run / "results.json").exists():
        found.append(verify(run, data, train_data))
    if rescored:
        found.append(verify_rescored(run, predictions, data, train_data))
    return Verification(
        checked=sum(one.checked for one in found),
        differing=[line for one in found for line in one.differing],
        unchecked=[path for one in found for path in one.unchecked],
    )
