"""A reward to be tried: one of ours by name, or a function in a user's file."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medr1.answers.without_options import gold_text
from medr1.errors import ConfigError
from medr1.prompts import PROMPTS, question_text, render
from medr1.rewards import REWARDS
from medr1.rewards.trl import sample_columns
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


def columns_of(sample: Sample) -> dict[str, Any]:
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
