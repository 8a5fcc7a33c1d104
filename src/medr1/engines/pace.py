"""When to send the next request to a server: rate limits, and waiting after a failure. No clock of its own."""

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACK_OFF = 60.0
"""Seconds between two tries where the server names no time."""
PATIENCE = 600.0
"""Seconds that one request waits in all between its tries, whatever the server asks for."""
LOST_AFTER = 50
"""Requests in a row that the server itself failed: then the others are not tried, they would wait hours for nothing."""
SILENCE = 1800.0
"""Seconds for which nothing but failures may come from a server; then the others are not tried."""


class Pace:
    """Hands out starting times, evenly spaced, for all requests to one server.

    >>> pace = Pace(per_minute=30)
    >>> pace.reserve(now=0.0), pace.reserve(now=0.5), pace.reserve(now=9.0)
    (0.0, 1.5, 0.0)
    """

    def __init__(self, per_minute: float | None) -> None:
        self.gap = 60.0 / per_minute if per_minute else 0.0
        self.free = 0.0

    def reserve(self, now: float) -> float:
        """Seconds to wait before the request that asks may start."""
        start = max(now, self.free)
        self.free = start + self.gap
        return start - now

    def hold(self, until: float) -> None:
        """Let no further request start before that time."""
        self.free = max(self.free, until)


def retry_delay(attempt: int, first: float, asked: float | None) -> float:
    """Seconds before the further try `attempt` (from 1): what the server asks for, else doubled from `first`.

    Up to a quarter is taken off at random, so that requests that failed together do not return together.
    """
    if asked is not None:
        return asked
    return min(LONGEST_BACK_OFF, first * 2 ** (attempt - 1)) * (1 - 0.25 * random.random())


def told_patience(tries: int, timeout: float, patience: float) -> str:
    """How long a run may wait for a server, in one sentence; times in seconds."""
    return (
        f"a request is tried up to {tries} times, {spoken(timeout)} each, and waits at most {spoken(patience)} between "
        f"them ({spoken(tries * timeout + patience)} in all); after {LOST_AFTER} failures in a row, or "
        f"{spoken(SILENCE)} of failures only, the others are not tried"
    )


def wished_delay(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of a reply ask for: `Retry-After`, or `retry-after-ms` as OpenAI and Azure send it."""
    milliseconds = asked_delay(headers.get("retry-after-ms"))
    return asked_delay(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000


def spoken(seconds: float) -> str:
    """A time as people say it.

    >>> spoken(2.5), spoken(600), spoken(3900), spoken(198_300)
    ('2.5 s', '10 min', '1 h 5 min', '2 days 7 h')
    """
    if seconds < 60:
        return f"{seconds:g} s"
    if math.isinf(seconds):
        return "for ever"
    minutes = round(seconds / 60)
    units = (("days", minutes // 1440), ("h", minutes // 60 % 24), ("min", minutes % 60))
    said = [f"{count} {'day' if (unit, count) == ('days', 1) else unit}" for unit, count in units if count]
    return " ".join(said[:2])


def asked_delay(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; None for none or one that is neither.

    >>> asked_delay("2.5"), asked_delay("soon"), asked_delay(None)
    (2.5, None, None)
    """
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    until = until.replace(tzinfo=until.tzinfo or UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
