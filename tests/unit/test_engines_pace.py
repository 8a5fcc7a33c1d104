"""Waiting: hand values."""

from datetime import UTC, datetime

import pytest

from medr1.engines.pace import LONGEST_BACK_OFF, Pace, asked_delay, retry_delay


def test_starts_are_evenly_spaced_and_idle_time_is_not_saved_up() -> None:
    pace = Pace(per_minute=20)
    assert [pace.reserve(now) for now in (10.0, 10.0, 10.0, 12.5)] == [0.0, 3.0, 6.0, 6.5]
    assert [pace.reserve(now) for now in (100.0, 100.0)] == [0.0, 3.0]


def test_without_a_limit_nobody_waits_but_all_wait_for_a_hold() -> None:
    pace = Pace(None)
    assert [pace.reserve(5.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    pace.hold(7.5)
    pace.hold(6.0)
    assert [pace.reserve(now) for now in (5.0, 7.0, 8.0)] == [2.5, 0.5, 0.0]


def test_delays_double_up_to_a_bound_and_the_server_is_obeyed() -> None:
    for attempt, full in ((1, 2.0), (2, 4.0), (3, 8.0), (5, 32.0), (6, LONGEST_BACK_OFF), (60, LONGEST_BACK_OFF)):
        delays = [retry_delay(attempt, 2.0, None) for _ in range(200)]
        assert 0.75 * full <= min(delays) < max(delays) <= full
    assert retry_delay(3, 2.0, 0.0) == 0.0
    assert retry_delay(1, 2.0, 90.0) == 90.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("-1", 0.0),
        ("nan", 0.0),
        ("Sun, 22 Nov 2026 16:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 15:59:30 GMT", 0.0),
        ("Sun, 22 Nov 2026 16:00:10 -0000", 10.0),
        ("tomorrow", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert asked_delay(header, now=datetime(2026, 11, 22, 16, 0, tzinfo=UTC)) == seconds
