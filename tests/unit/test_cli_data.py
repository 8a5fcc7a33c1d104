import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data import SOURCES
from medr1.errors import DataError
from medr1.records import read_samples

RECORD = {"image": "a.png", "question": "Which?", "options": ["CT", "MRI"], "answer": "B", "modality": "CT"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(RECORD | {"question": f"Number {n}?"}) + "\n" for n in range(5)))
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sources_are_listed():
    listed = run("sources")
    assert all(name in listed for name in SOURCES)


def test_convert_prints_json_that_stats_repeats(data: Path):
    out = data.parent / "out"
    printed = json.loads(
        run("convert", data, "--out", out, "--limit", 3, "--seed", 1, "--allow-missing-images", "--json")
    )
    assert (printed["n"], printed["missing_images"], printed["source"]) == (3, 3, "jsonl")
    assert len(list(read_samples(out))) == 3
    counts = json.loads(run("stats", out, "--json"))
    assert counts.items() <= printed.items()


def test_convert_prints_a_table(data: Path):
    table = run("convert", data, "--out", data.parent / "out", "--source", "jsonl", "--allow-missing-images")
    assert "5 questions" in table
    assert "images missing" in table
    assert "CT" in table


def test_errors_reach_the_caller_and_leave_no_folder(data: Path):
    with pytest.raises(DataError, match=r"a\.png"):
        run("convert", data, "--out", data.parent / "out")
    assert [path.name for path in data.parent.iterdir()] == ["own.jsonl"]
