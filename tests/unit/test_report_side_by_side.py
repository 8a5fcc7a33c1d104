"""Tables of several runs: the cells that decide what a reader believes."""

from medr1.report.side_by_side import all_tables, beside, pairs, runs
from medr1.report.tables import Table


def pair(base: str, other: str, value: float, p: float) -> dict:
    return {
        "base": base,
        "other": other,
        "test": "exact McNemar",
        "difference": {"value": value, "ci95": [value - 0.1, value + 0.1]},
        "p_holm": p,
        "flips": {"wrong_to_right": 12, "right_to_wrong": 3},
        "agreement": 0.75,
        "detectable_difference": 0.08,
    }


def run(accuracy: float, rank: list[int]) -> dict:
    blank = {"blank": {"accuracy": 0.25}}
    scores = {"accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05], "chance": 0.3, "unreadable": 0.02}
    return scores | {"rank": rank, "controls": blank}


COMPARED = {
    "n": 1000,
    "left_out": {"a": 2, "b": 0, "c": 1},
    "differing_arguments": {"prompt": {}, "data_hash": {}},
    "runs": {"a": run(0.5, [3, 3]), "b": run(0.7, [1, 2]), "c": run(0.71, [1, 2])},
    "pairs": [pair("a", "b", 0.2, 1e-9), pair("a", "c", 0.21, 2e-9), pair("b", "c", 0.01, 0.6)],
    "blind_twin": None,
    "gain": {"b": None, "c": None},
    "by": {"modality": {"CT": {}}},
}


def test_reference_ranks_and_adjusted_p() -> None:
    table = runs(COMPARED)
    assert table.rows == [
        ("a", "50.0 [45.0, 55.0]", "3", "–", "–", "–", "–"),
        ("b", "70.0 [65.0, 75.0]", "1–2 (tie)", "20.0 [10.0, 30.0]", "1e-09", "12 / 3", "75.0"),
        ("c", "71.0 [66.0, 76.0]", "1–2 (tie)", "21.0 [11.0, 31.0]", "2e-09", "12 / 3", "75.0"),
    ]
    assert "1,000 answers that all runs gave, 3 others left out; exact McNemar" in table.note
    assert "differ in: prompt." in table.note


def test_the_other_pairs() -> None:
    assert pairs(COMPARED).rows == [("b → c", "1.0 [-9.0, 11.0]", "0.6", "12 / 3", "75.0")]
    assert pairs(COMPARED | {"pairs": COMPARED["pairs"][:1]}).rows == []


def test_the_blind_twin_is_a_column() -> None:
    lead = {"difference": {"value": 0.2, "ci95": [0.1, 0.3]}, "p": 0.001, "p_holm": 0.002}
    twin = {"name": "blind", "accuracy": 0.3, "ci95": [0.2, 0.4], "runs": dict.fromkeys("abc", lead)}
    table = beside(COMPARED | {"blind_twin": twin})
    assert table.columns[-1] == "over the blind twin (30.0 [20.0, 40.0]), points (p Holm)"
    assert table.rows[0] == ("a", "30.0", "2.0", "25.0", "20.0 [10.0, 30.0] (0.002)")
    assert beside(COMPARED).rows[0] == ("a", "30.0", "2.0", "25.0")


def test_a_single_part_and_no_split_make_no_table() -> None:
    titles: list[str] = [table.title for table in all_tables(COMPARED) if isinstance(table, Table)]
    assert titles == ["Runs side by side", "Beside the accuracies", "The other pairs"]
