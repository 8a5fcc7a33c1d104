"""Checks on tables and files: each can pass and fail."""

import pytest

from medr1.attack import checks
from medr1.attack.checks import CHECKS, REQUIRED, Check, not_run, trustworthy, verdict
from medr1.attack.run import reasons, trust
from medr1.results.attacked import AttackedImage, CellScores, ImageAttack, Realised
from medr1.results.evaluated import Results, Void

GOOD = {name: verdict(True, "") for name in CHECKS}


def test_fifteen_checks() -> None:
    assert len(CHECKS) == len(set(CHECKS)) == 15


def test_trust_needs_every_required_check_and_no_failure() -> None:
    assert trustworthy(GOOD)
    assert trustworthy({**GOOD, "oracle": not_run("no toolbox")})
    assert not trustworthy({**GOOD, "oracle": verdict(False, "differs")})
    for name in REQUIRED:
        assert not trustworthy({**GOOD, name: not_run("switched off")})


def test_nothing_can_be_lost_of_a_clean_accuracy_that_is_void() -> None:
    measured = Results.model_construct(void=[])
    void = Results.model_construct(void=[Void(what="accuracy", why="all 40 readable answers are B")])
    assert (trust(GOOD, measured).trustworthy, trust(GOOD, void).trustworthy) == (True, False)
    assert (reasons(GOOD, measured), reasons(GOOD, void)) == ([], ["clean accuracy: all 40 readable answers are B"])


@pytest.mark.parametrize(
    ("curves", "status"),
    [
        ({"pgd": {2: 0.5, 4: 0.5, 8: 0.1}}, "passed"),
        ({"pgd": {8: 0.1, 4: 0.5, 2: 0.4}}, "failed"),
        ({"pgd": {8: 0.1}}, "not_run"),
    ],
)
def test_monotone(curves: dict[str, dict[int, float]], status: str) -> None:
    assert checks.monotone(curves).status == status


@pytest.mark.parametrize(
    ("curves", "status"),
    [
        ({"noise": {8: 0.78}, "fgsm": {8: 0.5}, "pgd": {8: 0.5}}, "passed"),
        ({"noise": {8: 0.78}, "fgsm": {8: 0.4}, "pgd": {8: 0.5}}, "failed"),
        ({"noise": {8: 0.76}, "pgd": {8: 0.5}}, "failed"),
        ({"pgd": {8: 0.5}}, "not_run"),
    ],
)
def test_order(curves: dict[str, dict[int, float]], status: str) -> None:
    assert checks.order(0.8, curves).status == status


def line(linf: int, k: int, digest: str = "x") -> AttackedImage:
    """What the check looks at, of a line of the manifest."""
    return AttackedImage.model_construct(
        realised=Realised.model_construct(linf_levels=linf),
        attack=ImageAttack.model_construct(k=k),
        pixel_sha256=digest,
    )


@pytest.mark.parametrize(
    ("lines", "status"), [([line(8, 8), line(0, 2)], "passed"), ([line(9, 8)], "failed"), ([line(1, 8, "y")], "failed")]
)
def test_budget_on_disk(lines: list[AttackedImage], status: str) -> None:
    assert checks.budget_on_disk(lines, lambda one: "x").status == status


@pytest.mark.parametrize(
    ("cell", "status"),
    [
        ({"n": 10, "failed": 0, "attacked_wrong": 0}, "passed"),
        ({"n": 9, "failed": 0, "attacked_wrong": 0}, "failed"),
        ({"n": 9, "failed": 1, "attacked_wrong": 0}, "failed"),
        ({"n": 10, "failed": 0, "attacked_wrong": 1}, "failed"),
    ],
)
def test_bookkeeping(cell: dict[str, int], status: str) -> None:
    known = CellScores.model_construct(**cell)
    assert checks.bookkeeping({"pgd-k8": known}, 10) == Check(
        status=status, detail=checks.bookkeeping({"pgd-k8": known}, 10).detail
    )  # type: ignore[arg-type]
