"""What a training has logged so far, and what a rule says of it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

Severity = Literal["warning", "error"]
"""`error`: the run learns nothing or the wrong thing; `warning`: it goes on, but likely not where it should."""

WINDOW = 10
"""Records averaged before a rule speaks: a single step of a few dozen completions is noise."""
LogLine = Mapping[str, Any]
"""A line of `train_log.jsonl`: values by the names that trainers and rewards give them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a run."""

    name: str
    severity: Severity
    step: int
    """Step at which it first showed."""
    figure: str
    """What was seen."""
    problem: str
    remedy: str

    def line(self) -> str:
        """All of it in one line."""
        return f"{self.severity} at step {self.step}, {self.name}: {self.problem} ({self.figure}). {self.remedy}"


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a rule saw and says."""

    figure: str
    problem: str
    remedy: str


class History:
    """The records so far, as one list of numbers per logged value."""

    def __init__(self) -> None:
        self.step = 0
        self._values: dict[str, list[float]] = {}
        self._steps: dict[str, list[int]] = {}
        self._best: dict[str, float] = {}

    def add(self, record: LogLine) -> None:
        """Append a record; what is not a number is left out."""
        self.step = int(record.get("step", self.step))
        for key, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._values.setdefault(key, []).append(float(value))
                self._steps.setdefault(key, []).append(self.step)
                self._best[key] = max(self._best.get(key, -math.inf), self.mean(key) or -math.inf)

    def values(self, key: str) -> list[float]:
        """All values under a key."""
        return self._values.get(key, [])

    def keys(self, pattern: str) -> list[str]:
        """The keys that match a regular expression."""
        return [key for key in self._values if re.fullmatch(pattern, key)]

    def rewards(self) -> dict[str, str]:
        """The key of each reward's mean, by the name of the reward."""
        return {key[len("rewards/") : -len("/mean")]: key for key in self.keys(r"rewards/.*/mean")}

    def best(self, key: str) -> float:
        """Highest mean of a window so far; minus infinity while there are too few values."""
        return self._best[key]

    def mean(self, key: str, *, before: int = 0) -> float | None:
        """Mean of the last window, or of the one `before` records earlier; None while there are too few."""
        values = self.values(key)
        end = len(values) - before
        return fmean(values[end - WINDOW : end]) if end >= WINDOW else None

    def first(self, key: str) -> float | None:
        """Mean of the first window, once a second one has followed it."""
        values = self.values(key)
        return fmean(values[:WINDOW]) if len(values) >= 2 * WINDOW else None

    def standing(self, key: str, value: float) -> int:
        """Steps for which a value has stood at this one; the first of its records speaks for the steps before it."""
        steps, values = self._steps.get(key, []), self.values(key)
        start = len(values)
        while start and values[start - 1] == value:
            start -= 1
        return steps[-1] - (steps[start - 1] if start else 0) if start < len(values) else 0

    def steps_covered(self, key: str) -> int:
        """Steps between the first and the last value."""
        steps = self._steps.get(key, [])
        return steps[-1] - steps[0] + 1 if steps else 0

    def share_of_maximum(self) -> float | None:
        """Mean of the rewards in the last window; every reward has the maximum 1."""
        means = [self.mean(key) for key in self.rewards().values()]
        known = [mean for mean in means if mean is not None]
        return fmean(known) if known and len(known) == len(means) else None
