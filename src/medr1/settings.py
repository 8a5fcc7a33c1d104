"""Settings: all that a command is asked for, as one frozen value.

A field is at once an argument in Python, a key of a YAML recipe, a flag of the command line and an entry of the
manifest; the text under it is its help everywhere. Each command's own Settings stand in its package, where the names
that it takes are known.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from medr1.errors import ConfigError, MedR1Error

T = TypeVar("T")

POSITIONAL = "positional"
"""Mark of a field that stands on the command line without a flag."""
REPEATED = "repeated"
"""Mark of a field whose flag is given once for each of its values."""
Positional = Annotated[T, POSITIONAL]
Repeated = Annotated[tuple[T, ...], REPEATED]


def _cut(value: object) -> object:
    """A text with commas, as the command line has it, cut at them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


Several = Annotated[tuple[T, ...], BeforeValidator(_cut)]
"""Values that stand with commas on the command line, as a list or such a text in a recipe."""


class Settings(BaseModel):
    """What a command is asked for. Raises `ConfigError` for names it does not have and values it cannot take."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigError(next(sentence for _, sentence in complaints(error))) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # `model_validate` raises its own error

    @classmethod
    def read(cls, recipe: str | Path, **given: Any) -> Self:
        """Settings from a recipe, with those of its values replaced that are given."""
        return cls(**{**recipe_values(cls.recipe_kind(), recipe), **given})

    @classmethod
    def recipe_kind(cls) -> str:
        """Folder of the package's recipes for these Settings: `eval` of `EvalSettings`."""
        return cls.__name__.removesuffix("Settings").lower()

    @property
    def changed(self) -> set[str]:
        """Names of the fields that are not at their defaults."""
        return {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}

    def dump(self, *but: str) -> dict[str, object]:
        """The fields as JSON values but some: what a recipe with the same meaning holds, for the manifest."""
        return self.model_dump(mode="json", exclude=set(but))


class RunSettings(Settings):
    """Settings of a command that writes a folder."""

    out: Path
    """Folder to write."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    def dump(self, *but: str) -> dict[str, object]:
        """As of `Settings`, but for where to write: the same run in another folder has the same."""
        return super().dump("out", "overwrite", *but)


def complaints(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Name of the field and a sentence for each thing that is wrong."""
    for detail in error.errors():
        yield str(detail["loc"][0]) if detail["loc"] else "", _sentence(detail)


def _sentence(detail: ErrorDetails) -> str:
    name, kind = str(detail["loc"][0]) if detail["loc"] else "", detail["type"]
    own = detail.get("ctx", {}).get("error")
    if isinstance(own, MedR1Error):
        return str(own)
    if kind == "missing":
        return f"{name} is needed; give it"
    if kind == "extra_forbidden":
        return f"there is no setting {name!r}; --help lists them"
    said = detail["msg"].removeprefix("Value error, ")
    return f"{name} is {detail['input']!r}: {said[0].lower()}{said[1:]}"


def known(kind: str, name: str, choices: Mapping[str, object]) -> str:
    """The name, if it is one of a registry. Raises `ConfigError`."""
    if name not in choices:
        raise ConfigError(f"there is no {kind} {name!r}; choose one of {', '.join(choices)}")
    return name


def recipe_path(kind: str, name: str | Path) -> Path:
    """A recipe: a YAML file of the user's, or one of the package by name.

    Args:
        kind: folder of the package's recipes: `grpo`, `eval`, …
        name: path, or name without `.yaml`.

    Raises:
        ConfigError: there is no such file and no such name.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(str(files("medr1"))) / "recipes" / kind
    own = folder / f"{name}.yaml"
    if own.is_file():
        return own
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    choices = f"give a path or one of the {kind} recipes {names}" if names else "give the path of a YAML file"
    raise ConfigError(f"there is no recipe file {str(name)!r}; {choices}")


def recipe_values(kind: str, name: str | Path) -> dict[str, Any]:
    """What a recipe says, by setting. Raises `ConfigError` for what is no YAML file of names and values."""
    path = recipe_path(kind, name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid YAML ({str(error).splitlines()[0]}); mend it") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} does not hold one value a name; write lines such as limit: 100")
    return values
