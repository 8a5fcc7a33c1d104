"""`medr1 compare`: stored evaluations side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medr1.errors import ConfigError


def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `medr1 eval` wrote; the first is the reference.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, which also lists what flipped.")] = None,
    blind_twin: Annotated[
        Path | None, typer.Option(help="Evaluation of a model trained on blank images, shown as a column.")
    ] = None,
    across: Annotated[
        str, typer.Option(help="What the runs may differ in, comma-separated: protocol, data, backend.")
    ] = "",
    by: Annotated[
        str, typer.Option(help="Parts to compare as well, comma-separated: modality, task, source, num_options.")
    ] = "modality,task",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json instead of the tables.")] = False,
) -> None:
    """Compare runs on the questions that all of them answered: paired tests, ranks with ties, where gains came from.

    P-values are adjusted by Holm's method; runs that they cannot tell apart share a range of ranks.
    """
    from medr1.eval.side_by_side import compare_runs
    from medr1.report.side_by_side import all_tables
    from medr1.report.tables import rich_table

    if len(runs) < 2:
        raise ConfigError(f"one run ({runs[0]}) has nothing to be compared with; name at least two")
    compared = compare_runs(
        runs,
        out=out,
        blind_twin=blind_twin,
        across=[name for name in across.split(",") if name],
        axes=[name for name in by.split(",") if name],
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(json.dumps(compared, indent=2))
        return
    console = Console()
    for table in all_tables(compared):
        console.print(rich_table(table))
