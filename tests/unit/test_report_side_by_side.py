"""Tables of several runs: the cells that decide what a reader believes."""

from typing import Any

from medr1.report.side_by_side import all_tables, beside, pairs, runs
from medr1.results.compared import BlindTwin
from report_cases import METHOD, compared, difference, pair


def named_pair(base: str, other: str, value: float, p: float) -> dict[str, Any]:
    return pair(base, other, difference(value, [value - 0.1, value + 0.1]), p_holm=p)


def run(accuracy: float, rank: list[int]) -> dict[str, Any]:
    blank = {"blank": {"n": 1000, "accuracy": 0.25, "ci95": [0.2, 0.3], **METHOD}}
    scores = {"n": 1000, "accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05], **METHOD}
    return scores | {"chance": 0.3, "unreadable": 0.02, "prompt": "think", "rank": rank, "controls": blank}


COMPARED = compared(
    left_out={"a": 2, "b": 0, "c": 1},
    differing_arguments={"prompt": {}, "data_hash": {}},
    runs={"a": run(0.5, [3, 3]), "b": run(0.7, [1, 2]), "c": run(0.71, [1, 2])},
    pairs=[named_pair("a", "b", 0.2, 1e-9), named_pair("a", "c", 0.21, 2e-9), named_pair("b", "c", 0.01, 0.6)],
    gain={"b": None, "c": None},
    by={"modality": {"CT": {"n": 1000, "n_groups": 9, "runs": {}, "differences": {}}}},
)


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
    assert pairs(COMPARED.model_copy(update={"pairs": COMPARED.pairs[:1]})).rows == []


def test_the_blind_twin_is_a_column() -> None:
    lead = {"difference": difference(0.2, [0.1, 0.3]), "p": 0.001, "p_holm": 0.002}
    twin = {name: value for name, value in run(0.3, []).items() if name != "rank"} | {"ci95": [0.2, 0.4]}
    twin |= {"name": "blind", "runs": dict.fromkeys("abc", lead)}
    table = beside(COMPARED.model_copy(update={"blind_twin": BlindTwin.model_validate(twin)}))
    assert table.columns[-1] == "over the blind twin (30.0 [20.0, 40.0]), points (p Holm)"
    assert table.rows[0] == ("a", "30.0", "2.0", "25.0", "20.0 [10.0, 30.0] (0.002)")
    assert beside(COMPARED).rows[0] == ("a", "30.0", "2.0", "25.0")


def test_a_single_part_and_no_split_make_no_table() -> None:
    titles = [table.title for table in all_tables(COMPARED)]
    assert titles == ["Runs side by side", "Beside the accuracies", "The other pairs"]
