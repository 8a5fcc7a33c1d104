"""Tables of what a judge says of stored answers, beside the rules."""

from collections.abc import Mapping
from typing import Any

from medr1.report.tables import NONE, Table, percent, with_interval


def all_tables(scores: Mapping[str, Any]) -> list[Table]:
    """Verdicts, and the agreement with the rules where there is any; of what `medr1.eval.judge.judge` returns."""
    return [_verdicts(scores), *([_agreement(scores)] if scores["agreement"] else [])]


def _verdicts(scores: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{name} questions",
            f"{part['n']:,}",
            with_interval(part),
            percent(part["unparsable"] / part["n"]),
            f"{part['failed']:,}",
        )
        for name, part in scores.items()
        if name in ("closed", "open")
    ]
    columns = ("", "n", "right [95 % interval]", "unparsable", "failed requests")
    note = "Right: of the answers with a verdict. Unparsable verdicts are neither right nor wrong."
    return Table(title=f"Judged by {scores['engine']['model']}, %", columns=columns, rows=rows, note=note)


def _agreement(scores: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            f"{found['n']:,}",
            with_interval(found, "agreement"),
            NONE if found["kappa"] is None else f"{found['kappa']:.2f}",
        )
        for name, found in scores["agreement"].items()
    ]
    note = "Where the judge has a verdict and the rule can read the answer. No kappa where both always say the same."
    columns = ("", "n", "same verdict, % [95 % interval]", "Cohen's kappa")
    return Table(title="The judge beside the rules", columns=columns, rows=rows, note=note)
