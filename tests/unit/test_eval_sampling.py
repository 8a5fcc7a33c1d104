"""Several draws of a question, by hand."""

from statistics import stdev

import pytest

from medr1.eval.scoring import score_draws as _score_draws
from medr1.records import read_json
from stored_runs import drawn, questions, store
from written import as_written

score_draws = as_written(_score_draws)


def test_draws_by_hand() -> None:
    found = score_draws(drawn({"q1": "AAB", "q2": "B-B", "q3": "A-B"}), 3)
    assert (found["num_draws"], found["n_questions"], found["mean"]["n"]) == (3, 3, 9)
    assert found["mean"]["accuracy"] == pytest.approx(3 / 9)
    assert found["spread"]["by_draw"] == pytest.approx([2 / 3, 1 / 3, 0])
    assert (found["spread"]["min"], found["spread"]["max"]) == (0, 2 / 3)
    assert found["spread"]["sd"] == pytest.approx(stdev([2 / 3, 1 / 3, 0]))
    # The third question is a tie of one A and one B.
    assert found["majority"]["accuracy"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    passed = {k: scores["share"] for k, scores in found["pass_at_k"].items()}
    assert passed == pytest.approx({"1": 3 / 9, "2": (1 + 0 + 2 / 3) / 3, "3": 2 / 3})


def test_failed_draws_leave_the_question_to_the_others() -> None:
    found = score_draws(drawn({"q1": "A BA", "q2": " A  "}), 4)
    assert list(found["pass_at_k"]) == ["1", "2", "4"]
    assert found["pass_at_k"]["1"]["share"] == pytest.approx((2 / 3 + 1) / 2)
    assert (found["pass_at_k"]["2"]["n"], found["pass_at_k"]["2"]["share"]) == (1, 1.0)
    assert found["pass_at_k"]["4"] is None


def test_a_run_with_draws_has_the_block_and_one_without_has_not(tmp_path) -> None:
    samples = questions(20, per_image=2)
    drawn_run = read_json(store(tmp_path / "drawn", samples, right=0.6, num_draws=3) / "results.json")
    assert drawn_run["sampling"]["num_draws"] == 3
    assert drawn_run["sampling"]["mean"]["accuracy"] == drawn_run["accuracy"]
    assert drawn_run["confidence"]["votes"]["n"] == 20
    greedy = read_json(store(tmp_path / "greedy", samples, right=0.6) / "results.json")
    assert greedy["sampling"] is None
    assert greedy["confidence"] is None
