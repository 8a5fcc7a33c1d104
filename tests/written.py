"""Results as their JSON has them, for tests that state the contract on disk; and records of a few stated fields."""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from medr1.results import Record

P = ParamSpec("P")
R = TypeVar("R", bound=Record)


def written(value: Any) -> Any:
    """A value with every record in it as its JSON has it."""
    if isinstance(value, Record):
        return value.written()
    if isinstance(value, Mapping):
        return {name: written(part) for name, part in value.items()}
    return [written(part) for part in value] if isinstance(value, (list, tuple)) else value


def as_written(function: Callable[P, Any]) -> Callable[P, Any]:
    """The function, with its result as its JSON has it."""

    def called(*args: P.args, **kwargs: P.kwargs) -> Any:
        return written(function(*args, **kwargs))

    return called
