"""`medr1 data audit`, `stats` and `check-table`: what a split, a data set or a published table is worth."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from medr1.cli.options import print_json, progress, takes
from medr1.data.settings import AuditSettings, CheckTableSettings, StatsSettings
from medr1.diagnosis import FAIL, NOT_CHECKED, PASS, WARN

if TYPE_CHECKING:
    from medr1.report.tables import Table

COLOURS = {FAIL: "bold red", WARN: "yellow", NOT_CHECKED: "yellow", PASS: "green"}


@takes(AuditSettings, prints="audit.json")
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
    _print_verdicts(result["verdicts"])


@takes(StatsSettings, prints="stats.json")
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
