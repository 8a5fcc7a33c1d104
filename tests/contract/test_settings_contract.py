"""Settings of every command: help, recipe, command line and manifest tell the same."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
import yaml
from typer.testing import CliRunner

from medr1.cli import app
from medr1.cli.options import in_order, takes
from medr1.errors import ConfigError
from medr1.settings import POSITIONAL, REPEATED, RunSettings, Settings, recipe_path

for room in (
    *(f"{package}.settings" for package in ("attack", "data", "eval", "flows", "engines")),
    "models.zoo",
    "rewards.fuzz",
):
    importlib.import_module(f"medr1.{room}")


def all_settings(parent: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for child in parent.__subclasses__():
        yield child
        yield from all_settings(child)


EVERY = sorted(set(all_settings()) - {RunSettings}, key=lambda one: one.__name__)
ASKED = {
    "AskSettings": {"images": ("a.png", "b.dcm"), "question": "Which?", "options": ("Lung", "Liver"), "model": "tiny"},
    "AttackSettings": {"model": "tiny", "data": "data", "out": "run", "k": (2, 4), "grey": True},
    "AuditSettings": {"train": "a", "test": "b", "out": "run", "seed": 3},
    "CompareSettings": {"runs": ("a", "b"), "by": ("modality",)},
    "ConvertSettings": {"path": "a.csv", "out": "b", "where": ("q=en", "q=zh"), "column": ("answer=label",)},
    "CheckTableSettings": {"path": "table.csv", "n": 900},
    "CorruptSettings": {"data": "data", "out": "run", "severities": (1, 5)},
    "DemoSettings": {"seeds": 3, "shuffled": True},
    "DownloadSettings": {"name": "slake", "out": "b", "revision": "main"},
    "EvalSettings": {"model": "tiny", "data": "data", "out": "run", "temperature": 0.5, "option_logprobs": True},
    "FuzzSettings": {"rewards": ("accuracy", "format"), "time": False},
    "HardenSettings": {"data": "a", "out": "b", "train": "c"},
    "PhantomSettings": {"split": "test", "out": "b", "masks": True},
    "ReasoningSettings": {"run": "run", "interventions": ("own",), "data": "data"},
    "RescoreSettings": {"predictions": "theirs.xlsx", "out": "run", "limit": 7},
    "ResizeSettings": {"path": "a", "out": "b", "size": 512},
    "RobustnessSettings": {"clean": "a", "corrupted": "b"},
    "SplitSettings": {"data": "a", "out": "b", "by": "task"},
    "StatsSettings": {"path": "a", "text_only": True},
    "TinySettings": {"out": "b", "family": "qwen2_vl"},
    "VerifySettings": {"run": "run", "data": "data"},
}
"""What each command needs, with a setting or two beside."""
COMMANDS = [one for one in EVERY if one.__name__ in ASKED]


def as_words(settings: Settings) -> list[str]:
    """The command line that asks for the same."""
    places: list[str] = []
    words: list[str] = []
    for name in type(settings).model_fields:
        if name not in settings.model_fields_set:
            continue
        field, value = type(settings).model_fields[name], getattr(settings, name)
        parts = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        flag = f"--{name.replace('_', '-')}"
        if POSITIONAL in field.metadata:
            places += parts
        elif isinstance(value, bool):
            words += [flag if value else f"--no-{flag[2:]}"]
        elif REPEATED in field.metadata:
            words += [word for part in parts for word in (flag, part)]
        else:
            words += [flag, ",".join(parts)]
    return [*places, *words]


def parsed(settings: type[Settings], words: list[str]) -> Settings:
    found: list[Settings] = []
    one = typer.Typer()
    one.command()(takes(settings)(found.append))
    result = CliRunner().invoke(one, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


@pytest.mark.parametrize("settings", EVERY, ids=lambda one: one.__name__)
def test_every_field_says_what_it_is(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert field.description.rstrip().endswith((".", "]")), name
        assert get_origin(field.annotation) is not dict, name
        assert Any not in get_args(field.annotation), name
    assert set(in_order(settings)) == set(settings.model_fields)


@pytest.mark.parametrize("settings", COMMANDS, ids=lambda one: one.__name__)
def test_python_recipe_manifest_and_command_line_say_the_same(settings: type[Settings], tmp_path: Path) -> None:
    asked = settings(**ASKED[settings.__name__])
    assert parsed(settings, as_words(asked)) == asked
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(asked.model_dump(mode="json", exclude_unset=True)))
    assert settings.read(recipe) == asked
    assert parsed(settings, ["--config", str(recipe)]) == asked
    places = {name: getattr(asked, name) for name in ("out", "overwrite") if name in settings.model_fields}
    assert settings(**{**places, **asked.dump()}) == asked, "what a manifest holds is a recipe"


@pytest.mark.parametrize("settings", COMMANDS, ids=lambda one: one.__name__)
def test_values_that_cannot_be_are_one_sentence(settings: type[Settings]) -> None:
    asked = ASKED[settings.__name__]
    with pytest.raises(ConfigError, match="there is no setting 'nonsense'"):
        settings(**asked, nonsense=1)
    for needed in [name for name, field in settings.model_fields.items() if field.is_required()]:
        with pytest.raises(ConfigError, match=f"{needed} is needed"):
            settings(**{name: value for name, value in asked.items() if name != needed})
    if "limit" in settings.model_fields:
        with pytest.raises(ConfigError, match="limit is 0: input should be greater than or equal to 1"):
            settings(**{**asked, "limit": 0})
    with pytest.raises(ValueError, match="frozen"):
        settings(**asked).overwrite = True  # type: ignore[attr-defined]


def test_the_command_line_beats_the_recipe_and_wrong_usage_names_the_flag(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: a\nout: b\nmodel: tiny\nlimit: 5\n")
    settings = next(one for one in EVERY if one.__name__ == "EvalSettings")
    found = parsed(settings, ["--config", str(recipe), "--limit", "7", "other"])
    assert (found.limit, found.model) == (7, "other")  # type: ignore[attr-defined]
    runner = CliRunner()
    for words, code, said in (
        (["eval", "tiny", "--out", "x"], 2, "missing --data"),
        (["eval", "tiny", "--data", "d", "--out", "x", "--limit", "many"], 2, "--limit is 'many'"),
        (["eval", "--config", "nowhere"], 1, "there is no recipe file 'nowhere'"),
    ):
        result = runner.invoke(app, words)
        assert result.exit_code == code, result.output
        assert said in (result.output + str(result.exception))
    recipe.write_text("limit: many\n")
    result = runner.invoke(app, ["eval", "tiny", "--data", "d", "--out", "x", "--config", str(recipe)])
    assert isinstance(result.exception, ConfigError)
    assert f"{recipe}: limit is 'many'" in str(result.exception)


LISTS = ("list", "sources")
"""Commands that take nothing."""


def commands() -> Iterator[tuple[str, ...]]:
    """Names of all commands."""
    from typer.main import get_command

    def below(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        yield from (one for name, child in children.items() for one in below(child, (*names, name)))
        if not children:
            yield names

    yield from below(get_command(app), ())


@pytest.mark.parametrize("names", list(commands()), ids=" ".join)
def test_help_is_short_and_shows_two_examples(names: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*names, "--help"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) <= 80
    assert sum(line.startswith("  medr1 ") for line in lines) >= (0 if names[-1] in LISTS else 2)


@pytest.mark.parametrize("path", sorted((recipe_path("grpo", "demo").parents[1]).glob("*/*.yaml")), ids=str)
def test_every_recipe_of_ours_is_read_by_its_command(path: Path) -> None:
    kinds = {one.recipe_kind(): one for one in EVERY}
    if path.parent.name not in kinds:
        assert path.parent.name in ("grpo", "sft"), "TRL's parser reads these; tests/unit/test_train_parser.py"
        return
    settings = kinds[path.parent.name]
    needed = {name: "x" for name, field in settings.model_fields.items() if field.is_required()}
    settings.read(
        path.stem, **{name: value for name, value in needed.items() if name not in yaml.safe_load(path.read_text())}
    )
