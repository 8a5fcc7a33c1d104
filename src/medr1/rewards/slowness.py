"""Whether a reward's time grows faster than its completion: a quadratic regular expression stalls a training."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PREFIXES = ("", "<think>", "<answer>", "<think>r</think><answer>")
UNITS = ("<answer>", "</answer>", "</think><answer>", "<think>", "<answer>B", "<answer>B</answer>", "\\boxed{")
UNITS += (" ", "B ", "a", "(", ", ", "1")
FIRST, LONGEST = 64, 65_536
"""Characters of the completions that are tried; the longest is what some 16,000 tokens give."""
NOTICEABLE = 0.03
"""Seconds a completion below which growth is noise, and harmless."""
ENOUGH = 0.1
"""Seconds after which longer completions are not tried."""
STEEP = 1.5
"""Exponent from which on growth is reported: n log n stays below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A kind of completion whose time grows faster than its length."""

    prefix: str
    unit: str
    characters: int
    seconds: float
    exponent: float
    """Of the growth: 1 is linear, 2 quadratic."""


def slow_patterns(pays: Callable[[str], object], clock: Callable[[], float] = time.thread_time) -> Iterator[Slow]:
    """Every pattern on which the reward is slow.

    Args:
        pays: the reward for one question.
        clock: seconds of computing that have passed; not of the wall clock, which also runs while others compute.
    """
    for prefix in PREFIXES:
        for unit in UNITS:
            found = _growth(pays, clock, prefix, unit)
            if _is_slow(found) and _is_slow(again := _growth(pays, clock, prefix, unit)):  # a hiccup does not repeat
                yield min(found, again, key=lambda growth: growth.exponent)


def _is_slow(growth: Slow) -> bool:
    return growth.seconds >= NOTICEABLE and growth.exponent >= STEEP


def _growth(pays: Callable[[str], object], clock: Callable[[], float], prefix: str, unit: str) -> Slow:
    """Time on the longest completion that was tried, and its growth over the last two doublings of the length."""
    times: list[float] = []
    characters = FIRST
    while True:
        completion = prefix + unit * (characters // len(unit))
        times.append(_seconds(pays, clock, completion))
        doublings = min(2, len(times) - 1)
        before = times[-1 - doublings]
        exponent = math.log2(times[-1] / before) / doublings if doublings and before > 0 and times[-1] > 0 else 0.0
        # Growth this steep is exponential: the next length would take for ever.
        hopeless = exponent > 4 and times[-1] > 0.001
        if characters >= LONGEST or times[-1] > ENOUGH or hopeless:
            return Slow(prefix=prefix, unit=unit, characters=characters, seconds=times[-1], exponent=exponent)
        characters *= 2


def _seconds(pays: Callable[[str], object], clock: Callable[[], float], completion: str) -> float:
    start = clock()
    pays(completion)
    return clock() - start
