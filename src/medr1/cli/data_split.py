"""`medr1 data split` and `medr1 data harden`: splits that do not leak, questions that cannot be answered blind."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table


class Axis(StrEnum):
    """How the two halves of a split are cut into folders."""

    MODALITY = "modality"
    TASK = "task"
    SOURCE = "source"
    NONE = "none"


Data = Annotated[Path, typer.Argument(help="Folder that `convert` wrote, or any other parquet folder of samples.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


def split(
    data: Data,
    out: Out,
    by: Annotated[Axis, typer.Option(help="Cut train and test into one folder for each of these.")] = Axis.NONE,
    test_share: Annotated[float, typer.Option(help="Share of the questions that go to test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the order in which groups are assigned.")] = 0,
    series_gap: Annotated[int, typer.Option(help="Largest step between the numbers of slices of one series.")] = 10,
    series_max: Annotated[int, typer.Option(help="Most images of one series.")] = 50,
    published: Annotated[bool, typer.Option("--published", help="Write the published split as it is.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Split by whole groups (image, series, patient), the same way on every axis, so that nothing leaks into test."""
    from medr1.data.splits import Split
    from medr1.data.splits import split as run

    job = Split(
        data=data,
        out=out,
        by=by.value,
        test_share=test_share,
        seed=seed,
        gap=series_gap,
        largest=series_max,
        published=published,
        overwrite=overwrite,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Splitting", total=None)
        summary = run(job, lambda step, done: bar.update(task, description=step, completed=done))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table("part", "questions", title=f"{escape(out.name)}: {summary['n']} questions")
    for name, count in summary["parts"].items():
        table.add_row(escape(name), str(count))
    table.add_section()
    for name, count in summary["overlaps"].items():
        table.add_row(f"test questions whose {name} is in train", "not known" if count is None else str(count))
    for name in ("num_groups", "largest_group", "series_neighbours"):
        if name in summary:
            table.add_row(name.replace("_", " "), str(summary[name]))
    Console().print(table)


def harden(
    data: Data,
    out: Out,
    train: Annotated[
        Path | None, typer.Option(help="Training set to fit blind rules on: adds their scores and `controlled`.")
    ] = None,
    options: Annotated[int, typer.Option(help="Most options of a question.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the blocks and of the order of their options.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild questions so that no rule over their text beats chance; the original stays beside each."""
    from medr1.data.harden import Hardening
    from medr1.data.harden import harden as run

    job = Hardening(data=data, out=out, train=train, size=options, seed=seed, overwrite=overwrite)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Hardening", total=None)
        summary = run(job, lambda step, done: bar.update(task, description=step, completed=done))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    kept = f"{summary['kept']} of {summary['n']} questions kept ({summary['kept_share']:.1%})"
    table = Table("", "questions", title=f"{escape(out.name)}: {kept}")
    for reason, count in summary["left_out"].items():
        table.add_row(f"left out: {reason}", str(count))
    for size, count in summary["blocks_by_size"].items():
        table.add_row(f"in blocks of {size}", str(int(size) * count))
    if "controlled" in summary:
        table.add_row("original questions that no blind rule answers", str(summary["controlled"]["n"]))
    Console().print(table)
    if "blind" in summary:
        Console().print(_blind_table(summary["blind"]))


def _blind_table(blind: dict[str, dict[str, float]]) -> Table:
    table = Table("accuracy without the image (%)", *(name.replace("_", " ") for name in blind))
    for rule in next(iter(blind.values())):
        table.add_row(
            rule.replace("_", " "), *(f"{100 * scores[rule]:.1f}" if scores else "" for scores in blind.values())
        )
    return table
