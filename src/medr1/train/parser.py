"""Command line and recipes of training: TRL's parser, with medr1's recipes by name and its one-line errors."""

import warnings
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import TrlParser

from medr1.errors import ConfigError, MedR1Error
from medr1.settings import recipe_path

FOREIGN_ERRORS = (
    ValueError,
    TypeError,
    ImportError,
    OSError,
    RuntimeError,
    AssertionError,
    AttributeError,
    LookupError,
)
"""What other libraries raise for settings that they do not take, or take for something else."""
FILES = ("accelerator_config", "deepspeed", "fsdp_config")
"""Settings that are the path of a JSON file, or the JSON itself."""
READ_AS: dict[str, Any] = {
    "scale_rewards": str | bool,
    "fsdp": str | bool | list[str] | None,
    "num_generations": int,
}
"""Types of settings that TRL and transformers declare otherwise than they read them."""


def parse(kind: str, classes: Sequence[type], arguments: Sequence[str]) -> tuple[Any, ...]:
    """Dataclasses of a training command from its arguments; flags beat the recipe.

    Raises:
        ConfigError: a recipe that is not there or not YAML, an unknown key, or a value that a class refuses.
    """
    words = list(arguments)
    if "--config" in words:
        named = words.index("--config") + 1
        if named == len(words):
            raise ConfigError(f"--config names no recipe; give a path or one of the {kind} recipes")
        words[named] = str(recipe_path(kind, words[named]))
    if "--bf16" not in words and not torch.cuda.is_available():
        words += ["--bf16", "false"]  # TRL's default is bfloat16, which it refuses without a GPU
    try:
        with warnings.catch_warnings():
            # TRL sets a default under the old name, so everybody would be warned.
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
            return Parser(classes).parse_args_and_config(args=words, fail_with_unknown_args=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe is no valid YAML: {str(error).splitlines()[0]}") from error
    except MedR1Error:
        raise
    except FOREIGN_ERRORS as error:
        unset_hf_deepspeed_config()  # every model that this process makes later would ask a half-made one
        if isinstance(error, ImportError) and error.args:
            missing = str(error.args[0]).strip(" .")  # what it says in whole is for programmers
            raise ConfigError(f"{kind}: {missing}; install it, or leave out the setting that needs it") from error
        raise ConfigError(f"{kind}: {str(error).strip() or repr(error)}") from error


class Parser(TrlParser):
    """TRL's, which looks at the values of a recipe before the argument classes do.

    Args:
        classes: the dataclasses to parse.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        super().__init__(list(classes))  # type: ignore[arg-type]
        self.fields: dict[str, Field[Any]] = {}
        self.types: dict[str, Any] = {}
        self.objects: set[str] = set()
        for one in self.dataclass_types:
            self.fields |= {field.name: field for field in fields(one)}
            self.types |= get_type_hints(one)
            self.objects |= set(getattr(one, "_VALID_DICT_FIELDS", ()))
        self.types |= {name: READ_AS[name] for name in READ_AS.keys() & self.types.keys()}

    def error(self, message: str) -> NoReturn:
        """Wrong usage in one line, without the list of all flags."""
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")

    def set_defaults_with_config(self, **recipe: Any) -> list[str]:
        """Take a recipe's values as the defaults of flags. Raises `ConfigError` for one of a wrong type."""
        return super().set_defaults_with_config(**{name: self._checked(name, recipe[name]) for name in recipe})

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """The parent's. Raises `ConfigError` for a text where a JSON object is needed, or a file that is not there."""
        found: Namespace
        found, rest = super().parse_known_args(*args, **kwargs)
        for name in self.objects:
            value = getattr(found, name, None)
            if not isinstance(value, str) or value.startswith("{"):
                continue
            if name not in FILES:
                raise ConfigError(f"{name} {value!r} is no JSON object; write it as in '{{\"key\": 1}}'")
            if value.endswith(".json") and not Path(value).is_file():
                raise ConfigError(f"{name}: there is no file {value}; give the path of a JSON file")
        return found, rest

    def _checked(self, name: str, value: Any) -> Any:
        """A recipe's value as its field is declared; unknown names are left for TRL to report."""
        if name not in self.types:
            return value
        declared = self.types[name]
        kinds = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
        if isinstance(value, int | float) and not isinstance(value, bool) and declared in (str, str | None):
            value = str(value)  # as the same word on the command line
        takes_list = any(get_origin(kind) is list for kind in kinds) and str not in kinds
        if takes_list and value is not None and not isinstance(value, list):
            value = [value]
        try:
            value = TypeAdapter(declared).validate_python(value)
        except ValidationError as error:
            reasons = dict.fromkeys(one["msg"][0].lower() + one["msg"][1:] for one in error.errors())
            raise ConfigError(f"the recipe's {name} {value!r} does not fit: {', or '.join(reasons)}") from error
        choices = self.fields[name].metadata.get("choices")
        if choices is not None and value is not None and value not in choices:
            raise ConfigError(f"the recipe's {name} {value!r} is unknown; choose one of {', '.join(choices)}")
        return value
