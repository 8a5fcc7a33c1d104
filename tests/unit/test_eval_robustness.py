"""Robustness figures worked out by hand."""

import pytest

from medr1.eval.robustness import adjusted, area_under_curve, noise_floor, outcome, reliant_ids, robustness
from medr1.types import Prediction


def answer(name: str, letter: str | None, *, status: str = "ok", text: str = "", modality: str = "CT") -> Prediction:
    return Prediction(
        id=name,
        variant="",
        draw=0,
        group=name,
        modality=modality,
        task="other",
        source="s",
        options=("a", "b"),
        gold="A",
        prompt_style="bare",
        completion=text,
        answer=letter,
        parse_status=status,
        num_tokens=1,
    )


CLEAN = [answer(name, letter) for name, letter in zip("abcdefgh", "AAAAAABB", strict=True)]
REFUSAL = "I'm sorry, but I cannot answer that."
ATTACKED = [
    answer("a", "A"),
    answer("b", "B"),
    answer("c", "B"),
    answer("d", None, status="missing_tag", text="hm"),
    answer("e", None, status="missing_tag", text=REFUSAL),
    answer("g", "A"),
    answer("h", "B"),
]


def test_by_hand() -> None:
    """Eight asked, `f` has no prediction: it is failed and no success of the attack."""
    scores = robustness(CLEAN, ATTACKED, n_asked=8, reliant={"a", "b"}, in_train={"a", "b", "c", "d", "e"})
    assert scores["n"] == 7
    assert scores["failed"] == 1
    assert scores["clean_accuracy"] == pytest.approx(5 / 7)
    assert scores["robust_accuracy"] == pytest.approx(2 / 7)
    assert scores["n_attacked"] == 5
    assert scores["attack_success_rate"] == pytest.approx(4 / 5)
    assert scores["lost"] == {"flipped": 2, "unreadable": 1, "refused": 1}
    assert scores["recovered"] == 1
    assert scores["mcnemar_p"] == pytest.approx(2 * (1 + 5) / 2**5)  # one of five flips goes the other way
    lo, hi = scores["attack_success_ci95"]
    assert (lo, hi) == pytest.approx((0.3755, 0.9638), abs=1e-4)  # Wilson, 4 of 5
    assert scores["image_reliant"]["robust_accuracy"] == 0.5
    assert scores["image_not_in_train"]["n"] == 2
    assert scores["by_modality"]["CT"]["n"] == 7


def test_nothing_predicted_is_no_success() -> None:
    scores = robustness(CLEAN, [], n_asked=8)
    assert (scores["n"], scores["failed"]) == (0, 8)
    assert scores["robust_accuracy"] is None
    assert scores["attack_success_rate"] is None


def test_outcomes() -> None:
    assert [outcome(p) for p in ATTACKED[:5]] == ["right", "flipped", "flipped", "unreadable", "refused"]


def test_noise_floor_counts_other_answers_right_or_wrong() -> None:
    again = [*CLEAN[:6], answer("g", "A"), answer("h", "B")]
    assert noise_floor(CLEAN, again)["share"] == pytest.approx(1 / 8)


def test_reliant_questions() -> None:
    assert reliant_ids([{"id": "a", "reliant": True}, {"id": "b", "reliant": False}, {"id": "c", "reliant": None}]) == {
        "a"
    }


def test_holm_over_the_cells() -> None:
    cells = {"x": {"mcnemar_p": 0.01}, "y": {"mcnemar_p": 0.04}, "z": {"error": "crashed"}}
    assert adjusted(cells) == {"x": pytest.approx(0.02), "y": pytest.approx(0.04)}


def test_area_under_the_curve() -> None:
    assert area_under_curve({0: 1.0, 4: 0.5, 8: 0.0}) == pytest.approx(0.5)
    assert area_under_curve({0: 1.0}) is None
