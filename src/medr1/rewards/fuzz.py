"""Tries to earn a reward without answering.

What an honest right and an honest wrong answer earn is measured first, in every form that prompts ask for. A probe is
a finding where it

- gives no single answer, and earns more than an honest wrong answer, or as much as an honest right one;
- gives no single answer in no proper form, and earns what a wrong answer earns for its form;
- gives the right answer in no proper form, to a reward of the form, and earns as much as a proper one.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from medr1.answers.without_options import gold_text
from medr1.errors import ConfigError, DataError
from medr1.prompts import PROMPTS, question_text, render
from medr1.results import Record
from medr1.rewards import REWARDS
from medr1.rewards.probes import QUESTIONS, Probe, Question, Slow, honest, probes, slow_patterns
from medr1.rewards.trl import sample_columns
from medr1.settings import POSITIONAL, Settings
from medr1.types import Sample, Score

Pays = Callable[[str, Sample], float | None]
"""What a completion earns; None where the reward says so, which TRL takes for "not to be counted"."""


def find_reward(name: str) -> Pays:
    """The reward of that name of `REWARDS`, or `file.py:function`.

    The file is run. Its function takes either `(completion, sample)` and returns a number or a `Score`, or TRL's
    `(prompts, completions, **columns)` and returns a list of numbers.

    Raises:
        ConfigError: there is no such reward, file or function, or the file cannot be imported.
    """
    if name in REWARDS:
        reward = REWARDS[name]
        return lambda completion, sample: reward(completion, sample).value
    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ConfigError(f"there is no reward {name!r}; choose one of {', '.join(REWARDS)}, or file.py:function")
    return _adapted(_load(Path(path), function), name)


def _load(path: Path, function: str) -> Callable[..., Any]:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; give the reward as file.py:function")
    spec = importlib.util.spec_from_file_location(f"medr1_user_reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the file look their module up
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"{path} cannot be imported: {error}; mend it or install what it needs") from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"{path} has no function {function!r}; it has {', '.join(names) or 'none'}")
    return found


def _adapted(function: Callable[..., Any], name: str) -> Pays:
    """The function in our form, by the names of its parameters: TRL's has `completions`."""
    parameters = inspect.signature(function).parameters
    if "completions" in parameters:
        return _from_trl(function, parameters, name)

    def pays(completion: str, sample: Sample) -> float | None:
        value = function(completion, sample)
        return value.value if isinstance(value, Score) else _number(value, name)

    return pays


def _from_trl(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], name: str) -> Pays:
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())

    def pays(completion: str, sample: Sample) -> float | None:
        columns = {"completions": [_as_conversation(completion)], **{k: [v] for k, v in columns_of(sample).items()}}
        given = columns if takes_all else {key: value for key, value in columns.items() if key in parameters}
        values = function(**given)
        if not isinstance(values, list | tuple) or len(values) != 1:
            raise ConfigError(f"{name} returns {values!r} for one completion; a reward of TRL returns a list of one")
        return _number(values[0], name)

    missing = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in {"completions", *columns_of(Sample(id="", images=(), question=""))}
    ]
    if missing:
        known = ", ".join(columns_of(Sample(id="", images=(), question="")))
        raise ConfigError(
            f"{name} needs the columns {', '.join(missing)}, which are unknown here: give them defaults, or name them "
            f"as one of {known}"
        )
    return pays


def columns_of(sample: Sample) -> dict[str, object]:
    """What a reward of TRL is called with besides the completion: our columns, and the names in use elsewhere.

    `solution` is the gold answer between answer tags, as the published systems have it; `answer`, `ground_truth` and
    `label` are the gold answer alone.
    """
    gold = gold_text(sample) or ""
    asked = [{"role": "user", "content": render(PROMPTS["think"], sample)}]
    return {
        "prompts": asked,
        **sample_columns(sample),
        "problem": question_text(sample, "lines"),
        "solution": f"<answer> {gold} </answer>",
        "answer": gold,
        "ground_truth": gold,
        "label": gold,
        "completion_ids": [0],
        "trainer_state": None,
    }


def _as_conversation(completion: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": completion}]


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} returns {value!r}; a reward returns a number") from error


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


class FuzzReport(Record):
    """What can be had from one reward."""

    reward: str
    answer_types: tuple[str, ...]
    """That it rewards."""
    skipped: dict[str, str]
    """The other types, and why."""
    completions: int
    """That were tried."""
    findings: tuple[Finding, ...]
    """Worst first."""
    slow: tuple[Slow, ...]


class FuzzReports(Record):
    """`fuzz.json`."""

    rewards: tuple[FuzzReport, ...]


def fuzz(name: str, *, with_time: bool = True) -> FuzzReport:
    """What can be had from the reward of that name, or of `file.py:function`, without an answer.

    Args:
        name: as `find_reward` takes it.
        with_time: look for completions that take the reward too long as well, about a second of computing.

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
    slow = _slow(pays, rewarded) if with_time else ()
    return FuzzReport(
        reward=name,
        answer_types=tuple(rewarded),
        skipped={kind: why for kind, why in skipped.items() if kind not in rewarded},
        completions=tried,
        findings=tuple(_grouped(found)),
        slow=tuple(sorted(slow, key=lambda pattern: -pattern.exponent)),
    )


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


def _slow(pays: Pays, rewarded: dict[str, Question]) -> Iterator[Slow]:
    """Slow patterns on the first type that the reward knows: reading the tags is the same for all."""
    question = next(iter(rewarded.values()))

    def paid(completion: str) -> None:
        try:
            pays(completion, question.sample)
        except (*FAILURES, DataError):
            return  # that it fails is a finding of the probes

    yield from slow_patterns(paid)


class FuzzSettings(Settings):
    """Which rewards are tried, and how."""

    rewards: Annotated[tuple[str, ...], POSITIONAL] = ()
    """Rewards by name, or file.py:function in the signature of TRL or ours. The file is run, with all that it does:
    name only files that you trust. Without any: every reward of medr1."""
    out: Path | None = None
    """Folder for fuzz.json, with whole example texts."""
    time: bool = True
    """Look for completions that take a reward too long as well."""
    strict: bool = False
    """End with exit code 1 where anything is found."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""
