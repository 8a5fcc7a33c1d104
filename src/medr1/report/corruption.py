"""Tables of what image corruptions cost."""

from collections.abc import Mapping
from typing import Any

from medr1.report.tables import NONE, Table, percent, with_interval


def all_tables(results: Mapping[str, Any]) -> list[Table]:
    """The means, and one row a corruption and severity; of what `medr1.eval.corruption.score_corruptions` returns."""
    return [_means(results), _severities(results)]


def _means(results: Mapping[str, Any]) -> Table:
    columns = {"all questions": results, "image-reliant": results["image_reliant"]}
    shown = {name: part for name, part in columns.items() if part is not None}
    rows = [
        ("clean", *(with_interval(part["clean"]) for part in shown.values())),
        ("mean corruption accuracy", *(with_interval(part["corrupted"]) for part in shown.values())),
        ("drop (points)", *(with_interval(part["drop"], "value") for part in shown.values())),
        ("relative drop", *(with_interval(part["relative_drop"] or {}, "value") for part in shown.values())),
        ("changed answers", *(with_interval(part["flip_rate"] or {}, "share") for part in shown.values())),
    ]
    note = (
        f"{results['n']:,} corrupted answers beside the clean ones ({results['without_clean']:,} without); every "
        "corruption counts alike, whatever it was made for. Image-reliant: the answer changes without the evidence."
    )
    return Table(title="Corruptions, %", columns=("", *shown), rows=rows, note=note)


def _severities(results: Mapping[str, Any]) -> Table:
    rows = []
    for name, corruption in results["corruptions"].items():
        for severity, cell in corruption["severities"].items():
            calibration = cell["calibration"]
            rows.append(
                (
                    f"{name} {severity}",
                    f"{cell['n']:,}",
                    percent(cell["clean"]["accuracy"]),
                    with_interval(cell),
                    with_interval(cell["difference"], "value"),
                    percent(cell["relative_drop"]),
                    percent(cell["flip_rate"]["share"] if cell["flip_rate"] else None),
                    percent(cell["unreadable"]),
                    NONE if calibration is None else f"{100 * calibration['ece']['shift']:+.1f}",
                )
            )
    columns = ("", "n", "clean", "corrupted", "difference", "relative drop", "changed", "unreadable", "ECE shift")
    return Table(title="By corruption and severity, %", columns=columns, rows=rows)
