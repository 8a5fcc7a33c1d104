"""`medr1 eval` around a scripted engine: arguments reach the run, the table and the JSON come out."""

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from medr1.cli import evaluate
from medr1.errors import ConfigError
from medr1.eval.controls import png_bytes
from medr1.records import write_samples
from medr1.rollout.scripted import ScriptedEngine
from medr1.types import ImageRef, Sample


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    engine = ScriptedEngine(lambda request, draw: "<think>x</think><answer>A</answer>")
    monkeypatch.setattr(evaluate, "start_engine", lambda context: engine)
    app = typer.Typer()
    app.command()(evaluate.evaluate_command)
    return app


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = [
        Sample(
            id=f"q{i}",
            images=(ImageRef(path=f"{i}.png", data=png_bytes(Image.new("RGB", (4, 4), (i, i, i)))),),
            question="Which?",
            options=("a", "b"),
            answer_index=i % 2,
            source="first" if i < 10 else "second",
            group=f"g{i}",
        )
        for i in range(20)
    ]
    write_samples(tmp_path / "data", samples)
    return tmp_path / "data"


def call(app: typer.Typer, data: Path, out: Path, *extra: str):
    return CliRunner().invoke(app, ["tiny", "--data", str(data), "--out", str(out), *extra])


def test_the_table_is_printed_and_the_files_written(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    result = call(app, data, tmp_path / "run", "--train-data", str(data))
    assert result.exit_code == 0, result.output
    assert "50.0 [29.9, 70.1]" in result.output
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["controls"]) == {"blank", "swapped"}
    assert results["blind"]["text_prior"] is not None
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["arguments"]["model"] == "tiny"


def test_json_and_a_limit_that_draws_from_all_samples(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    arguments = ("--json", "--limit", "10", "--controls", "", "--seed", "1")
    results = json.loads(call(app, data, tmp_path / "run", *arguments).stdout)
    assert results["n"] == 10
    assert set(results["by_source"]) == {"first", "second"}
    assert results["controls"] == {}
    assert json.loads(call(app, data, tmp_path / "again", *arguments).stdout) == results


def test_names_are_checked(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    assert isinstance(call(app, data, tmp_path / "run", "--prompt", "thinks").exception, ConfigError)
    assert call(app, data, tmp_path / "run", "--dtype", "int8").exit_code == 2
