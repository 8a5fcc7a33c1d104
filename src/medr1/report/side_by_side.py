"""Tables of `compare.json`: several runs on the same questions."""

from collections.abc import Mapping
from typing import Any

from medr1.report.tables import NONE, Table, percent, warnings, with_interval

Compared = Mapping[str, Any]
"""What `compare.json` holds."""

AGAINST = ("p (Holm)", "gained / lost", "same answer")


def all_tables(compared: Compared) -> list[Table]:
    """Every table that the comparison has rows for."""
    tables = [
        runs(compared),
        beside(compared),
        pairs(compared),
        gain(compared),
        *(parts(compared, axis) for axis in compared["by"]),
    ]
    return [table for table in tables if table.rows]


def runs(compared: Compared) -> Table:
    """One row a run: accuracy, rank, and the difference to the first run."""
    first = next(iter(compared["runs"]))
    by_other = {pair["other"]: pair for pair in compared["pairs"] if pair["base"] == first}
    rows = [
        (name, with_interval(scores), _rank(*scores["rank"]), *_against(by_other.get(name)))
        for name, scores in compared["runs"].items()
    ]
    columns = ("", "accuracy [95 %]", "rank", f"over {first}, points [95 %]", *AGAINST)
    warned = [f"{name}: {line}" for name, scores in compared["runs"].items() for line in warnings(scores)]
    if twin := compared["blind_twin"]:
        warned += [f"{twin['name']}: {line}" for line in warnings(twin)]
    return Table(title="Runs side by side", columns=columns, rows=rows, note=_note(compared), warnings=warned)


def beside(compared: Compared) -> Table:
    """What stands beside the accuracies: unreadable answers, image controls, and the lead over a trained blind twin."""
    twin = compared["blind_twin"]
    variants = sorted({v for scores in compared["runs"].values() for v in scores["controls"]})
    rows = [
        (
            name,
            percent(scores["chance"]),
            percent(scores["unreadable"]),
            *(percent(scores["controls"].get(variant, {}).get("accuracy")) for variant in variants),
            *([_difference(twin["runs"][name])] if twin else []),
        )
        for name, scores in compared["runs"].items()
    ]
    lead = [f"over the blind twin ({with_interval(twin)}), points (p Holm)"] if twin else []
    columns = ("", "chance", "unreadable", *(v.replace("_", " ") for v in variants), *lead)
    return Table(title="Beside the accuracies", columns=columns, rows=rows)


def pairs(compared: Compared) -> Table:
    """Every pair that does not hold the first run, or nothing for two runs."""
    first = next(iter(compared["runs"]))
    others = [pair for pair in compared["pairs"] if pair["base"] != first]
    rows = [(f"{pair['base']} → {pair['other']}", *_against(pair)) for pair in others]
    return Table(title="The other pairs", columns=("", "difference, points [95 %]", *AGAINST), rows=rows)


def gain(compared: Compared) -> Table:
    """The gain over the first run in its parts, for the runs that answered blank images."""
    split = {name: found for name, found in compared["gain"].items() if found}
    rows = [
        (name, percent(found["gain"]), *(with_interval(part, "value") for part in found["parts"].values()))
        for name, found in split.items()
    ]
    note = "Lookup: " + next((found["blind"] for found in split.values()), "") + "; seeing: what is beyond that."
    columns = ("", "gain, points", "format", "lookup", "seeing")
    return Table(title="Where the gain came from", columns=columns, rows=rows, note=note)


def parts(compared: Compared, axis: str) -> Table:
    """Accuracies and differences by part; no rows where there is one part only."""
    names = list(compared["runs"])
    found = compared["by"][axis]
    rows = []
    for part, scores in found.items() if len(found) > 1 else ():
        cells = [with_interval(scores["runs"].get(name, {})) for name in names]
        changes = [_difference(scores["differences"].get(name)) for name in names[1:]]
        rows.append((part, f"{scores['n']:,}", *cells, *changes))
    columns = ("", "n", *names, *(f"{name}: difference (p Holm)" for name in names[1:]))
    return Table(title=f"By {axis.replace('_', ' ')}", columns=columns, rows=rows)


def _against(pair: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if pair is None:
        return NONE, NONE, NONE, NONE
    flips = pair["flips"]
    return (
        with_interval(pair["difference"], "value"),
        f"{pair['p_holm']:.2g}",
        f"{flips['wrong_to_right']:,} / {flips['right_to_wrong']:,}",
        percent(pair["agreement"]),
    )


def _difference(scores: Mapping[str, Any] | None) -> str:
    """A difference with its interval and adjusted p-value."""
    if scores is None:
        return NONE
    return f"{with_interval(scores.get('difference', scores), 'value')} ({scores['p_holm']:.2g})"


def _rank(best: int, worst: int) -> str:
    """One rank, or the range of a tie.

    >>> _rank(1, 1), _rank(1, 3)
    ('1', '1–3 (tie)')
    """
    return str(best) if best == worst else f"{best}–{worst} (tie)"


def _note(compared: Compared) -> str:
    left_out = sum(compared["left_out"].values())
    test = compared["pairs"][0]["test"] if compared["pairs"] else "no test"
    detectable = [percent(pair["detectable_difference"]) for pair in compared["pairs"]]
    differing = ", ".join(name for name in compared["differing_arguments"] if name not in ("data_hash", "engine"))
    return (
        f"{compared['n']:,} answers that all runs gave, {left_out:,} others left out; {test}, Holm over all pairs; "
        f"smallest difference found with 80 % power: {' / '.join(detectable) or NONE} points. "
        f"The runs differ in: {differing or 'nothing that the manifests tell'}."
    )
