"""Comparing two runs, and where the gain came from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from medr1.errors import DataError
from medr1.eval.compare import Chain, chain, names_gold, thinking_of
from medr1.eval.compare import compare as _compare
from medr1.eval.compare import decompose as _decompose
from medr1.eval.compare import stage_shares as _stage_shares
from medr1.types import ParseStatus, Prediction
from written import as_written

compare = as_written(_compare)
decompose = as_written(_decompose)
stage_shares = as_written(_stage_shares)

OPTIONS = ("Tumor", "No tumor", "Fracture")


def answered(number: int, answer: str | None, thinking: str = "", *, gold: str = "A", group: str = "") -> Prediction:
    return Prediction(
        id=f"q{number}",
        variant="",
        draw=0,
        group=group,
        modality="CT",
        task="unknown",
        source="s",
        options=OPTIONS,
        gold=gold,
        prompt_style="think",
        completion=f"<think>{thinking}</think><answer>{answer}</answer>",
        answer=answer,
        parse_status=ParseStatus.OK if answer else ParseStatus.MISSING_TAG,
        num_tokens=5,
    )


def run_of(answers: str) -> list[Prediction]:
    return [answered(i, None if a == "-" else a) for i, a in enumerate(answers)]


def test_comparison_by_hand() -> None:
    compared = compare(run_of("AABBB-"), run_of("ABAAA-"))
    assert compared["n"] == 6
    assert compared["base"]["accuracy"] == pytest.approx(2 / 6)
    assert compared["other"]["accuracy"] == pytest.approx(4 / 6)
    assert compared["flips"] == {"wrong_to_right": 3, "right_to_wrong": 1}
    assert compared["mcnemar_p"] == pytest.approx(binomtest(1, 4).pvalue)
    lo, hi = compared["difference"]["ci95"]
    assert lo < compared["difference"]["value"] == pytest.approx(2 / 6)
    assert hi > 2 / 6


def test_controls_of_a_run_are_not_compared_with_originals() -> None:
    blank = [replace(prediction, variant="blank", answer="C") for prediction in run_of("AABB")]
    assert compare(run_of("ABAB"), run_of("AABB") + blank) == compare(run_of("ABAB"), run_of("AABB"))
    assert decompose(run_of("ABAB"), run_of("AABB") + blank) == decompose(run_of("ABAB"), run_of("AABB"))


def test_only_what_both_answered_is_compared() -> None:
    compared = compare(run_of("AAA"), run_of("ABBBB")[1:])
    assert (compared["n"], compared["only_in_base"], compared["only_in_other"]) == (2, 1, 2)
    with pytest.raises(DataError, match="no sample in common"):
        compare(run_of("A"), run_of("AA")[1:])


def test_the_finding_is_named_right_if_no_other_is() -> None:
    assert names_gold(answered(0, "B", "a tumor"))
    assert not names_gold(answered(0, "A", "a tumor or a fracture"))
    assert not names_gold(answered(0, "A", "no tumor"))
    assert names_gold(answered(0, "B", "Compared to a fracture, this is a tumor"))
    assert not names_gold(answered(0, "B", "This is not a tumor"))


def test_thinking_is_what_stands_before_the_answer() -> None:
    assert thinking_of("<think> a <b> </think>\n< Answer>B</answer>") == "a <b>"
    assert thinking_of("only text") == "only text"


def test_stages_by_hand() -> None:
    run = [
        answered(0, "A", "tumor"),
        answered(1, "B", "tumor"),
        answered(2, "A", "fracture"),
        answered(3, "C", "fracture"),
        answered(4, None, "tumor"),
    ]
    assert chain(run) == Chain(readable=0.8, named=0.5, right_if_named=0.5, right_if_not=0.5)
    shares = stage_shares(run)
    assert [(shares[s]["n"], shares[s]["share"]) for s in ("format", "finding", "letter")] == [
        (5, 0.8),
        (4, 0.5),
        (2, 0.5),
    ]


def test_a_pure_change_of_format_is_all_format() -> None:
    base = [answered(i, "A" if i < 5 else None, "tumor") for i in range(10)]
    other = [answered(i, "A", "tumor") for i in range(10)]
    found = decompose(base, other)
    assert found["gain"] == pytest.approx(0.5)
    assert found["parts"] == pytest.approx({"format": 0.5, "finding": 0.0, "letter": 0.0})
    assert found["base"]["finding"]["n"] == 5


outcomes = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C", None]), st.sampled_from(["tumor", "fracture", "nothing"])),
    min_size=1,
    max_size=12,
)


@given(outcomes, outcomes)
def test_the_parts_add_up_to_the_gain(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    base, other = ([answered(i, a, t) for i, (a, t) in enumerate(run)] for run in (first, second))
    found = decompose(base, other)
    right = [sum(a == "A" for a, _ in run) / len(run) for run in (first, second)]
    assert found["gain"] == pytest.approx(right[1] - right[0], abs=1e-9)
    assert sum(found["parts"].values()) == pytest.approx(found["gain"], abs=1e-9)
