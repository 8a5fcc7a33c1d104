"""Options of a command, made from its Settings; and the progress of what it does.

    @takes(EvalSettings, prints="results.json")
    def evaluate_command(settings: EvalSettings, as_json: bool) -> None: ...

is a command with one option for each field, `--config` for a recipe, `--quiet` and `--json`. What stands on the command
line beats the recipe. Values are read by the Settings alone; here they are texts.
"""

import inspect
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.progress import Progress

from medr1.doors import clean
from medr1.errors import ConfigError
from medr1.records import as_json
from medr1.results import Record
from medr1.settings import POSITIONAL, REPEATED, Settings, complaints, recipe_values

S = TypeVar("S", bound=Settings)
CONFIG_HELP = "Recipe: YAML with these settings, or the name of one of medr1's; options win."
SECONDS_BETWEEN_LINES = 30.0
"""Of progress where no terminal shows a bar."""


quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether the command that runs was told to say nothing but its results and errors."""


@dataclass(frozen=True, slots=True)
class Then:
    """What a command says when it is done, beside where it wrote; `{out}` and other settings stand in its texts."""

    look: str = ""
    """What to open."""
    next: str = ""
    """What to run next."""

    def say(self, settings: Settings) -> None:
        """On standard error. Where nothing was written, what would."""
        values = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
        out = getattr(settings, "out", None) or getattr(settings, "run", None)
        if out is None:
            note("Nothing was written; --out DIR keeps it.")
            return
        values["out"] = str(out)
        look = self.look.format_map(values)
        note(f"Written to {out}." + (f" Open {look}." if look and Path(look).exists() else ""))
        if self.next:
            note(f"Next: {self.next.format_map({name: shlex.quote(value) for name, value in values.items()})}")


def note(sentence: str) -> None:
    """Tell the user something beside the results, on standard error; nothing under `--quiet`."""
    if not quiet.get():
        typer.echo(clean(sentence), err=True)


def takes(
    settings: type[S], *, prints: str | None = None, then: Then | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with the Settings as its options, and `--quiet`.

    Args:
        settings: of the command.
        prints: what `--json` prints instead of tables; None: the command has no `--json`.
        then: what is said when it is done, for commands that write; not with `--json`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(context: typer.Context, **given: Any) -> None:
            as_json = given.pop("as_json", None)
            quiet.set(given.pop("be_quiet"))
            asked = settings_of(settings, context, **given)
            command(asked) if as_json is None else command(asked, as_json)
            if then is not None and not as_json:
                then.say(asked)

        run.settings, run.then = settings, then  # type: ignore[attr-defined]
        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        options = {name: _option(name, settings.model_fields[name]) for name in in_order(settings)}
        options["config"] = Annotated[str | None, typer.Option("--config", help=CONFIG_HELP, metavar="RECIPE")]
        for name, annotation in options.items():
            parameters.append(_parameter(name, annotation, None))
        silent = typer.Option("--quiet", help="Say nothing but results and errors: no progress, no advice.")
        parameters.append(_parameter("be_quiet", Annotated[bool, silent], False))
        if prints is not None:
            said = typer.Option("--json", help=f"Print {prints}, for programs.")
            parameters.append(_parameter("as_json", Annotated[bool, said], False))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def settings_of(settings: type[S], context: typer.Context, *, config: str | None, **given: Any) -> S:
    """The Settings that a command line and its recipe give. Raises `ConfigError` for what a recipe says wrongly.

    What is wrong on the command line itself is wrong usage: exit code 2.
    """
    values = {name: value for name, value in given.items() if value is not None and value != []}
    recipe = {} if config is None else recipe_values(settings.recipe_kind(), config)
    try:
        return settings.model_validate({**recipe, **values})
    except ValidationError as error:
        name, sentence = next(complaints(error))
        own = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(own, ConfigError):
            raise own from error
        if name in settings.model_fields and (name in values or name not in recipe):
            flag = _flag(name, settings.model_fields[name])
            context.fail(f"missing {flag}" if name not in values else sentence.replace(name, flag, 1))
        raise ConfigError(f"{config}: {sentence}") from error


def in_order(settings: type[Settings]) -> list[str]:
    """Fields as help lists them: what stands without a flag, then those of the class itself, of its parents last."""
    names = list(dict.fromkeys(name for one in settings.__mro__ for name in vars(one).get("__annotations__", {})))
    names = [name for name in names if name in settings.model_fields]
    return sorted(names, key=lambda name: POSITIONAL not in settings.model_fields[name].metadata)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _flag(name: str, field: FieldInfo) -> str:
    return name.upper() if POSITIONAL in field.metadata else f"--{name.replace('_', '-')}"


def _option(name: str, field: FieldInfo) -> Any:
    """The parameter of a command for a field, as typer declares it."""
    flag, help_text = _flag(name, field), _help(field)
    several = get_origin(field.annotation) is tuple
    if POSITIONAL in field.metadata:
        return Annotated[
            list[str] | None if several else str | None,
            typer.Argument(help=help_text, metavar=f"{flag}..." if several else flag, show_default=False),
        ]
    if field.annotation is bool:
        both = f"{flag}/--no-{flag[2:]}" if field.default is True else flag
        return Annotated[bool | None, typer.Option(both, help=help_text, show_default=False)]
    kind = list[str] if REPEATED in field.metadata else str
    return Annotated[kind | None, typer.Option(flag, help=help_text, metavar=_kind(field), show_default=False)]


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if field.is_required():
        return f"{text}  [required]"
    default = field.default
    if default is None or default is PydanticUndefined or isinstance(default, bool) or default == ():
        return text
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{text}  [default: {shown}]"


def _kind(field: FieldInfo) -> str:
    """What a value looks like: PATH, INTEGER, NUMBER, `a|b`, or TEXT."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return "TEXT" if REPEATED in field.metadata else "TEXT,…"
    return {Path: "PATH", int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")  # type: ignore[arg-type]


class Show(Protocol):
    """Called with how much is done, of how much where that is known, and of what where it is not the command's all."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Show it."""
        ...


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """A bar on a terminal; elsewhere, such as in a log file, a line every half minute and at each end."""
    console = Console(stderr=True, quiet=quiet.get())
    if not console.is_terminal:
        yield _lines(console, what)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int | None = None, what: str | None = None, *, whole: str = what) -> None:
            bar.update(task, description=what or whole, completed=done, total=total)

        yield show


@dataclass(slots=True)
class _Stage:
    """What is being done, when and where it began, and when a line last told of it."""

    began: float
    first: int
    told: float

    def left(self, now: float, done: int, total: int | None) -> str:
        """How long it takes yet at the pace so far; nothing where that cannot be told."""
        if total is None or done >= total or done <= self.first:
            return ""
        seconds = (now - self.began) / (done - self.first) * (total - done)
        return f", about {timedelta(seconds=round(seconds))} left"


def _lines(console: Console, whole: str) -> Show:
    stages: dict[str, _Stage] = {}

    def show(done: int, total: int | None = None, what: str | None = None) -> None:
        name, now = what or whole, time.monotonic()
        stage = stages.setdefault(name, _Stage(now, done, now - SECONDS_BETWEEN_LINES))
        if done == total or now - stage.told >= SECONDS_BETWEEN_LINES:
            stage.told = now
            share = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            said = f"{name}: {share}{stage.left(now, done, total)}"
            console.print(said, highlight=False, markup=False, soft_wrap=True)

    return show


def print_json(value: Record | Mapping[str, object]) -> None:
    """On standard output, as it stands in a file."""
    typer.echo(as_json(value, indent=2))
