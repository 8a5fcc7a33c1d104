"""Tables of results: the same cells on the terminal (Rich) and in the HTML report.

No accuracy stands alone: its interval, chance, and what blind rules reach stand beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

Results = Mapping[str, Any]
"""What `results.json` holds."""

NONE = "–"
FURTHER_CONTROLS = {
    "noise": "noise image",
    "no_image": "no image",
    "low_resolution": "image at an eighth of its resolution",
    "shuffled": "image of another question",
    "other_modality": "image of another modality",
    "none_of_the_above": "none of the above in place of the right option",
}
"""Labels of the controls that stand beside the accuracy where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text cells under column names; the first column names the row, the others hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    warnings: Sequence[str] = ()
    """What stands above it: figures of it that cannot mean anything."""


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
        *(
            (label, percent(results["controls"][name].get("accuracy")))
            for name, label in FURTHER_CONTROLS.items()
            if name in results["controls"]
        ),
        *_blind_rows(results),
        *_reliance_rows(results),
        ("unreadable answers", percent(unreadable)),
    ]
    note = (
        f"{results['n']:,} answers, {results['failed']:,} failed generations; "
        f"interval: {results['ci_method']}, {results['n_groups']:,} groups."
    )
    return Table(title=title, columns=("", "%"), rows=rows, note=note, warnings=warnings(results))


def warnings(results: Results) -> list[str]:
    """Figures of the results that cannot mean anything, a line each."""
    return [f"void: {item['what']}: {item['why']}." for item in results.get("void", ())]


def by_blind(results: Results, title: str = "By what is answered without looking") -> Table:
    """Accuracy on the questions that a blank image or the text counter answers, and on the others, in percent."""
    found = results.get("by_blind") or {}
    names = {"answerable": "answered without looking", "not_answerable": "needs the picture, as far as these tell"}
    rows = [
        (label, f"{scores['n']:,}", with_interval(scores), percent(scores["chance"]))
        for name, label in names.items()
        if (scores := found.get(name))
    ]
    asked = {"blank_image": "the model on a blank image", "text_prior": "the text prior"}
    note = f"Without looking: {' or '.join(asked[name] for name in found.get('by', ()))} is right."
    if found.get("not_checked"):
        note += f" Not checked: {found['not_checked']:,} answers."
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows, note=note)


def _blind_rows(results: Results) -> list[tuple[str, str]]:
    """Accuracy on the questions that can be answered without looking, and on the others."""
    found = results.get("by_blind") or {}
    labels = {"answerable": "on {n:,} answered without looking", "not_answerable": "on the {n:,} others"}
    return [
        (label.format(n=scores["n"]), with_interval(scores))
        for name, label in labels.items()
        if (scores := found.get(name))
    ]


def _reliance_rows(results: Results) -> list[tuple[str, str]]:
    """What the controls say about single questions, where there were any."""
    rows = []
    if reliance := results.get("image_reliance"):
        rows.append(("answers that change without the image", with_interval(reliance["reliant"], "share")))
        rows.append(("right, whatever image is shown", with_interval(reliance["right_without_image"], "share")))
    if order := results.get("option_order"):
        rows.append(("right under every rotation of the options", with_interval(order["circular"])))
        rows.append(("same option under every rotation", with_interval(order["same_option"] or {}, "share")))
    return rows


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
    """Accuracy by protocol, in percent, and what each could not read."""
    shares = {
        "unreadable": "unreadable",
        "refused": "refused",
        "refused_but_read": "refusals read",
        "with_guesses": "with guesses",
    }
    scored = results["protocols"]
    shown = {key: label for key, label in shares.items() if any(key in scores for scores in scored.values())}
    rows = [
        (name, with_interval(scores), *(percent(scores.get(key)) for key in shown)) for name, scores in scored.items()
    ]
    return Table(title=title, columns=("", "accuracy [95 % interval]", *shown.values()), rows=rows)


def subgroups(results: Results, title: str = "Modality × task × source × options") -> Table:
    """Accuracy of every combination, where there is more than one; small ones are counted only."""
    found = results.get("subgroups", ())
    rows = [
        (
            " · ".join((scores["modality"], scores["task"], scores["source"], f"{scores['num_options']} options")),
            f"{scores['n']:,}",
            with_interval(scores),
            percent(scores["chance"]),
        )
        for scores in (found if len(found) > 1 else ())
    ]
    note = "No accuracy where there are too few independent questions."
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows, note=note)


def sampling(drawn: Mapping[str, Any], title: str = "Several draws of every question") -> Table:
    """Mean, spread, majority vote and pass@k of a run with several draws (`sampling` of the results), in percent."""
    spread = drawn["spread"]
    rows = [
        ("one draw, mean", with_interval(drawn["mean"])),
        ("one draw, least and most", f"{percent(spread['min'])} to {percent(spread['max'])}"),
        ("majority vote", with_interval(drawn["majority"])),
        *((f"pass@{k}", with_interval(scores or {}, "share")) for k, scores in drawn["pass_at_k"].items()),
    ]
    note = f"{drawn['num_draws']} draws of {drawn['n_questions']:,} questions; sd over draws: {percent(spread['sd'])}."
    return Table(title=title, columns=("", "accuracy [95 % interval]"), rows=rows, note=note)


def confidence(found: Mapping[str, Any], kind: str) -> Table:
    """Calibration and selective answering (one block of `confidence` of the results); shares in percent."""
    scaled = found.get("temperature_scaled")
    rows = [
        ("accuracy, all answers", percent(found["accuracy"])),
        ("accuracy, most confident 80 %", percent(found["accuracy_at_80_percent"])),
        ("mean confidence", percent(found["mean_confidence"])),
        ("expected calibration error", percent(found["ece"])),
        *([("the same, temperature scaled", percent(scaled["ece"]))] if scaled else []),
        ("Brier score (0 to 2)", f"{found['brier']:.3f}"),
        ("area under risk-coverage", f"{found['aurc']:.3f}"),
    ]
    note = f"{found['n']:,} answers, {found['left_out']:,} without a confidence."
    sources = {"options": "option probabilities", "votes": "votes of the draws"}
    return Table(title=f"Confidence by {sources[kind]}", columns=("", "value"), rows=rows, note=note)


def all_tables(results: Results) -> list[Table]:
    """Every table that the results have rows for."""
    tables = [
        overview(results),
        parts(results, "by_modality", "By modality"),
        parts(results, "by_task", "By task"),
        parts(results, "by_source", "By source"),
        *([parts(results, "by_num_options", "By number of options")] if results.get("by_num_options") else []),
        by_blind(results),
        subgroups(results),
        *([sampling(results["sampling"])] if results.get("sampling") else []),
        *(confidence(found, kind) for kind, found in (results.get("confidence") or {}).items() if found),
        controls(results),
        reading(results),
        protocols(results),
    ]
    return [table for table in tables if table.rows]


def rich_table(table: Table) -> "RenderableType":
    """The table for the terminal, its warnings above it; brackets in names are text, not markup."""
    from rich.console import Group
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
    return Group(*(Text(line, style="bold red") for line in table.warnings), rich)
