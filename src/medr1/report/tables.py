"""Tables of results: the same cells on the terminal (Rich) and in the HTML report.

No accuracy stands alone: its interval, chance, and what blind rules reach stand beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Results = Mapping[str, Any]
"""What `results.json` holds."""

NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text cells under column names; the first column names the row, the others hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def percent(value: float | None) -> str:
    """A share as percent with one decimal.

    >>> percent(0.7104), percent(None)
    ('71.0', '–')
    """
    return NONE if value is None else f"{100 * value:.1f}"


def with_interval(scores: Mapping[str, Any], name: str = "accuracy") -> str:
    """A share in percent and its 95 % interval.

    >>> with_interval({"accuracy": 0.5, "ci95": [0.401, 0.599]})
    '50.0 [40.1, 59.9]'
    """
    if scores.get(name) is None:
        return NONE
    lo, hi = scores["ci95"]
    return f"{percent(scores[name])} [{percent(lo)}, {percent(hi)}]"


def overview(results: Results, title: str = "Results") -> Table:
    """Accuracy beside everything that it has to beat, in percent."""
    blind = results["blind"]
    unreadable = 1 - results["parse"].get("ok", 0) / results["n"]
    rows = [
        ("accuracy [95 % interval]", with_interval(results)),
        ("chance", percent(results["chance"])),
        ("majority letter", percent(results["majority_letter"])),
        ("format rule, no image", percent(blind["format_rule"])),
        ("longest option, no image", percent(blind["longest_option"])),
        ("text prior, no image", percent(blind["text_prior"])),
        ("blank image", percent(blind["blank_image"])),
        ("swapped image", percent(blind["swapped_image"])),
        ("unreadable answers", percent(unreadable)),
    ]
    note = (
        f"{results['n']:,} answers, {results['failed']:,} failed generations; "
        f"interval: {results['ci_method']}, {results['n_groups']:,} groups."
    )
    return Table(title=title, columns=("", "%"), rows=rows, note=note)


def comparison(compared: Mapping[str, Any], labels: Sequence[str] = ("before", "after")) -> Table:
    """Two runs on the same samples (what `medr1.eval.compare.compare` returns), in percent, with the paired test."""
    flips = compared["flips"]
    rows = [
        (labels[0], with_interval(compared["base"])),
        (labels[1], with_interval(compared["other"])),
        ("difference (points)", with_interval(compared["difference"], "value")),
        ("wrong → right", f"{flips['wrong_to_right']:,}"),
        ("right → wrong", f"{flips['right_to_wrong']:,}"),
        ("exact McNemar p", f"{compared['mcnemar_p']:.2g}"),
    ]
    note = f"{compared['n']:,} answers that both runs gave."
    return Table(title="Paired comparison", columns=("", "accuracy [95 % interval]"), rows=rows, note=note)


def parts(results: Results, axis: str, title: str) -> Table:
    """Accuracy by modality, task or source (`axis` is `by_modality`, …), in percent."""
    rows = [
        (name, f"{scores['n']:,}", with_interval(scores), percent(scores["chance"]))
        for name, scores in results[axis].items()
    ]
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows)


def controls(results: Results, title: str = "Controls") -> Table:
    """What is left when the image is taken away, on the same samples, in percent."""
    rows = []
    for name, scores in results["controls"].items():
        original = with_interval(scores.get("original") or {})
        change = with_interval(scores["difference"], "value") if scores.get("difference") else NONE
        follows = with_interval(scores["follows"], "share") if scores.get("follows") else NONE
        rows.append(
            (name, f"{scores['n']:,}", f"{scores['dropped']:,}", original, with_interval(scores), change, follows)
        )
    columns = ("", "n", "without variant", "original image", "control", "change", "answers the shown image")
    return Table(title=title, columns=columns, rows=rows)


def reading(results: Results, title: str = "How the answers could be read") -> Table:
    """Completions by parse status."""
    rows = [
        (status.replace("_", " "), f"{count:,}", percent(count / results["n"]))
        for status, count in results["parse"].items()
    ]
    return Table(title=title, columns=("", "n", "%"), rows=rows)


def protocols(results: Results, title: str = "The same completions under every published protocol") -> Table:
    """Accuracy by protocol, in percent."""
    rows = [(name, with_interval(scores)) for name, scores in results["protocols"].items()]
    return Table(title=title, columns=("", "accuracy [95 % interval]"), rows=rows)


def all_tables(results: Results) -> list[Table]:
    """Every table that the results have rows for."""
    tables = [
        overview(results),
        parts(results, "by_modality", "By modality"),
        parts(results, "by_task", "By task"),
        parts(results, "by_source", "By source"),
        controls(results),
        reading(results),
        protocols(results),
    ]
    return [table for table in tables if table.rows]


def rich_table(table: Table) -> "RichTable":
    """The table for the terminal; brackets in names are text, not markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(
        title=Text(table.title),
        caption=Text(table.note) if table.note else None,
        title_justify="left",
        min_width=len(table.title),
    )
    for position, column in enumerate(table.columns):
        rich.add_column(Text(column), justify="right" if position else "left", overflow="fold")
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich
