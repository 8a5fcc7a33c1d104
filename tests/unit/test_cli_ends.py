"""How commands end: where they wrote, what to open, what to run next; tables of 80 columns; progress in a log file."""

# ruff: noqa: F811 - arguments named as imported fixtures

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command

from every_command import arguments_of, inputs, run  # noqa: F401 - fixtures
from medr1.cli import app, main, options
from medr1.cli.options import Then, progress
from medr1.records import read_samples
from medr1.settings import Settings

QUICK = ("rescore", "compare", "robustness", "reasoning", "data stats", "data split", "data harden", "data convert")


def commands() -> Iterator[tuple[str, Any, Any]]:
    """Name, Settings and ending of every command that takes Settings."""

    def below(command: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
        for child, sub in getattr(command, "commands", {}).items():
            yield from below(sub, f"{name} {child}".strip())
        if hasattr(command.callback, "settings"):
            yield name, command.callback.settings, command.callback.then

    yield from below(get_command(app), "")


@pytest.mark.parametrize(
    ("name", "settings", "then"), list(commands()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_what_writes_says_where_and_what_next(name: str, settings: type[Settings], then: Then | None) -> None:
    assert (then is not None) == ("out" in settings.model_fields)
    if then is not None:
        fields = dict.fromkeys(settings.model_fields, "x")
        assert "{" not in then.look.format_map(fields) + then.next.format_map(fields)
        for command in re.findall(r"medr1 ((?:data )?[a-z]+)", then.next):
            assert command in {found for found, _, _ in commands()} | {"doctor"}


def test_examples_in_helps_and_endings_name_flags_that_there_are() -> None:
    known, told = {}, []

    def below(command: Any, name: str) -> None:
        known[name] = {flag for one in command.params for flag in one.opts}
        told.extend(
            re.findall(r"^\s*(medr1 .*)", command.callback.__doc__ or "" if command.callback else "", re.MULTILINE)
        )
        for child, sub in getattr(command, "commands", {}).items():
            below(sub, f"{name} {child}".strip())

    below(get_command(app), "")
    told += [line for _, _, then in commands() if then for line in re.findall(r"medr1 [^,]*", then.next)]
    for line in told:
        words = shlex.split(line)[1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        if name.split()[0] != "train":  # takes every flag of TRL
            assert {word for word in words if word.startswith("--")} <= known[name], line


def words(text: str) -> set[str]:
    return set(re.sub(r"[┏┓┗┛━┳┻╇┡┩│┃└┘─┴┬├┤┼╈╋]", " ", text).split())


@pytest.mark.parametrize("command", QUICK)
def test_tables_fit_80_columns_without_a_broken_word(
    command: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = {}
    for columns in (80, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["medr1", *arguments_of(command, inputs=inputs, out=tmp_path / "out")])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        printed[columns] = capsys.readouterr()
    drawn = {width: [line for line in said.out.splitlines() if line[:1] in "┏┃┡│├└"] for width, said in printed.items()}
    assert drawn[80]
    assert all(len(line) <= 80 for line in drawn[80])
    assert words("\n".join(drawn[80])) == words("\n".join(drawn[400]))
    assert f"Written to {tmp_path / 'out'}." in printed[80].err


ADVISED = {
    "attack": "{out}/clean/dataset.parquet",
    "corrupt": "{out}",
    "data convert": "{out}",
    "data harden": "{out}/hardened",
    "data phantom": "{out}",
    "data resize": "{out}",
    "demo": "{out}/data/test",
}
"""Data that an ending says to go on with, of each command that says so."""


def test_every_advice_about_data_is_known() -> None:
    told = {name: re.findall(r"--data (\S+)", then.next) for name, _, then in commands() if then is not None}
    assert {name: places[0] for name, places in told.items() if places} == ADVISED


@pytest.mark.parametrize("command", ["attack", "corrupt", "data convert", "data harden", "data phantom", "data resize"])
def test_the_data_to_go_on_with_are_there(command: str, inputs: Path, tmp_path: Path, run: Any) -> None:
    assert run(*arguments_of(command, inputs=inputs, out=tmp_path / "out"))[0] == 0
    list(read_samples(Path(ADVISED[command].format(out=tmp_path / "out"))))  # raises where there are none


def test_what_was_scored_again_can_be_verified(inputs: Path, tmp_path: Path, run: Any) -> None:
    assert run(*arguments_of("rescore", inputs=inputs, out=tmp_path / "out"))[0] == 0
    code, said = run("verify", tmp_path / "out", "--predictions", inputs / "eval_test")
    assert code == 0, said


def test_quiet_and_json_say_nothing_else(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Any
) -> None:
    arguments = arguments_of("rescore", inputs=inputs, out=tmp_path / "out")
    for flag in ("--quiet", "--json"):
        code, said = run(*arguments, flag)
        assert code == 0
        assert "Written" not in said
        assert "Next" not in said
    assert "Scoring" not in run(*arguments, "--overwrite", "--quiet")[1]
    assert "Written" in run(*arguments)[1], "the next call speaks again"


def test_nothing_written_is_said(inputs: Path, run: Any) -> None:
    code, said = run("compare", inputs / "eval_test", inputs / "eval_again")
    assert code == 0
    assert "Nothing was written; --out DIR keeps it." in said


def test_a_log_file_gets_a_line_every_half_minute_with_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(options.time, "monotonic", lambda: clock[0])
    with progress("Evaluating") as show:
        for done in range(0, 101, 10):
            show(done, 100)
            clock[0] += 20
    assert capsys.readouterr().err.splitlines() == [
        "Evaluating: 0 of 100",
        "Evaluating: 20 of 100, about 0:02:40 left",
        "Evaluating: 40 of 100, about 0:02:00 left",
        "Evaluating: 60 of 100, about 0:01:20 left",
        "Evaluating: 80 of 100, about 0:00:40 left",
        "Evaluating: 100 of 100",
    ]
    assert not Console(stderr=True).is_terminal
