"""`medr1 data audit`, `stats` and `check-table`: what a split, a data set or a published table is worth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from medr1.diagnosis import FAIL, NOT_CHECKED, PASS, WARN

if TYPE_CHECKING:
    from medr1.report.tables import Table

Source = Annotated[str | None, typer.Option(help="Format of the data; detected by default.")]
ImageRoot = Annotated[
    Path | None, typer.Option(help="Folder that image paths are relative to; the data's own by default.")
]
TextOnly = Annotated[bool, typer.Option("--text-only", help="Leave the image files alone.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
COLOURS = {FAIL: "bold red", WARN: "yellow", NOT_CHECKED: "yellow", PASS: "green"}


def audit(
    train: Annotated[Path, typer.Argument(help="Training questions: converted folder, or any source file or folder.")],
    test: Annotated[Path, typer.Argument(help="Test questions, in the same ways.")],
    out: Annotated[Path, typer.Option(help="Folder for audit.json and audit.html.")],
    source: Source = None,
    image_root: ImageRoot = None,
    text_only: TextOnly = False,
    seed: Annotated[int, typer.Option(help="Seed of the learning curve and of the linear text model.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Say what a split leaks from train to test, and how far one gets on it without looking at an image."""
    from medr1.flows.audit import AuditJob, run_audit
    from medr1.report.audit import overview

    job = AuditJob(
        train=train,
        test=test,
        out=out,
        source=source,
        image_root=image_root,
        with_images=not text_only,
        seed=seed,
        overwrite=overwrite,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading", total=None)
        result = run_audit(job, lambda what, done: bar.update(task, description=f"{what} ({done:,})"))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    _print_table(overview(result))
    _print_verdicts(result["verdicts"])


def stats(
    path: Annotated[Path, typer.Argument(help="Converted folder, or any source file or folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for stats.json and pictures.png, a wall of images.")] = None,
    source: Source = None,
    image_root: ImageRoot = None,
    text_only: TextOnly = False,
    seed: Annotated[int, typer.Option(help="Seed of the pictures on the wall.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Describe a data set: counts, image sizes, text lengths, options, and a wall of its pictures."""
    from medr1.flows.audit import StatsJob, run_stats

    job = StatsJob(
        path=path,
        out=out,
        source=source,
        image_root=image_root,
        with_images=not text_only,
        seed=seed,
        overwrite=overwrite,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading", total=None)
        result = run_stats(job, lambda what, done: bar.update(task, description=f"{what} ({done:,})"))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print_table(_stats_table(result, str(path)))


def check_table(
    path: Annotated[
        Path,
        typer.Argument(
            help="CSV or JSON: columns model, test, accuracy, n; or one row a model, one column a test, and a row n."
        ),
    ],
    n: Annotated[int | None, typer.Option(min=1, help="Questions behind each figure where the table has no n.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the accuracies of a published table: is each some k / n, do the averages follow, what can n show?"""
    from medr1.data.check_table import check_table as check

    result = check(path, n)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    _print_table(_figures_table(result, path.name))
    _print_verdicts(result["verdicts"])


def _print_table(table: "Table") -> None:
    from medr1.report.tables import rich_table

    Console().print(rich_table(table))


def _print_verdicts(lines: list[str]) -> None:
    console = Console()
    for line in lines:
        level = line.partition(":")[0]
        console.print(Text.assemble((level, COLOURS[level]), line.removeprefix(level)))


def _stats_table(result: dict[str, Any], title: str) -> "Table":
    from medr1.report.tables import Table

    axes = {"by_modality": "modality", "by_task": "task", "by_source": "source", "by_num_options": "options"}
    rows = [
        (f"{label}: {value}", f"{count:,}") for name, label in axes.items() for value, count in result[name].items()
    ]
    images, options = result["images"], result["options"]
    rows += [(f"image size: {size}", f"{count:,}") for size, count in images["commonest_sizes"].items()]
    rows += [(f"right letter: {letter}", f"{count:,}") for letter, count in options["gold_letters"].items()]
    for label, lengths in (("question", result["questions"]["length"]), ("option", options["length"])):
        if lengths is not None:
            rows.append((f"{label} length: median (max)", f"{lengths['median']:.0f} ({lengths['max']:.0f})"))
    note = (
        f"{result['n']:,} questions, {result['num_groups']:,} groups; {images['distinct']:,} images, "
        f"{images['missing']:,} of them not there."
    )
    return Table(title=title, columns=("", "questions"), rows=rows, note=note)


def _figures_table(result: dict[str, Any], title: str) -> "Table":
    from medr1.report.tables import NONE, Table, percent

    answers = {True: "yes", False: "NO", None: NONE}
    rows = []
    for item in result["figures"]:
        ci, k = item["ci95"], item["k"]
        rows.append(
            (
                f"{item['model']} · {item['test']}",
                item["printed"],
                NONE if item["n"] is None else f"{item['n']:,}",
                answers[item["possible"]],
                NONE if k is None else "–".join(map(str, dict.fromkeys(k))),
                NONE if ci is None else f"{percent(ci[0])} to {percent(ci[1])}",
                f"+{percent(item['detectable_gain'])} / -{percent(item['detectable_loss'])}",
            )
        )
    columns = ("", "printed", "n", "k / n?", "k", "95 % interval", "detectable (points)")
    note = "Detectable: the difference that two runs on n questions each show with 80 % power at alpha 0.05."
    return Table(title=title, columns=columns, rows=rows, note=note)
