"""Where a gain came from: format, lookup, seeing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.eval.compare import split_gain as _split_gain
from medr1.types import Prediction
from stored_runs import drawn
from written import as_written

split_gain = as_written(_split_gain)


def run_of(original: str, blank: str) -> list[Prediction]:
    """One letter a question; the right one is A, `-` is unreadable."""
    first, second = (drawn({f"q{i}": letter for i, letter in enumerate(letters)}) for letters in (original, blank))
    return first + [replace(prediction, variant="blank") for prediction in second]


def parts_of(base: list[Prediction], other: list[Prediction], twin: list[Prediction] | None = None):
    found = split_gain(base, other, twin)
    assert found is not None
    return {name: part["value"] for name, part in found["parts"].items()}


def test_each_part_alone() -> None:
    base = run_of("AB--", "BBBB")
    assert parts_of(base, run_of("ABAB", "BBBB")) == pytest.approx({"format": 0.25, "lookup": 0, "seeing": 0})
    # All right on blank images too: nothing was seen.
    assert parts_of(run_of("AABB", "AABB"), run_of("AAAA", "AAAA")) == pytest.approx(
        {"format": 0, "lookup": 0.5, "seeing": 0}
    )
    assert parts_of(run_of("AABB", "AABB"), run_of("AAAA", "AABB")) == pytest.approx(
        {"format": 0, "lookup": 0, "seeing": 0.5}
    )


def test_parts_by_hand() -> None:
    # Readable 1/2 and 1; accuracy of the readable 1/2 and 3/4; on blank images 0 and 1/4.
    found = parts_of(run_of("AB--", "BB--"), run_of("AAAB", "ABBB"))
    assert found == pytest.approx({"format": 0.5 * 0.625, "lookup": 0.25 * 0.75, "seeing": 0.0})


def test_the_blind_twin_tells_what_could_be_looked_up() -> None:
    base, other = run_of("AABB", "BBBB"), run_of("AAAA", "BBBB")
    assert parts_of(base, other) == pytest.approx({"format": 0, "lookup": 0, "seeing": 0.5})
    twin = run_of("BBBB", "AAAB")
    assert parts_of(base, other, twin) == pytest.approx({"format": 0, "lookup": 0.75, "seeing": -0.25})


def test_without_blank_images_there_is_no_split() -> None:
    assert split_gain(drawn({"q": "A"}), run_of("A", "A")) is None


letters = st.text("AB-", min_size=6, max_size=6)


@given(letters, letters, letters, letters)
def test_parts_add_up_to_the_gain_within_their_intervals(a: str, blank_a: str, b: str, blank_b: str) -> None:
    found = split_gain(run_of(a, blank_a), run_of(b, blank_b))
    assert found is not None
    assert found["gain"] == pytest.approx((b.count("A") - a.count("A")) / 6, abs=1e-12)
    assert sum(part["value"] for part in found["parts"].values()) == pytest.approx(found["gain"], abs=1e-12)
    for part in found["parts"].values():
        assert part["ci95"][0] <= part["ci95"][1]
