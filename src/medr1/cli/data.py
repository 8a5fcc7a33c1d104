"""`medr1 data`: read the published formats and bring them into one."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medr1.cli.data_audit import audit, check_table, stats
from medr1.cli.data_phantom import phantom
from medr1.cli.data_sources import download, resize
from medr1.cli.data_split import harden, split
from medr1.cli.options import print_json, progress, takes
from medr1.data.settings import ConvertSettings

NOTICED = (
    ("burned_in_text", "text burned in", "look for names before you share it"),
    ("unfit_pictures", "pictures unfit", "no Qwen-VL takes them"),
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
@takes(ConvertSettings, prints="the counts")
def convert(settings: ConvertSettings, as_json: bool) -> None:
    """Convert a data set to a parquet folder with its images inside; every image is checked by decoding it.

    It stops at the first record that cannot be used, and then writes nothing, unless --skip-bad is given.

    \b
    medr1 data convert downloads/slake --source slake --where q_lang=en --out data/slake
    medr1 data convert questions.csv --column answer=label --image-root pictures --out data/mine
    """
    from medr1.data.convert import Conversion
    from medr1.data.convert import convert as run
    from medr1.data.source import Choice

    job = Conversion(
        path=settings.path,
        out=settings.out,
        source=settings.source,
        choice=Choice(where=settings.wanted, columns=settings.columns),
        image_root=settings.image_root,
        limit=settings.limit,
        seed=settings.seed,
        allow_missing_images=settings.allow_missing_images,
        allow_text_only=settings.allow_text_only,
        skip_bad=settings.skip_bad,
        overwrite=settings.overwrite,
    )
    with progress("Converting") as show:
        summary = run(job, show)
    _print_summary(summary, title=settings.out.name, as_json=as_json)
    if not as_json:
        out = settings.out
        typer.echo(
            f"Wrote {out}. Next: medr1 data stats {out} --out DIR, or medr1 eval CHECKPOINT --data {out} --out DIR"
        )


def _print_summary(summary: dict[str, Any], *, title: str, as_json: bool) -> None:
    if as_json:
        print_json(summary)
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
    named = summary.get("first_unfit", [])
    for message in named:
        typer.echo(f"unfit for Qwen-VL: {message}; cut or pad the picture, or leave the record out")
    if summary.get("unfit_pictures", 0) > len(named):
        typer.echo(f"unfit for Qwen-VL: and {summary['unfit_pictures'] - len(named):,} more")
    for message in left_out["first_bad"]:
        typer.echo(f"left out: {message}")
    if left_out["bad"] > len(left_out["first_bad"]):
        typer.echo(f"left out: and {left_out['bad'] - len(left_out['first_bad']):,} more")
