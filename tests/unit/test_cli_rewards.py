"""`medr1 rewards`: the list, the table of holes, its JSON, and the exit code."""

import json
from pathlib import Path

from typer.testing import CliRunner

from medr1.cli.rewards import app
from medr1.rewards import REWARDS


def test_list_names_every_reward():
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in REWARDS)


def test_fuzz_writes_and_shows_what_it_finds(tmp_path: Path):
    result = CliRunner().invoke(app, ["fuzz", "--no-time", "med-r1/accuracy", "accuracy", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "several answers" in result.stdout
    assert "nothing in" in result.stdout
    reports = json.loads((tmp_path / "fuzz.json").read_text())["rewards"]
    assert [report["reward"] for report in reports] == ["med-r1/accuracy", "accuracy"]
    assert reports[0]["findings"]
    assert not reports[1]["findings"]
    printed = json.loads(CliRunner().invoke(app, ["fuzz", "--no-time", "med-r1/accuracy", "--json"]).stdout)
    assert printed["rewards"][0]["findings"] == reports[0]["findings"]


def test_strict_ends_with_1_on_findings_alone():
    assert CliRunner().invoke(app, ["fuzz", "--no-time", "med-r1/accuracy", "--strict"]).exit_code == 1
    assert CliRunner().invoke(app, ["fuzz", "--no-time", "format", "--strict"]).exit_code == 0


def test_odd_characters_show_as_escapes_and_markup_as_text(tmp_path: Path):
    path = tmp_path / "r.py"
    path.write_text("def f(completion, sample):\n    return float(bool(completion))\n")
    result = CliRunner().invoke(app, ["fuzz", "--no-time", f"{path}:f"])
    assert result.exit_code == 0, result.output
    assert "\\u200b" in result.stdout
    assert "\u200b" not in result.stdout
