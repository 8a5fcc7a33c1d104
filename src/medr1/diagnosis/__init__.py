"""Pure rules from what a run left behind to what is wrong with it: the log of a training, the results of an evaluation.

A rule looks at numbers alone and has three outcomes: nothing is wrong, something is, or it could not be judged.
"""

from medr1.diagnosis.answers import LEAK_FAIL, Answers, unreadable, void
from medr1.diagnosis.history import Finding, LogLine
from medr1.diagnosis.training import RULES
from medr1.diagnosis.watch import Watch, diagnose, watched

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
