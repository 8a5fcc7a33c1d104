"""What makes an accuracy void: at each limit, just beyond and just within."""

from collections import Counter
from typing import Any

import pytest

from medr1.diagnosis import Answers, void
from medr1.results.evaluated import Overlap, Void


def answers(given: str, gold: str | None = None, *, failed: int = 0, questions: int | None = None) -> Answers:
    """Answers by letter, `-` for an unreadable one; the right letters go round A to D."""
    right = gold or ("ABCD" * len(given))[: len(given)]
    return Answers(
        given=Counter(None if letter == "-" else letter for letter in given),
        statuses={"missing_tag": given.count("-"), "ok": len(given) - given.count("-")},
        gold=Counter(right),
        questions=len(given) if questions is None else questions,
        failed=failed,
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (answers("ABAB"), None),
        (answers("----"), "4 of 4 answers could not be read (missing tag 4)"),
        (answers("A" + 9 * "-"), None),
        (answers("A" + 10 * "-"), "10 of 11 answers could not be read"),
        (answers(10 * "B"), "all 10 readable answers are B, whatever was asked"),
        (answers(9 * "B"), None),
        (answers(9 * "B" + "C"), None),
        (answers(9 * "B" + "-"), None),
        (answers(10 * "B" + "---"), "all 10 readable answers are B"),
        # Several draws of few questions are one answer each.
        (answers(12 * "B", questions=3), None),
        (answers(10 * "B", gold=10 * "B"), "the right answer to all 10 questions is B"),
        (answers("ABCDABCDAB", gold=10 * "A"), "the right answer to all 10 questions is A"),
        (answers("ABCDABCDA", gold=9 * "A"), None),
        (answers("AB", failed=3), "3 of 5 answers failed"),
        (answers("AB", failed=2), None),
    ],
)
def test_each_limit(found: Answers, why: str | None) -> None:
    lines = void(found)
    assert [line.what for line in lines] == (["accuracy"] if why else [])
    assert why is None or lines[0].why.startswith(why)


@pytest.mark.parametrize(
    ("overlap", "what"),
    [
        (None, []),
        (Overlap(questions=1, pictures=1), []),  # one of a hundred
        (Overlap(questions=2, pictures=2), ["accuracy", "blind.text_prior"]),
        (Overlap(questions=1, pictures=2), ["accuracy"]),
        (Overlap(questions=0, pictures=1), []),
    ],
)
def test_overlap_with_the_training_data(overlap: Overlap | None, what: list[str]) -> None:
    assert [line.what for line in void(answers(25 * "ABCD"), overlap=overlap)] == what


def test_what_receipts_say_stands_first_and_all_that_is_wrong_is_said() -> None:
    lines: list[Void] = void(answers(12 * "-"), receipts=["fail: nobody saw a picture"])
    assert lines[0] == Void(what="accuracy", why="fail: nobody saw a picture")
    assert len(lines) == 2


def test_nothing_at_all_is_no_measurement_of_anything() -> None:
    counts: dict[str, Any] = {"given": Counter(), "statuses": {}, "gold": Counter(), "questions": 0}
    assert void(Answers(**counts)) == []
    assert void(Answers(**counts, failed=3))[0].why.startswith("3 of 3 answers failed")
