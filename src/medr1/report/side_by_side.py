"""Tables of `compare.json` and `corruptions.json`: runs on the same questions, and on corrupted images."""

from medr1.report.tables import NONE, Table, estimated, percent, warnings
from medr1.results.compared import Compared, CorruptionMeans, Corruptions, Difference, GainParts, NamedPair
from medr1.types import Estimate

AGAINST = ("p (Holm)", "gained / lost", "same answer")


def all_tables(compared: Compared) -> list[Table]:
    """Every table that the comparison has rows for."""
    tables = [
        runs(compared),
        beside(compared),
        pairs(compared),
        gain(compared),
        *(parts(compared, axis) for axis in compared.by),
    ]
    return [table for table in tables if table.rows]


def runs(compared: Compared) -> Table:
    """One row a run: accuracy, rank, and the difference to the first run."""
    first = next(iter(compared.runs))
    by_other = {pair.other: pair for pair in compared.pairs if pair.base == first}
    rows = [
        (name, estimated(scores.accuracy), _rank(*scores.rank), *_against(by_other.get(name)))
        for name, scores in compared.runs.items()
    ]
    columns = ("", "accuracy [95 %]", "rank", f"over {first}, points [95 %]", *AGAINST)
    warned = [f"{name}: {line}" for name, scores in compared.runs.items() for line in warnings(scores.void)]
    if twin := compared.blind_twin:
        warned += [f"{twin.name}: {line}" for line in warnings(twin.void)]
    return Table(title="Runs side by side", columns=columns, rows=rows, note=_note(compared), warnings=warned)


def beside(compared: Compared) -> Table:
    """What stands beside the accuracies: unreadable answers, image controls, and the lead over a trained blind twin."""
    twin = compared.blind_twin
    variants = sorted({v for scores in compared.runs.values() for v in scores.controls})
    rows = [
        (
            name,
            percent(scores.chance),
            percent(scores.unreadable),
            *(percent(scores.controls[v].accuracy.value if v in scores.controls else None) for v in variants),
            *([_tested(twin.runs[name].difference, twin.runs[name].p_holm)] if twin else []),
        )
        for name, scores in compared.runs.items()
    ]
    lead = [f"over the blind twin ({estimated(twin.accuracy)}), points (p Holm)"] if twin else []
    columns = ("", "chance", "unreadable", *(v.replace("_", " ") for v in variants), *lead)
    return Table(title="Beside the accuracies", columns=columns, rows=rows)


def pairs(compared: Compared) -> Table:
    """Every pair that does not hold the first run, or nothing for two runs."""
    first = next(iter(compared.runs))
    others = [pair for pair in compared.pairs if pair.base != first]
    rows = [(f"{pair.base} → {pair.other}", *_against(pair)) for pair in others]
    return Table(title="The other pairs", columns=("", "difference, points [95 %]", *AGAINST), rows=rows)


def gain(compared: Compared) -> Table:
    """The gain over the first run in its parts, for the runs that answered blank images."""
    split = {name: found for name, found in compared.gain.items() if found}
    rows = [(name, percent(found.gain), *map(estimated, _parts_of(found.parts))) for name, found in split.items()]
    note = "Lookup: " + next((found.blind for found in split.values()), "") + "; seeing: what is beyond that."
    columns = ("", "gain, points", "format", "lookup", "seeing")
    return Table(title="Where the gain came from", columns=columns, rows=rows, note=note)


def parts(compared: Compared, axis: str) -> Table:
    """Accuracies and differences by part; no rows where there is one part only."""
    names = list(compared.runs)
    found = compared.by[axis]
    rows = []
    for part, scores in found.items() if len(found) > 1 else ():
        cells = [estimated(scores.runs[name].accuracy if name in scores.runs else None) for name in names]
        changes = [scores.differences.get(name) for name in names[1:]]
        told = [_tested(change, change.p_holm) if change else NONE for change in changes]
        rows.append((part, f"{scores.n:,}", *cells, *told))
    columns = ("", "n", *names, *(f"{name}: difference (p Holm)" for name in names[1:]))
    return Table(title=f"By {axis.replace('_', ' ')}", columns=columns, rows=rows)


def _parts_of(parts: GainParts) -> tuple[Estimate, Estimate, Estimate]:
    return parts.format, parts.lookup, parts.seeing


def _against(pair: NamedPair | None) -> tuple[str, str, str, str]:
    if pair is None:
        return NONE, NONE, NONE, NONE
    return (
        estimated(pair.difference.change),
        f"{pair.p_holm:.2g}",
        f"{pair.flips.wrong_to_right:,} / {pair.flips.right_to_wrong:,}",
        percent(pair.agreement),
    )


def _tested(difference: Difference, p_holm: float) -> str:
    """A difference with its interval and adjusted p-value."""
    return f"{estimated(difference.change)} ({p_holm:.2g})"


def _rank(best: int, worst: int) -> str:
    """One rank, or the range of a tie.

    >>> _rank(1, 1), _rank(1, 3)
    ('1', '1–3 (tie)')
    """
    return str(best) if best == worst else f"{best}–{worst} (tie)"


def _note(compared: Compared) -> str:
    left_out = sum(compared.left_out.values())
    test = compared.pairs[0].test if compared.pairs else "no test"
    detectable = [percent(pair.detectable_difference) for pair in compared.pairs]
    differing = ", ".join(name for name in compared.differing_arguments if name not in ("data_hash", "engine"))
    return (
        f"{compared.n:,} answers that all runs gave, {left_out:,} others left out; {test}, Holm over all pairs; "
        f"smallest difference found with 80 % power: {' / '.join(detectable) or NONE} points. "
        f"The runs differ in: {differing or 'nothing that the manifests tell'}."
    )


def corruption_tables(results: Corruptions) -> list[Table]:
    """The means, and one row a corruption and severity."""
    return [_means(results), _severities(results)]


def _means(results: Corruptions) -> Table:
    columns: dict[str, CorruptionMeans | None] = {"all questions": results, "image-reliant": results.image_reliant}
    shown = {name: part for name, part in columns.items() if part is not None}
    rows = [
        ("clean", *(estimated(part.clean) for part in shown.values())),
        ("mean corruption accuracy", *(estimated(part.corrupted) for part in shown.values())),
        ("drop (points)", *(estimated(part.drop) for part in shown.values())),
        ("relative drop", *(estimated(part.relative_drop) for part in shown.values())),
        ("changed answers", *(estimated(part.flip_rate) for part in shown.values())),
    ]
    note = (
        f"{results.n:,} corrupted answers beside the clean ones ({results.without_clean:,} without); every "
        "corruption counts alike, whatever it was made for. Image-reliant: the answer changes without the evidence."
    )
    return Table(title="Corruptions, %", columns=("", *shown), rows=rows, note=note)


def _severities(results: Corruptions) -> Table:
    rows = [
        (
            f"{name} {severity}",
            f"{cell.n:,}",
            percent(cell.clean.value),
            estimated(cell.accuracy),
            estimated(cell.difference),
            percent(cell.relative_drop),
            percent(cell.flip_rate.value if cell.flip_rate else None),
            percent(cell.unreadable),
            NONE if cell.calibration is None else f"{100 * cell.calibration.ece.shift:+.1f}",
        )
        for name, corruption in results.corruptions.items()
        for severity, cell in corruption.severities.items()
    ]
    columns = ("", "n", "clean", "corrupted", "difference", "relative drop", "changed", "unreadable", "ECE shift")
    return Table(title="By corruption and severity, %", columns=columns, rows=rows)
