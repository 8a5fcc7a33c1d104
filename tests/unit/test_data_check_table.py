"""Published tables: the GRIM test, averages, intervals and detectable differences, by hand."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data.check_table import Figure, check_figure, check_table, detectable_difference, read_table
from medr1.errors import DataError

WIDE = """model,MRI,CT,X-ray,average
n,300,300,300,
Qwen2-VL-2B,61.67,50.67,53.00,55.11
MedVLM-R1,95.33,70.33,69.00,78.22
"""
"""The figures of the abstract of arXiv:2502.19634 and the multiples of 1/300 that give them."""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def figure(printed: str, n: int | None) -> Figure:
    return Figure(model="m", test="t", printed=printed, n=n)


@pytest.mark.parametrize(
    ("printed", "n", "possible", "k"),
    [
        ("61.67", 300, True, (185, 185)),  # 185 / 300 = 61.666…
        ("61.66", 300, False, None),
        ("61.68", 300, False, None),
        ("62", 300, True, (185, 187)),  # 61.5 to 62.5: 184.5 to 187.5
        ("33.33", 3, True, (1, 1)),
        ("0.00", 7, True, (0, 0)),
        ("100.0", 7, True, (7, 7)),
        ("12.5", 8, True, (1, 1)),
        ("0.2", 436, True, (1, 1)),
        ("55.11", 900, True, (496, 496)),
        # Exactly between two printed values: 1 / 16 = 6.25 is printed as 6.2 or as 6.3.
        ("6.2", 16, True, (1, 1)),
        ("6.3", 16, True, (1, 1)),
    ],
)
def test_grim_by_hand(printed: str, n: int, possible: bool, k: tuple[int, int] | None) -> None:
    found = check_figure(figure(printed, n), scale=100)
    assert (found.possible, found.k) == (possible, k)


@given(n=st.integers(1, 3000), share=st.fractions(0, 1), decimals=st.integers(0, 3))
def test_every_true_accuracy_is_possible(n: int, share: Fraction, decimals: int) -> None:
    k = round(share * n)
    found = check_figure(figure(f"{100 * k / n:.{decimals}f}", n), scale=100)
    assert found.possible
    assert found.k is not None
    assert found.k[0] <= k <= found.k[1]


@given(n=st.integers(1, 99), cents=st.integers(0, 10_000))
def test_possible_means_that_a_count_prints_so(n: int, cents: int) -> None:
    """Against all counts: the distance to the nearest share is at most half of the last place."""
    nearest = min(abs(Fraction(k, n) * 100 - Fraction(cents, 100)) for k in range(n + 1))
    found = check_figure(figure(f"{cents / 100:.2f}", n), scale=100)
    assert found.possible == (nearest <= Fraction(1, 200))


def test_large_n_is_not_informative() -> None:
    assert check_figure(figure("61.67", 300), 100).informative
    assert not check_figure(figure("61.67", 10_000), 100).informative
    assert not check_figure(figure("61.7", 1000), 100).informative
    assert check_figure(figure("61.7", 999), 100).informative


def test_nearest_possible_figures() -> None:
    assert check_figure(figure("61.80", 300), 100).nearest == ["61.67", "62.00"]


def test_wilson_interval_of_the_count() -> None:
    # Wilson (1927) for 185 of 300 by its formula.
    p, n, z = 185 / 300, 300, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert check_figure(figure("61.67", 300), 100).ci95 == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_detectable_difference_is_found_with_eighty_percent_power() -> None:
    from scipy.stats import norm

    gain, loss = detectable_difference(0.7, 300)
    assert gain is not None
    assert loss is not None
    # Cohen 1988: h = (z_0.975 + z_0.8) sqrt(2 / n); the far tail of the two-sided test is negligible here.
    h = (norm.ppf(0.975) + norm.ppf(0.8)) * (2 / 300) ** 0.5
    from math import asin, sqrt

    for other in (0.7 + gain, 0.7 - loss):
        assert abs(2 * asin(sqrt(other)) - 2 * asin(sqrt(0.7))) == pytest.approx(h, abs=1e-5)
    assert detectable_difference(1.0, 50)[0] is None
    assert detectable_difference(0.0, 50)[1] is None


def test_wide_table(tmp_path: Path) -> None:
    result = check_table(write(tmp_path / "t.csv", WIDE))
    assert (result.scale, result.n_impossible, result.n_wrong_averages) == (100, 0, 0)
    assert [average.matches for average in result.averages] == [["macro", "micro"]] * 2
    assert result.verdicts == ["pass: all 6 figures and 2 averages are possible."]
    wrong = check_table(
        write(tmp_path / "t.csv", WIDE.replace("50.67", "50.60").replace("55.11", "55.09").replace("78.22", "78.42"))
    )
    assert (wrong.n_impossible, wrong.n_wrong_averages) == (1, 1)
    assert wrong.verdicts == [
        "fail: Qwen2-VL-2B on CT: 50.60 is no k / 300; nearest is 50.33 or 50.67.",
        "fail: MedVLM-R1: average 78.42 is not 78.22, the mean of its row.",
    ]


def test_figures_that_could_not_be_tested_are_not_passed(tmp_path: Path) -> None:
    for table, told in (
        ("model,a,b\nm,61.7,50\n", "2 figures have no n"),
        ("model,a\nn,100000\nm,61.7\n", "1 figures: n is too large for their decimals"),
    ):
        (line,) = check_table(write(tmp_path / "t.csv", table)).verdicts
        assert line.startswith(f"not checked: {told}")


def test_weighted_and_plain_averages_are_told_apart(tmp_path: Path) -> None:
    table = "model,a,b,mean\nn,100,300,\nplain,50,70,60\nweighted,50,70,65\n"
    found = check_table(write(tmp_path / "t.csv", table)).averages
    assert [average.matches for average in found] == [["macro"], ["micro"]]


def test_long_table_in_shares_and_json(tmp_path: Path) -> None:
    rows = '[{"model": "m", "test": "a", "accuracy": 0.6170, "n": 300}, {"model": "m", "test": "b", "accuracy": 0.5}]'
    result = check_table(write(tmp_path / "t.json", rows))
    first, second = result.figures
    assert result.scale == 1
    # The trailing zero counts: 0.6170 is not 185 / 300 = 0.61666…
    assert (first.printed, first.possible) == ("0.6170", False)
    assert second.possible is None
    assert check_table(tmp_path / "t.json", n=2).figures[1].k == (1, 1)


@pytest.mark.parametrize("cell", ["61.67", "61.67 %", " 61.67% ", "61.67 ± 1.2", "61.67 +/- 1"])
def test_cells_as_papers_write_them(tmp_path: Path, cell: str) -> None:
    assert read_table(write(tmp_path / "t.csv", f"model,a\nm,{cell}\n"))[0].printed == "61.67"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no rows"),
        ("model,a\nm,high\n", "'high' is not an accuracy"),
        ("model,a\nm,101.5\n", "101.5 of m on a is no accuracy"),
        ("model,a\nn,none\nm,50\n", "'none' is not a number of questions"),
        ("model,a\nn,0\nm,50\n", "'0' is not a number of questions"),
        ("model,a\nm,50,60\n", "row 1 has more or fewer cells"),
        ("model,a\nm,\n", "holds no accuracies"),
    ],
)
def test_unusable_tables_are_user_errors(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_table(write(tmp_path / "t.csv", text))


@given(st.text())
def test_any_json_text_is_a_table_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("t") / "t.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError):
        check_table(path)


def test_command(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WIDE)
    found = CliRunner().invoke(app, ["check-table", str(path), "--json"], catch_exceptions=False)
    assert json.loads(found.stdout) == check_table(path).written()
    shown = CliRunner().invoke(app, ["check-table", str(path)], catch_exceptions=False).stdout
    assert "pass: all 6 figures" in shown
