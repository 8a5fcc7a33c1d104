"""Robustness figures worked out by hand."""

from dataclasses import replace

import pytest

from medr1.attack.run import adjusted, area_under_curve
from medr1.eval.pairs import changed, changed_share, fate, noise_floor, paired, robustness, turns
from medr1.results.attacked import CellScores, Crash
from medr1.types import Change, Prediction
from written import written


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
    known = {"reliant": {"a", "b"}, "in_train": {"a", "b", "c", "d", "e"}}
    scores = written(robustness(paired(CLEAN, ATTACKED), n_asked=8, **known))
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
    scores = written(robustness([], n_asked=8, reliant=set()))
    assert (scores["n"], scores["failed"]) == (0, 8)
    assert scores["robust_accuracy"] is None
    assert scores["attack_success_rate"] is None
    assert scores["image_reliant"]["n"] == 0


def test_fates() -> None:
    assert [fate(p) for p in ATTACKED[:5]] == ["right", "misled", "misled", "unreadable", "refused"]


def one_of_three(name: str, letter: str) -> Prediction:
    return replace(answer(name, letter), options=("a", "b", "c"))


def test_the_three_meanings_of_a_flip_differ() -> None:
    """Wrong to right: turned and changed, not misled. Another wrong option: changed only. Right to unreadable: turned
    and lost, not changed."""
    found = [
        Change(before=answer("g", "B"), after=answer("g", "A")),
        Change(before=one_of_three("h", "B"), after=one_of_three("h", "C")),
        Change(before=answer("d", "A"), after=answer("d", None, status="missing_tag", text="hm")),
        Change(before=answer("b", "A"), after=answer("b", "B")),
    ]
    assert written(turns(found)) == {"wrong_to_right": 1, "right_to_wrong": 2}
    assert [changed(change) for change in found] == [True, True, None, True]
    share = changed_share([*found, Change(before=answer("a", "A"), after=answer("a", "A"))])
    assert share is not None
    assert (share.n, share.value) == (4, pytest.approx(3 / 4))
    lost = robustness(found, n_asked=4).lost
    assert (lost.flipped, lost.unreadable) == (1, 1)


def test_noise_floor_counts_other_answers_right_or_wrong() -> None:
    again = [*CLEAN[:6], answer("g", "A"), answer("h", "B")]
    assert noise_floor(CLEAN, again).value == pytest.approx(1 / 8)


def test_holm_over_the_cells() -> None:
    cells = {name: CellScores.model_construct(mcnemar_p=p) for name, p in (("x", 0.01), ("y", 0.04))}
    cells |= {"z": Crash(attack="pgd", k=8, epsilon=8 / 255, error="crashed")}
    assert adjusted(cells) == {"x": pytest.approx(0.02), "y": pytest.approx(0.04)}


def test_area_under_the_curve() -> None:
    assert area_under_curve({0: 1.0, 4: 0.5, 8: 0.0}) == pytest.approx(0.5)
    assert area_under_curve({0: 1.0}) is None
