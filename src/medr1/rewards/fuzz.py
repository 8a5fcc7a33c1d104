"""Tries to earn a reward without answering.

What an honest right and an honest wrong answer earn is measured first, in every form that prompts ask for. A probe is
a finding where it

- gives no single answer, and earns more than an honest wrong answer, or as much as an honest right one;
- gives no single answer in no proper form, and earns what a wrong answer earns for its form;
- gives the right answer in no proper form, to a reward of the form, and earns as much as a proper one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medr1.errors import ConfigError, DataError
from medr1.rewards.probes import QUESTIONS, Probe, Question, honest, probes
from medr1.rewards.slowness import slow_patterns
from medr1.rewards.user import Pays, find_reward

FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""How a function of texts fails; each would end a training."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Completions that earn too much, or that the reward fails on, with the shortest of them."""

    probe: str
    answer_types: tuple[str, ...]
    problem: str
    value: float | None
    right: float
    """What an honest right answer earns."""
    wrong: float
    """What an honest wrong answer earns."""
    completions: int
    """How many completions of that name earn too much, over all questions."""
    example: str


def fuzz(name: str, *, with_time: bool = True) -> dict[str, Any]:
    """What can be had from the reward of that name, or of `file.py:function`, without an answer.

    Args:
        name: as `find_reward` takes it.
        with_time: look for completions that take the reward too long as well, about a second of computing.

    Returns:
        `reward`; `answer_types` that it rewards, and `skipped` with why; `completions` that were tried; `findings`
        (fields of `Finding`, worst first); `slow` (fields of `Slow`).

    Raises:
        ConfigError: no such reward, or one that pays for no question at all.
    """
    pays = find_reward(name)
    tried, skipped, found = 0, {}, []
    rewarded: dict[str, Question] = {}
    for question in QUESTIONS:
        kind = question.sample.answer_type
        try:
            baseline = _baseline(pays, question)
        except FAILURES as error:
            skipped[kind] = f"{type(error).__name__}: {error}"
            continue
        if baseline is None:
            skipped.setdefault(kind, "a right answer earns nothing")
            continue
        rewarded[kind] = question
        for probe in probes(question):
            tried += 1
            found += _judge(pays, question, probe, baseline)
    if not rewarded:
        reasons = "; ".join(f"{kind}: {why}" for kind, why in skipped.items())
        raise ConfigError(f"{name} rewards no question that was tried ({reasons}): check its gold column and signature")
    slow = [asdict(pattern) for pattern in (_slow(pays, rewarded) if with_time else ())]
    return {
        "reward": name,
        "answer_types": list(rewarded),
        "skipped": {kind: why for kind, why in skipped.items() if kind not in rewarded},
        "completions": tried,
        "findings": [asdict(finding) for finding in _grouped(found)],
        "slow": sorted(slow, key=lambda pattern: -pattern["exponent"]),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Baseline:
    """What honest completions to a question earn."""

    right: float
    wrong: float
    nothing: float
    wants_form: bool
    """Whether the same right answer earns more in one form than in the other."""


def _baseline(pays: Pays, question: Question) -> _Baseline | None:
    """None where the reward has nothing for a right answer to such a question."""
    right = {form: pays(text, question.sample) for form, text in honest(question.right).items()}
    wrong = [pays(text, question.sample) for text in honest(question.wrong).values()]
    rights, wrongs = ([value for value in values if value is not None] for values in (right.values(), wrong))
    nothing = pays("", question.sample)
    if not rights or (max(rights) <= 0 and max(rights) <= max(wrongs, default=0.0)):
        return None
    return _Baseline(
        right=max(rights),
        wrong=max(wrongs, default=0.0),
        nothing=0.0 if nothing is None else nothing,
        wants_form=right["think"] != right["nothink"],
    )


def _judge(pays: Pays, question: Question, probe: Probe, baseline: _Baseline) -> Iterator[Finding]:
    """The finding that the probe is, if it is one."""
    value = None
    try:
        value = pays(probe.completion, question.sample)
        problem = None if value is None else _problem(value, probe, baseline)
    except FAILURES as error:
        problem = f"fails with {type(error).__name__}"
    if problem is not None:
        yield Finding(
            probe=probe.name,
            answer_types=(question.sample.answer_type,),
            problem=problem,
            value=value,
            right=baseline.right,
            wrong=baseline.wrong,
            completions=1,
            example=probe.completion,
        )


def _problem(value: float, probe: Probe, baseline: _Baseline) -> str | None:
    """Why the probe should not earn that much; None where it may."""
    as_right = value >= baseline.right - ROUNDING
    if probe.commits:
        return "as much as the right form" if baseline.wants_form and as_right else None
    if value > baseline.wrong + ROUNDING:
        return "as much as a right answer" if as_right else "more than a wrong answer"
    if probe.well_formed:
        return None
    if as_right:  # to a reward that knows no right and wrong
        return "as much as a proper answer"
    pays_for_form = baseline.wrong > baseline.nothing + ROUNDING
    return "as much as a wrong answer in its form" if pays_for_form and value >= baseline.wrong - ROUNDING else None


def _grouped(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each probe and problem, with its best-paid and then shortest example."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.problem, finding.probe), []).append(finding)
    merged = []
    for group in groups.values():
        best = min(group, key=lambda finding: (-(finding.value or 0.0), len(finding.example)))
        types = tuple(dict.fromkeys(kind for finding in group for kind in finding.answer_types))
        merged.append(replace(best, answer_types=types, completions=len(group)))
    return sorted(merged, key=lambda finding: (finding.value is not None, -(finding.value or 0.0)))


def _slow(pays: Pays, rewarded: dict[str, Question]) -> Iterator[Any]:
    """Slow patterns on the first type that the reward knows: reading the tags is the same for all."""
    question = next(iter(rewarded.values()))

    def paid(completion: str) -> None:
        try:
            pays(completion, question.sample)
        except (*FAILURES, DataError):
            return  # that it fails is a finding of the probes

    yield from slow_patterns(paid)
