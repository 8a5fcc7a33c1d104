"""`medr1 reasoning` on a finished run: tables, JSON, interventions with the settings of the run."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from evaluated import evaluate
from medr1.cli.evaluation import reasoning_command
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError
from medr1.eval.settings import ReasoningSettings
from medr1.flows import evaluation
from medr1.records import write_samples
from medr1.types import Sample


def answer(request: Request, draw: int) -> str:
    if request.completion_prefix:
        return "<answer>B</answer>"
    return f"<think>the {'liver' if request.key < 'q5' else 'lung'}</think><answer>A</answer>"


ENGINE = ScriptedEngine(answer)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    samples = [
        Sample(
            id=f"q{i}",
            images=(),
            question="?",
            options=("Liver", "Lung"),
            answer_index=0,
            modality="CT",
            group=f"g{i}",
            extra={"anatomy": "liver"},
        )
        for i in range(10)
    ]
    write_samples(tmp_path / "data", samples)
    evaluate(
        samples,
        ENGINE,
        out=tmp_path / "run",
        params=SamplingParams(max_new_tokens=99, temperature=0.5, num_draws=2),
        batch_size=4,
        seed=0,
        variants=["rotated"],
        arguments={"model": "tiny"},
    )
    return tmp_path / "run"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    def start(settings: ReasoningSettings, model: str) -> ScriptedEngine:
        assert model == "tiny"
        return ENGINE

    monkeypatch.setattr(evaluation, "start_engine", start)
    app = typer.Typer()
    app.command()(reasoning_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_saved_thinking_needs_no_engine(call, run: Path) -> None:
    result = call(run)
    assert result.exit_code == 0, result.output
    assert "50.0 [" in result.output
    written = json.loads((run / "reasoning.json").read_text())
    # Two draws of ten questions: five say liver and answer it, five say lung.
    assert (written["n"], written["consistency"]["inconsistent"]["n"]) == (20, 10)
    assert written["contradictions"]["anatomy"] is None
    assert written["interventions"] == {}


def test_interventions_run_with_the_settings_of_the_run(call, run: Path, tmp_path: Path) -> None:
    arguments = (run, "--data", tmp_path / "data", "--interventions", "own,contradicting", "--json")
    result = call(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert written == json.loads((tmp_path / "out" / "reasoning.json").read_text())
    assert written["interventions"]["contradicting"]["follows"]["share"] == 1.0
    # Without a question for the anatomy it is known from the data; the vocabulary has the liver alone.
    assert (written["contradictions"]["anatomy"]["n"], written["contradictions"]["anatomy"]["named"]) == (20, 10)
    manifest = json.loads((tmp_path / "out" / "thinking" / "own" / "manifest.json").read_text())
    assert manifest["arguments"]["sampling"] == {
        **manifest["arguments"]["sampling"],
        "max_new_tokens": 99,
        "temperature": 0.5,
        "num_draws": 1,
    }
    assert "changed, %" in call(*arguments[:-1], "--out", tmp_path / "out", "--limit", 10).output


def test_what_is_missing_is_said(call, run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((run, "--interventions", "longer"), "no intervention 'longer'; choose one of own"),
        ((run, "--interventions", "own"), "add --data"),
        ((tmp_path / "nothing",), "holds no predictions"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, ConfigError)
        assert message in str(error)
