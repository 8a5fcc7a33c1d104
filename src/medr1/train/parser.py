"""Command line and recipes of training: TRL's parser, with medr1's recipes by name and its one-line errors."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from trl import TrlParser

from medr1.errors import ConfigError


def recipe_path(kind: str, name: str) -> Path:
    """A recipe: a YAML file of the user's, or one of the package by name.

    Args:
        kind: folder of the package's recipes: `grpo`, `sft`, …
        name: path, or name without `.yaml`.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(str(files("medr1"))) / "recipes" / kind
    own = folder / f"{name}.yaml"
    if own.is_file():
        return own
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ConfigError(f"there is no recipe file {name!r}; give a path or one of the {kind} recipes {known}")


def parse(kind: str, classes: Sequence[type], arguments: Sequence[str]) -> tuple[Any, ...]:
    """Dataclasses of a training command from its arguments; flags beat the recipe.

    Raises:
        ConfigError: a recipe that is not there or not YAML, an unknown key, or a value that a class refuses.
    """
    words = list(arguments)
    for position, word in enumerate(words[:-1]):
        if word == "--config":
            words[position + 1] = str(recipe_path(kind, words[position + 1]))
    if "--bf16" not in words and not torch.cuda.is_available():
        words += ["--bf16", "false"]  # TRL's default is bfloat16, which it refuses without a GPU
    try:
        parser = TrlParser(list(classes))  # type: ignore[arg-type]
        return parser.parse_args_and_config(args=words, fail_with_unknown_args=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe is no valid YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{kind}: {str(error).strip()}") from error
