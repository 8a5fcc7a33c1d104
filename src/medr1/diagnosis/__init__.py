"""Pure rules from what a run left behind to what is wrong with it: the log of a training, the results of an evaluation.

A rule looks at numbers alone and has three outcomes: nothing is wrong, something is, or it could not be judged.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean, variance
from typing import TypedDict

from medr1.diagnosis.answers import LEAK_FAIL, Answers, unreadable, void
from medr1.diagnosis.history import WINDOW, Finding, History, LogLine, Severity, Symptom
from medr1.diagnosis.training import (
    FLAT_ERRORS,
    FLAT_REWARD,
    REWARD_RULES,
    RULES,
    SATURATED_REWARD,
    TOO_SHORT,
    UNPAID_STEPS,
)

__all__ = [
    "FAIL",
    "LEAK_FAIL",
    "LEVELS",
    "NOT_CHECKED",
    "PASS",
    "RULES",
    "WARN",
    "Answers",
    "Finding",
    "LogLine",
    "Watch",
    "diagnose",
    "unreadable",
    "void",
    "watched",
]

FAIL, WARN, NOT_CHECKED, PASS = "fail", "warn", "not checked", "pass"
LEVELS = (FAIL, WARN, NOT_CHECKED, PASS)
"""What a line of judgement begins with, the gravest first; `not checked` is no pass."""


class RewardVerdict(TypedDict):
    """How one reward did: its mean in the first and in the last record, and what that means."""

    first: float
    last: float
    verdict: str


class Watch:
    """Reads a log record by record and tells each finding once, when it first shows."""

    def __init__(self) -> None:
        self.history = History()
        self.findings: list[Finding] = []

    def add(self, record: LogLine) -> list[Finding]:
        """What this record brings to light."""
        self.history.add(record)
        known = {finding.name for finding in self.findings}
        found = []
        for name, severity, look in self._rules():
            symptom = None if name in known else look()
            if symptom is not None:
                seen = (symptom.figure, symptom.problem, symptom.remedy)
                found.append(Finding(name, severity, self.history.step, *seen))
        self.findings += found
        return found

    def _rules(self) -> Iterator[tuple[str, Severity, Callable[[], Symptom | None]]]:
        """Every rule for the run and for each of its rewards: name, severity, and the rule for the history."""
        for name, rule in RULES.items():
            yield name, rule.severity, partial(rule.look, self.history)
        for reward, key in self.history.rewards().items():
            for name, (severity, look) in REWARD_RULES.items():
                yield f"{name}: {reward}", severity, partial(look, self.history, key)

    def not_checked(self) -> dict[str, str]:
        """The rules about the whole run that could not say anything, with the reason."""
        known = {finding.name for finding in self.findings}
        reasons = {name: rule.unjudged(self.history) for name, rule in RULES.items() if name not in known}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def rewards(self) -> dict[str, RewardVerdict]:
        """Each reward by itself."""
        named = {finding.name: finding for finding in self.findings}
        found: dict[str, RewardVerdict] = {}
        for reward, key in self.history.rewards().items():
            values = self.history.values(key)
            wrong = [finding.figure for rule in REWARD_RULES if (finding := named.get(f"{rule}: {reward}"))]
            verdict = wrong[0] if wrong else _movement(self.history, key)
            found[reward] = {"first": values[0], "last": values[-1], "verdict": verdict}
        return found


def _movement(history: History, key: str) -> str:
    """Where a reward went, if that can be told from the noise of a batch."""
    values = history.values(key)
    if len(values) < 2 * WINDOW or history.steps_covered(key) < UNPAID_STEPS:
        return f"{TOO_SHORT} ({len(values)} of {2 * WINDOW} records)"
    early, late = values[:WINDOW], values[-WINDOW:]
    rise, error = fmean(late) - fmean(early), math.sqrt((variance(early) + variance(late)) / WINDOW)
    if abs(rise) <= max(FLAT_ERRORS * error, FLAT_REWARD):
        return "at its maximum" if fmean(late) >= SATURATED_REWARD else "does not move"
    return f"{'rises' if rise > 0 else 'falls'} by {abs(rise):.2f}"


def watched(records: Sequence[LogLine]) -> Watch:
    """A log, read to its end."""
    watch = Watch()
    for record in records:
        watch.add(record)
    return watch


def diagnose(records: Sequence[LogLine]) -> list[Finding]:
    """Findings of a whole log, in the order in which they showed; one for each rule (and reward) at most.

    >>> [finding.name for finding in diagnose([{"step": 1, "grad_norm": float("nan")}])]
    ['broken gradient']
    """
    return watched(records).findings
