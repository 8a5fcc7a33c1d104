"""Image reliance: what changes without the evidence, and what does not."""

from dataclasses import replace

import pytest

from medr1.eval.reliance import reliance_rows
from medr1.eval.reliance import score_reliance as _score_reliance
from medr1.types import Prediction
from written import as_written

score_reliance = as_written(_score_reliance)

OPTIONS = ("a", "b", "c")


def answers(variant: str, letters: dict[str, str | None], options: tuple[str, ...] = OPTIONS) -> list[Prediction]:
    return [
        Prediction(
            id=id,
            variant=variant,
            draw=0,
            group="",
            modality="CT",
            task="other",
            source="s",
            options=options,
            gold="A",
            prompt_style="think",
            completion="",
            answer=letter,
            parse_status="ok",
            num_tokens=1,
        )
        for id, letter in letters.items()
    ]


ORIGINALS = answers("", {"sees": "A", "blind": "A", "wrong": "B", "mute": None, "lost": "A"})
CONTROLS = {
    "blank": answers("blank", {"sees": "A", "blind": "A", "wrong": "B", "mute": "A", "lost": None}),
    "swapped": answers("swapped", {"sees": "C", "blind": "A", "mute": "A"}),
    "low_resolution": answers("low_resolution", {"blind": "B", "wrong": "C"}),
}


def test_rows_say_what_became_of_each_answer() -> None:
    rows = {row.id: row for row in reliance_rows(ORIGINALS, CONTROLS)}
    assert rows["sees"].controls == {"blank": "same", "swapped": "changed"}
    assert rows["lost"].controls == {"blank": "unreadable"}
    assert {id: row.reliant for id, row in rows.items()} == {
        "sees": True,
        "blind": False,
        "wrong": False,
        "mute": None,
        "lost": None,
    }
    assert {row.quadrant for row in rows.values()} == {None}
    assert (rows["sees"].right, rows["wrong"].right, rows["mute"].answer) == (True, False, None)


def test_shares_are_of_the_questions_with_a_verdict() -> None:
    scores = score_reliance(reliance_rows(ORIGINALS, CONTROLS))
    assert scores is not None
    assert scores["n"] == 3
    assert scores["reliant"]["share"] == pytest.approx(1 / 3)
    # Two controls for two of the questions, one for the third: 1 - 1/9 twice, 1 - 1/3 once.
    assert scores["reliant"]["chance"] == pytest.approx((8 / 9 + 8 / 9 + 2 / 3) / 3)
    assert scores["right_and_reliant"]["share"] == pytest.approx(1 / 3)
    assert scores["right_without_image"]["share"] == pytest.approx(1 / 3)
    assert set(scores["by_control"]) == {"blank", "swapped"}
    assert (scores["by_control"]["blank"]["n"], scores["by_control"]["blank"]["unreadable"]) == (3, 2)
    assert scores["by_control"]["blank"]["changed"]["share"] == 0.0
    assert scores["by_control"]["swapped"]["changed"]["share"] == 0.5
    assert scores["quadrants"] is None


def test_no_control_without_evidence_no_verdict() -> None:
    assert score_reliance(reliance_rows(ORIGINALS, {"low_resolution": CONTROLS["low_resolution"]})) is None
    assert score_reliance([]) is None


def test_quadrants_cross_reliance_with_consistency() -> None:
    # Two options: one rotation, in which an answer with the same text has the other letter.
    letters: dict[str, str | None] = {"ideal": "A", "fragile": "A", "dangerous": "A", "worst": "A", "mute": None}
    originals = answers("", letters, ("a", "b"))
    blank = answers("blank", {**letters, "ideal": "B", "fragile": "B"}, ("a", "b"))
    rotated = [
        replace(p, variant="rotated1", answer="B" if p.id in ("ideal", "dangerous") else "A", options=("b", "a"))
        for p in originals
    ]
    rows = reliance_rows(originals, {"blank": blank, "rotated1": rotated})
    assert {row.id: row.quadrant for row in rows if row.id != "mute"} == {
        name: name for name in letters if name != "mute"
    }
    scores = score_reliance(rows)
    assert scores is not None
    assert {name: part["share"] for name, part in scores["quadrants"].items()} == {
        "ideal": 0.25,
        "fragile": 0.25,
        "dangerous": 0.25,
        "worst": 0.25,
    }


def test_draws_are_questions_of_their_own_and_groups_widen_the_interval() -> None:
    originals = [replace(p, draw=d, group="image") for p in answers("", {"q": "A"}) for d in (0, 1)]
    blank = [replace(originals[0], variant="blank"), replace(originals[1], variant="blank", answer="B")]
    rows = reliance_rows(originals, {"blank": blank})
    assert [row.reliant for row in rows] == [False, True]
    scores = score_reliance(rows)
    assert scores is not None
    lo, hi = scores["reliant"]["ci95"]
    assert hi - lo > 0.85  # one image: 0.89 wide; two independent questions would be 0.81
