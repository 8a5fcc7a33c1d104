"""Are the accuracies of a published table possible, and what do they say?

The GRIM test (Brown and Heathers 2017) for proportions: an accuracy over n questions is k / n for a whole k, so a
figure printed with enough decimals either is such a share or cannot be one. Beside it: whether averages follow from
their row, the Wilson interval of each figure, and the smallest change that n questions can show.

Tables are CSV or JSON, in one of two shapes: one row a figure with the columns `model`, `test`, `accuracy` and `n`; or
one row a model and one column a test, with a row named `n` that holds the numbers of questions. A column or test named
`average`, `avg`, `mean`, `overall`, `macro` or `micro` is an average of the row. Figures are percentages when any is
above 1.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np

from medr1.diagnosis import FAIL, NOT_CHECKED, PASS
from medr1.errors import DataError
from medr1.results import ABSENT, Interval, Record

AVERAGES = ("average", "avg", "avg.", "mean", "overall", "macro", "micro")
LONG_COLUMNS = {"model", "test", "accuracy"}
POWER, ALPHA = 0.8, 0.05
"""Of the minimum detectable difference: two runs on n questions each, two-sided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One reported accuracy, as it is printed."""

    model: str
    test: str
    printed: str
    """Digits as printed: `61.70` says more than `61.7`."""
    n: int | None
    """Questions behind it; None for averages and where the table does not tell."""

    @property
    def is_average(self) -> bool:
        """Whether it is an average of its row."""
        return self.test.strip().lower() in AVERAGES


class CheckedFigure(Record):
    """One reported accuracy; shares are 0..1, and all but the figure is None where its n is not known."""

    model: str
    test: str
    printed: str
    n: int | None
    possible: bool | None = None
    """Whether some whole k gives the printed digits."""
    informative: bool | None = None
    """False where n is so large that every figure of that precision is possible."""
    k: tuple[int, int] | None = None
    """The first and the last such k."""
    nearest: list[str] | None = None
    """Figures that are possible, next to this one."""
    ci95: Interval | None = None
    detectable_gain: float | None = None
    detectable_loss: float | None = None


class CheckedAverage(Record):
    """One reported average beside those of its row: the plain mean, and that weighted by n where all n are known."""

    model: str
    test: str
    printed: str
    macro: Annotated[float | None, ABSENT] = None
    micro: Annotated[float | None, ABSENT] = None
    matches: list[str] | None
    """Which of them give the printed one, allowing for the rounding of all figures; None for an empty row."""


class CheckedTable(Record):
    """What the figures of a table can be."""

    scale: int
    figures: list[CheckedFigure]
    averages: list[CheckedAverage]
    n_impossible: int
    n_wrong_averages: int
    verdicts: list[str]


def check_table(path: Path, n: int | None = None) -> CheckedTable:
    """Check every figure of a CSV or JSON table; `n` is the number of questions where the table does not tell.

    `DataError` for a table that cannot be read.
    """
    figures = read_table(path, n)
    scale = 100 if any(Fraction(figure.printed) > 1 for figure in figures) else 1
    for figure in figures:
        if not 0 <= Fraction(figure.printed) <= scale:
            raise DataError(f"{path}: {figure.printed} of {figure.model} on {figure.test} is no accuracy; correct it")
    checked = [check_figure(figure, scale) for figure in figures if not figure.is_average]
    rows: dict[str, list[Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.model, []).append(figure)
    averages = [check_average(average, row) for row in rows.values() for average in row if average.is_average]
    return CheckedTable(
        scale=scale,
        figures=checked,
        averages=averages,
        n_impossible=sum(item.possible is False for item in checked),
        n_wrong_averages=sum(item.matches == [] for item in averages),
        verdicts=_verdicts(checked, averages),
    )


def check_figure(figure: Figure, scale: int) -> CheckedFigure:
    """GRIM test, Wilson interval and detectable difference of one figure."""
    given = CheckedFigure(model=figure.model, test=figure.test, printed=figure.printed, n=figure.n)
    if figure.n is None:
        return given
    value, half, n = Fraction(figure.printed) / scale, _half_unit(figure.printed) / scale, figure.n
    # Both roundings of an exact half are accepted: papers differ in them.
    first, last = max(0, math.ceil((value - half) * n)), min(n, math.floor((value + half) * n))
    nearest = min(n, max(0, round(value * n)))
    gain, loss = detectable_difference(nearest / n, n)
    return given.extended(
        CheckedFigure,
        possible=first <= last,
        informative=2 * half * n < 1,
        k=(first, last) if first <= last else None,
        nearest=[_printed(Fraction(k, n) * scale, figure.printed) for k in _around(value * n, n)],
        ci95=_wilson(nearest, n),
        detectable_gain=gain,
        detectable_loss=loss,
    )


def check_average(average: Figure, row: Sequence[Figure]) -> CheckedAverage:
    """Which averages of the row's figures give the printed one."""
    parts = [figure for figure in row if not figure.is_average]
    weights: dict[str, list[int]] = {"macro": [1] * len(parts)}
    numbers = [figure.n for figure in parts if figure.n is not None]
    if parts and len(numbers) == len(parts):
        weights["micro"] = numbers
    means = {name: _weighted(parts, weight) for name, weight in weights.items() if parts}
    printed, own_half = Fraction(average.printed), _half_unit(average.printed)
    matches = [name for name, (mean, half) in means.items() if abs(mean - printed) <= half + own_half]
    return CheckedAverage(
        model=average.model,
        test=average.test,
        printed=average.printed,
        **{name: float(mean) for name, (mean, _) in means.items()},
        matches=matches if parts else None,
    )


def detectable_difference(accuracy: float, n: int) -> tuple[float | None, float | None]:
    """Smallest gain and loss of a second run on n other questions that is found with 80 % power at alpha 0.05.

    Two-sided test of two independent proportions on Cohen's h (arcsine). None where no accuracy is far enough away.
    On the same questions a paired test finds smaller differences.
    """
    from statsmodels.stats.power import NormalIndPower

    effect = float(NormalIndPower().solve_power(nobs1=n, alpha=ALPHA, power=POWER, ratio=1.0))
    angle = 2 * math.asin(math.sqrt(accuracy))
    gain = math.sin((angle + effect) / 2) ** 2 - accuracy if angle + effect <= math.pi else None
    loss = accuracy - math.sin((angle - effect) / 2) ** 2 if angle - effect >= 0 else None
    return gain, loss


def read_table(path: Path, n: int | None = None) -> list[Figure]:
    """Figures of a CSV or JSON table in either shape; `DataError` names what cannot be read."""
    rows = _rows(path)
    columns = {name.strip().lower() for name in rows[0]}
    figures = _long(rows, path, n) if columns >= LONG_COLUMNS else _wide(rows, path, n)
    if not figures:
        raise DataError(f"{path} holds no accuracies; see `medr1 data check-table --help` for the two shapes")
    return figures


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); export it again") from error
    if path.suffix.lower() == ".json":
        rows = _json_rows(content, path)
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(content, newline=""), strict=True))
        except csv.Error as error:
            raise DataError(f"{path} is not CSV ({error}); export it again") from error
    if not rows:
        raise DataError(f"{path} holds no rows; check that it is the right file")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise DataError(f"{path} row {number} has more or fewer cells than the header; quote texts with commas")
    return rows


def _json_rows(content: str, path: Path) -> list[dict[str, str]]:
    try:
        # Numbers stay texts: 61.70 is printed with two decimals.
        rows = json.loads(content, parse_float=str, parse_int=str)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); mend the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is not a list of objects; write one object a row")
    return [{str(key): "" if value is None else str(value) for key, value in row.items()} for row in rows]


def _long(rows: Sequence[Mapping[str, str]], path: Path, n: int | None) -> list[Figure]:
    figures = []
    for number, row in enumerate(rows, start=1):
        cells = {name.strip().lower(): cell.strip() for name, cell in row.items()}
        where = f"{path} row {number}"
        printed = _number(cells["accuracy"], where)
        size = _size(cells["n"], where) if cells.get("n") else n
        figure = Figure(model=cells["model"], test=cells["test"], printed=printed, n=size)
        figures.append(figure)
    return figures


def _wide(rows: Sequence[Mapping[str, str]], path: Path, n: int | None) -> list[Figure]:
    first = next(iter(rows[0]))
    sizes: dict[str, int] = {}
    for row in rows:
        if row[first].strip().lower() == "n":
            sizes = {name: _size(cell, f"{path} row n, {name}") for name, cell in row.items() if name != first and cell}
    figures = []
    for number, row in enumerate(rows, start=1):
        if row[first].strip().lower() == "n":
            continue
        for name, cell in row.items():
            if name != first and cell.strip() not in ("", "-", "–"):
                printed = _number(cell, f"{path} row {number}, {name}")
                figures.append(
                    Figure(model=row[first].strip(), test=name.strip(), printed=printed, n=sizes.get(name, n))
                )
    return figures


def _number(cell: str, where: str) -> str:
    """Digits of `61.70`, `61.70 %` or `61.70 ± 1.2`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*(?:(?:±|\+/-).*)?", cell)
    if found is None:
        raise DataError(f"{where}: {cell[:40]!r} is not an accuracy; write it as 61.70")
    return found[1]


def _size(cell: str, where: str) -> int:
    digits = cell.strip().replace(",", "")
    if not digits.isdecimal() or int(digits) == 0:
        raise DataError(f"{where}: {cell[:40]!r} is not a number of questions; write it as 300")
    return int(digits)


def _half_unit(printed: str) -> Fraction:
    """Half of the last printed decimal place."""
    return Fraction(1, 2 * 10 ** len(printed.partition(".")[2]))


def _printed(value: Fraction, like: str) -> str:
    return f"{float(value):.{len(like.partition('.')[2])}f}"


def _around(k: Fraction, n: int) -> list[int]:
    """The whole numbers below and above k."""
    return sorted({min(n, max(0, math.floor(k))), min(n, max(0, math.ceil(k)))})


def _wilson(k: int, n: int) -> Interval:
    from statsmodels.stats.proportion import proportion_confint

    low, high = np.asarray(proportion_confint(k, n, alpha=ALPHA, method="wilson"), float).tolist()
    return low, high


def _weighted(parts: Sequence[Figure], weights: Sequence[int]) -> tuple[Fraction, Fraction]:
    """Weighted mean of the printed figures, and how far rounding may have moved it."""
    total = sum(weights)
    mean = sum((Fraction(p.printed) * w for p, w in zip(parts, weights, strict=True)), Fraction(0)) / total
    half = sum((_half_unit(p.printed) * w for p, w in zip(parts, weights, strict=True)), Fraction(0)) / total
    return mean, half


def _verdicts(figures: Sequence[CheckedFigure], averages: Sequence[CheckedAverage]) -> list[str]:
    lines = [
        f"{FAIL}: {item.model} on {item.test}: {item.printed} is no k / {item.n:,}; "
        f"nearest is {' or '.join(dict.fromkeys(item.nearest or ()))}."
        for item in figures
        if item.possible is False
    ]
    lines += [
        f"{FAIL}: {item.model}: {item.test} {item.printed} is not {item.macro:.2f}, the mean of its row."
        for item in averages
        if item.matches == []
    ]
    vague = sum(item.informative is False for item in figures)
    unknown = sum(item.n is None for item in figures)
    if vague:
        lines.append(f"{NOT_CHECKED}: {vague} figures: n is too large for their decimals, so every one is possible.")
    if unknown:
        lines.append(f"{NOT_CHECKED}: {unknown} figures have no n; give it in a row or column n, or with --n.")
    if not lines:
        lines.append(f"{PASS}: all {len(figures)} figures and {len(averages)} averages are possible.")
    return lines
