"""`medr1 data`: read the published formats and bring them into one."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from medr1.cli.data_audit import audit, check_table, stats
from medr1.cli.data_phantom import phantom
from medr1.cli.data_sources import choice_of, download, resize
from medr1.cli.data_split import harden, split

NOTICED = (
    ("burned_in_text", "text burned in", "look for names before you share it"),
    ("text_only", "no picture", "asked as text alone"),
    ("options_that_refer", "options speak of others", "their order is kept everywhere"),
)
"""What `convert` tells of a summary where there is any."""

app = typer.Typer(help="Convert and describe data sets.", no_args_is_help=True)
app.command()(phantom)
app.command()(download)
app.command()(resize)
app.command()(audit)
app.command()(stats)
app.command()(check_table)
app.command()(split)
app.command()(harden)


@app.command()
def sources() -> None:
    """List the formats that `convert` reads."""
    from medr1.data import SOURCES

    table = Table("source", "what it reads", "files", "where from")
    for source in SOURCES.values():
        hub = f"`download {source.name}` ({source.download.repo})" if source.download else ""
        files = " ".join(source.suffixes) or "a folder"
        table.add_row(source.name, source.description, files, "; ".join(filter(None, (hub, source.note))))
    Console().print(table)


@app.command()
def convert(
    path: Annotated[Path, typer.Argument(help="File or folder in one of the formats of `medr1 data sources`.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    source: Annotated[str | None, typer.Option(help="Format; detected from the first record by default.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE: only records with it; again for more values or fields.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS: what the data call a field of the format, e.g. answer=label.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the data's own by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take this many questions, drawn at random under the seed.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    allow_missing_images: Annotated[
        bool, typer.Option("--allow-missing-images", help="Keep only the name of an image that is not there.")
    ] = False,
    allow_text_only: Annotated[
        bool, typer.Option("--allow-text-only", help="Keep questions without a picture, which are refused otherwise.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out records or images that cannot be used, count and name them."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Convert a data set to a parquet folder with its images inside; every image is checked by decoding it.

    It stops at the first record that cannot be used, and then writes nothing, unless --skip-bad is given.
    """
    from medr1.data.convert import Conversion
    from medr1.data.convert import convert as run

    job = Conversion(
        path=path,
        out=out,
        source=source,
        choice=choice_of(where or (), column or ()),
        image_root=image_root,
        limit=limit,
        seed=seed,
        allow_missing_images=allow_missing_images,
        allow_text_only=allow_text_only,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Converting", total=None)
        summary = run(job, lambda done, total: bar.update(task, completed=done, total=total))
    _print_summary(summary, title=out.name, as_json=as_json)
    if not as_json:
        typer.echo(
            f"Wrote {out}. Next: medr1 data stats {out} --out DIR, or medr1 eval CHECKPOINT --data {out} --out DIR"
        )


def _print_summary(summary: dict[str, Any], *, title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table(
        "", "value", "questions", title=f"{escape(title)}: {summary['n']} questions, {summary['num_groups']} groups"
    )
    for name, label in (("by_modality", "modality"), ("by_task", "task"), ("by_num_options", "options")):
        for value, count in summary[name].items():
            table.add_row(label, value, str(count))
            label = ""
        table.add_section()
    if summary.get("missing_images"):
        table.add_row("images missing", "", str(summary["missing_images"]))
    for name, label, hint in NOTICED:
        if summary.get(name):
            table.add_row(label, hint, str(summary[name]))
    left_out = summary["left_out"]
    for name, label in (("withheld", "answer withheld"), ("bad", "cannot be used")):
        if left_out[name]:
            table.add_row("left out", label, str(left_out[name]))
    Console().print(table)
    for message in left_out["first_bad"]:
        typer.echo(f"left out: {message}")
    if left_out["bad"] > len(left_out["first_bad"]):
        typer.echo(f"left out: and {left_out['bad'] - len(left_out['first_bad']):,} more")
