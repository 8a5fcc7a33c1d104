"""`medr1 data`: make, fetch, convert, split, harden, audit and describe data sets, and check published tables."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medr1.cli.options import Then, note, print_json, progress, takes
from medr1.data.settings import (
    AuditSettings,
    CheckTableSettings,
    ConvertSettings,
    DownloadSettings,
    HardenSettings,
    PhantomSettings,
    ResizeSettings,
    SplitSettings,
    StatsSettings,
)
from medr1.diagnosis import FAIL, NOT_CHECKED, PASS, WARN

if TYPE_CHECKING:
    from medr1.data.check_table import CheckedTable
    from medr1.data.convert import Converted
    from medr1.report.tables import Table as Page
    from medr1.results.audited import Described

COLOURS = {FAIL: "bold red", WARN: "yellow", NOT_CHECKED: "yellow", PASS: "green"}

app = typer.Typer(help="Convert and describe data sets.", no_args_is_help=True)


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
@takes(
    ConvertSettings,
    prints="the counts",
    then=Then(next="medr1 data stats {out} --out DIR, or medr1 eval MODEL --data {out} --out DIR"),
)
def convert(settings: ConvertSettings, as_json: bool) -> None:
    """Convert a data set to a parquet folder with its images inside; every image is checked by decoding it.

    It stops at the first record that cannot be used, and then writes nothing, unless --skip-bad is given.

    \b
    medr1 data convert downloads/slake --source slake --where q_lang=en --out data/slake
    medr1 data convert questions.csv --column answer=label --image-root pictures --out data/mine
    medr1 data convert scans --slices uniform/8 --plane axial --window lung --out data/scans
    """
    from medr1.data.convert import convert as run

    with progress("Converting") as show:
        summary = run(settings, show)
    _print_summary(summary, title=settings.out.name, as_json=as_json)


def _print_summary(summary: "Converted", *, title: str, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    table = Table(
        "", "value", "questions", title=f"{escape(title)}: {summary.n} questions, {summary.num_groups} groups"
    )
    axes = {"modality": summary.by_modality, "task": summary.by_task, "options": summary.by_num_options}
    for label, counts in axes.items():
        for value, count in counts.items():
            table.add_row(label, value, str(count))
            label = ""
        table.add_section()
    left_out = summary.left_out
    noticed = (
        ("images missing", "", summary.missing_images),
        ("text burned in", "look for names before you share it", summary.burned_in_text),
        ("pictures unfit", "no Qwen-VL takes them", summary.unfit_pictures),
        ("no picture", "asked as text alone", summary.text_only),
        ("options speak of others", "their order is kept everywhere", summary.options_that_refer),
        ("show studies", "as slices", summary.studies),
        ("left out", "answer withheld", left_out.withheld),
        ("left out", "cannot be used", left_out.bad),
    )
    for label, hint, count in noticed:
        if count:
            table.add_row(label, hint, str(count))
    Console().print(table)
    named = summary.first_unfit or []
    for message in named:
        typer.echo(f"unfit for Qwen-VL: {message}; cut or pad the picture, or leave the record out")
    if (more := (summary.unfit_pictures or 0) - len(named)) > 0:
        typer.echo(f"unfit for Qwen-VL: and {more:,} more")
    for said in summary.study_notes or []:
        typer.echo(said)
    for message in left_out.first_bad:
        typer.echo(f"left out: {message}")
    if (more := left_out.bad - len(left_out.first_bad)) > 0:
        typer.echo(f"left out: and {more:,} more")


@app.command()
@takes(PhantomSettings, then=Then(next="medr1 eval MODEL --data {out} --out DIR"))
def phantom(settings: PhantomSettings) -> None:
    """Draw phantoms: eight modalities, five tasks, lesions with masks, and no way to answer without looking.

    \b
    medr1 data phantom --split train --out data/train
    medr1 data phantom --split test --count 100 --side 224 --masks --sheet --out data/test
    """
    from medr1.data.phantom import write_phantoms

    with progress("Drawing") as show:
        written = write_phantoms(settings, show)
    typer.echo(f"{written:,} questions drawn.")


@app.command()
@takes(DownloadSettings, then=Then())
def download(settings: DownloadSettings) -> None:
    """Fetch a data set with its images from the Hugging Face hub; called again, it goes on where it stopped.

    \b
    medr1 data download slake --out downloads/slake
    medr1 data download OWNER/NAME --revision main --out downloads/theirs
    """
    from medr1.data import SOURCES
    from medr1.data.download import download as run

    with progress("Unpacking") as show:
        run(settings.name, settings.out, revision=settings.revision, overwrite=settings.overwrite, progress=show)
    source = f" --source {settings.name}" if settings.name in SOURCES else ""
    note(f"Next: medr1 data convert {settings.out}{source} --out DIR")


@app.command()
@takes(ResizeSettings, then=Then(next="medr1 eval MODEL --data {out} --out DIR"))
def resize(settings: ResizeSettings) -> None:
    """Resize all images, on all cores; called again after a kill, it goes on where it stopped.

    \b
    medr1 data resize data/train --out data/train384
    medr1 data resize data/train --size 512 --longest-side --out data/train512
    """
    from medr1.data.resize import resize as run

    with progress("Resizing") as show:
        total = run(settings, show)
    typer.echo(f"Images of {total:,} questions resized.")


@app.command()
@takes(
    SplitSettings,
    prints="the summary",
    then=Then(next="medr1 data audit TRAIN TEST --out DIR, with two of its folders"),
)
def split(settings: SplitSettings, as_json: bool) -> None:
    """Split by whole groups (image, series, patient), the same way on every axis, so that nothing leaks into test.

    \b
    medr1 data split data/all --out data/split
    medr1 data split data/all --by modality --test-share 0.1 --out data/by_modality
    """
    from medr1.data.splits import GroupedSplit
    from medr1.data.splits import split as run

    with progress("Splitting") as show:
        summary = run(settings, lambda step, done: show(done, what=step))
    if as_json:
        print_json(summary)
        return
    out = settings.out
    table = Table("part", "questions", title=f"{escape(out.name)}: {summary.n} questions")
    for name, count in summary.parts.items():
        table.add_row(escape(name), str(count))
    table.add_section()
    for name, count in summary.overlaps.items():
        table.add_row(f"test questions whose {name} is in train", "not known" if count is None else str(count))
    if isinstance(summary, GroupedSplit):
        for name in ("num_groups", "largest_group", "series_neighbours"):
            table.add_row(name.replace("_", " "), str(getattr(summary, name)))
    Console().print(table)


@app.command()
@takes(HardenSettings, prints="the summary", then=Then(next="medr1 eval MODEL --data {out}/hardened --out DIR"))
def harden(settings: HardenSettings, as_json: bool) -> None:
    """Rebuild questions so that no rule over their text beats chance; the original stays beside each.

    \b
    medr1 data harden data/test --out data/hardened
    medr1 data harden data/test --train data/train --out data/hardened
    """
    from medr1.data.harden import harden as run

    with progress("Hardening") as show:
        summary = run(settings, lambda step, done: show(done, what=step))
    if as_json:
        print_json(summary)
        return
    out = settings.out
    kept = f"{summary.kept} of {summary.n} questions kept ({summary.kept_share:.1%})"
    table = Table("", "questions", title=f"{escape(out.name)}: {kept}")
    for reason, count in summary.left_out.items():
        table.add_row(f"left out: {reason}", str(count))
    for size, count in summary.blocks_by_size.items():
        table.add_row(f"in blocks of {size}", str(int(size) * count))
    if summary.controlled is not None:
        table.add_row("original questions that no blind rule answers", str(summary.controlled.n))
    Console().print(table)
    if summary.blind is not None:
        Console().print(_blind_table(summary.blind))


def _blind_table(blind: Mapping[str, Mapping[str, float | None]]) -> Table:
    from medr1.report.tables import percent

    table = Table("accuracy without the image (%)", *(name.replace("_", " ") for name in blind))
    for rule in next(iter(blind.values())):
        table.add_row(rule.replace("_", " "), *(percent(found[rule]) if found else "" for found in blind.values()))
    return table


@app.command()
@takes(
    AuditSettings, prints="audit.json", then=Then(look="{out}/audit.html", next="medr1 data harden {test} --out DIR")
)
def audit(settings: AuditSettings, as_json: bool) -> None:
    """Say what a split leaks from train to test, and how far one gets on it without looking at an image.

    \b
    medr1 data audit data/train data/test --out runs/audit
    medr1 data audit train.jsonl test.jsonl --source med-r1 --text-only --out runs/audit
    """
    from medr1.flows.audit import run_audit
    from medr1.report.audit import overview

    with progress("Reading") as show:
        result = run_audit(settings, lambda what, done: show(done, what=what))
    if as_json:
        print_json(result)
        return
    _print_table(overview(result))
    _print_verdicts(result.verdicts)


@app.command()
@takes(
    StatsSettings, prints="stats.json", then=Then(look="{out}/pictures.png", next="medr1 data split {path} --out DIR")
)
def stats(settings: StatsSettings, as_json: bool) -> None:
    """Describe a data set: counts, image sizes, text lengths, options, and a wall of its pictures.

    \b
    medr1 data stats data/train
    medr1 data stats data/train --out runs/stats
    """
    from medr1.flows.audit import run_stats

    with progress("Reading") as show:
        result = run_stats(settings, lambda what, done: show(done, what=what))
    if as_json:
        print_json(result)
    else:
        _print_table(_stats_table(result, str(settings.path)))


@app.command()
@takes(CheckTableSettings, prints="JSON")
def check_table(settings: CheckTableSettings, as_json: bool) -> None:
    """Check the accuracies of a published table: is each some k / n, do the averages follow, what can n show?

    \b
    medr1 data check-table table.csv
    medr1 data check-table table.csv --n 900 --json
    """
    from medr1.data.check_table import check_table as check

    result = check(settings.path, settings.n)
    if as_json:
        print_json(result)
        return
    _print_table(_figures_table(result, settings.path.name))
    _print_verdicts(result.verdicts)


def _print_table(table: "Page") -> None:
    from medr1.report.tables import rich_table

    Console().print(rich_table(table))


def _print_verdicts(lines: Iterable[str]) -> None:
    console = Console()
    for line in lines:
        level = line.partition(":")[0]
        console.print(Text.assemble((level, COLOURS[level]), line.removeprefix(level)))


def _stats_table(result: "Described", title: str) -> "Page":
    from medr1.report.tables import Table as Page

    images, options = result.images, result.options
    counts = {
        "modality": result.by_modality,
        "task": result.by_task,
        "source": result.by_source,
        "options": result.by_num_options,
        "image size": images.commonest_sizes,
        "right letter": options.gold_letters,
    }
    rows = [(f"{label}: {value}", f"{count:,}") for label, found in counts.items() for value, count in found.items()]
    for label, lengths in (("question", result.questions.length), ("option", options.length)):
        if lengths is not None:
            rows.append((f"{label} length: median (max)", f"{lengths.median:.0f} ({lengths.max:.0f})"))
    note = (
        f"{result.n:,} questions, {result.num_groups:,} groups; {images.distinct:,} images, "
        f"{images.missing:,} of them not there."
    )
    return Page(title=title, columns=("", "questions"), rows=rows, note=note)


def _figures_table(result: "CheckedTable", title: str) -> "Page":
    from medr1.report.tables import NONE, percent
    from medr1.report.tables import Table as Page

    answers = {True: "yes", False: "NO", None: NONE}
    rows = []
    for item in result.figures:
        ci, k = item.ci95, item.k
        rows.append(
            (
                f"{item.model} · {item.test}",
                item.printed,
                NONE if item.n is None else f"{item.n:,}",
                answers[item.possible],
                NONE if k is None else "–".join(map(str, dict.fromkeys(k))),
                NONE if ci is None else f"{percent(ci[0])} to {percent(ci[1])}",
                f"+{percent(item.detectable_gain)} / -{percent(item.detectable_loss)}",
            )
        )
    columns = ("", "printed", "n", "k / n?", "k", "95 % interval", "detectable (points)")
    note = "Detectable: the difference that two runs on n questions each show with 80 % power at alpha 0.05."
    return Page(title=title, columns=columns, rows=rows, note=note)
