"""`medr1 compare` and `medr1 verify` as a user calls them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medr1.cli import app
from medr1.errors import ConfigError
from medr1.records import read_json, write_json
from stored_runs import questions, store


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    samples = questions(40, per_image=2)
    for name, right in (("base", 0.3), ("tuned", 0.9), ("twin", 0.4)):
        store(folder / name, samples, right=right)
    return folder


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_tables_and_json_tell_the_same(runs: Path, tmp_path: Path) -> None:
    arguments = ("compare", runs / "base", runs / "tuned", "--blind-twin", runs / "twin", "--out", tmp_path)
    printed = call(*arguments)
    assert printed.exit_code == 0, printed.output
    compared = read_json(tmp_path / "compare.json")
    assert json.loads(call(*arguments, "--json").stdout) == compared
    for text in (
        "Runs side by side",
        "over the blind twin",
        "Where the gain came from",
        "By modality",
        "base",
        "tuned",
    ):
        assert text in printed.output
    assert f"{100 * compared['runs']['tuned']['accuracy']:.1f} [" in printed.output


def test_one_run_and_unlike_runs_are_refused(runs: Path, tmp_path: Path) -> None:
    assert isinstance(call("compare", runs / "base").exception, ConfigError)
    other = store(tmp_path / "other", questions(30, per_image=2), right=0.5)
    assert "add --across data" in str(call("compare", runs / "base", other).exception)
    assert call("compare", runs / "base", other, "--across", "data", "--by", "").exit_code == 0


def test_verify_says_what_differs_and_ends_with_1(runs: Path, tmp_path: Path) -> None:
    run = store(tmp_path / "run", questions(20), right=0.5)
    right = call("verify", run)
    assert right.exit_code == 0, right.output
    assert "all as stored" in right.output
    results = read_json(run / "results.json")
    write_json(run / "results.json", results | {"accuracy": 0.99})
    wrong = call("verify", run)
    assert wrong.exit_code == 1
    assert "results.json, accuracy: 0.99 is stored" in wrong.output
    found = json.loads(call("verify", run, "--json").stdout)
    assert len(found["differing"]) == 1
