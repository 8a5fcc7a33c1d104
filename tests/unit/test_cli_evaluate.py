"""`medr1 eval`: arguments reach the run, the table and the JSON come out."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import medr1.cli
from faulty_server import FaultyServer, chat_reply, prompt_of, refuse_as_openai
from medr1.cli import evaluation as commands
from medr1.data.images import png_bytes
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError, DataError
from medr1.eval.settings import EvalSettings
from medr1.flows import evaluation
from medr1.flows.engines import as_trained
from medr1.models.tiny import WARM_START
from medr1.records import write_samples
from medr1.types import LETTERS, ImageRef, Sample


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    engine = ScriptedEngine(lambda request, draw: "<think>x</think><answer>A</answer>")
    monkeypatch.setattr(evaluation, "start_engine", lambda settings, model: engine)
    app = typer.Typer()
    app.command()(commands.evaluate_command)
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
    return CliRunner().invoke(app, ["tiny", "--data", str(data), "--out", str(out), "--prompt", "think", *extra])


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
    arguments = ("--json", "--limit", "10", "--variants", "", "--seed", "1")
    results = json.loads(call(app, data, tmp_path / "run", *arguments).stdout)
    assert results["n"] == 10
    assert set(results["by_source"]) == {"first", "second"}
    assert results["controls"] == {}
    assert json.loads(call(app, data, tmp_path / "again", *arguments).stdout) == results


def test_the_engine_gets_what_the_command_line_says_in_its_types(
    app: typer.Typer, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[EvalSettings] = []
    monkeypatch.setattr(evaluation, "start_engine", lambda settings, model: started.append(settings) or 1 / 0)
    flags = {
        "engine": "endpoint", "batch-size": "6", "base-url": "http://a/v1",
        "dialect": "openai", "concurrency": "3", "requests-per-minute": "2", "timeout": "7", "max-retries": "4",
        "cache": "kept", "patience": "60", "omit": "seed,temperature",
    }  # fmt: skip
    call(app, data, tmp_path / "run", *(part for name, value in flags.items() for part in (f"--{name}", value)))
    call(app, data, tmp_path / "run", "--engine", "endpoint", "--concurrency", "3", "--base-url", "http://a/v1")
    asked = EvalSettings(
        model="tiny", data=data, out=tmp_path / "run", prompt="think", engine="endpoint", batch_size=6, base_url="http://a/v1",
        dialect="openai", concurrency=3, requests_per_minute=2.0, timeout=7.0, max_retries=4, cache=Path("kept"),
        patience=60.0, omit=("seed", "temperature"),
    )  # fmt: skip
    assert started[0] == asked
    assert started[0].dump() == asked.dump(), "texts of the command line have become numbers and paths"
    assert [settings.prompts_together for settings in started] == [6, 24]


def test_names_are_checked(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    assert isinstance(call(app, data, tmp_path / "run", "--prompt", "thinks").exception, ConfigError)
    assert call(app, data, tmp_path / "run", "--dtype", "int8").exit_code == 2


def test_the_checkpoint_is_asked_with_the_prompt_that_it_was_trained_with(tmp_path: Path) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="test", count=24))
    command = ["eval", str(WARM_START), "--data", str(tmp_path / "data"), "--variants", "", "--max-new-tokens", "12"]
    numbers = ["--dtype", "float32", "--device", "cpu"]

    def evaluated(name: str, *extra: str) -> tuple[str, dict, str]:
        result = CliRunner().invoke(medr1.cli.app, [*command, *numbers, "--out", str(tmp_path / name), *extra])
        assert result.exit_code == 0, result.output
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["arguments"]["settings"]["prompt"] == manifest["arguments"]["prompt"]
        return (
            manifest["arguments"]["prompt"],
            json.loads((tmp_path / name / "results.json").read_text()),
            result.output,
        )

    prompt, results, printed = evaluated("remembered")
    assert prompt == "bare"
    assert "Asked with 'bare', the prompt that the checkpoint was trained with" in printed
    assert results["parse"].get("ok", 0) > 12
    assert results["void"] == []
    # What was asked before without a word, and read almost nothing.
    prompt, results, printed = evaluated("named", "--prompt", "think")
    assert prompt == "think"
    assert "trained with" not in printed.split("void")[0]
    assert [item["what"] for item in results["void"]] == ["accuracy"]
    assert "void: accuracy: " in printed
    assert "could not be read" in " ".join(printed.split())


def test_what_remembers_nothing_is_asked_with_the_default(tmp_path: Path) -> None:
    told: list[str] = []
    asked = EvalSettings(model=str(tmp_path), data=tmp_path, out=tmp_path)
    assert as_trained(asked, told.append).prompt == "think"
    server = EvalSettings(model="m", data=tmp_path, out=tmp_path, engine="endpoint", base_url="http://a/v1")
    assert as_trained(server, told.append).prompt == "think"
    assert told[0].startswith("The checkpoint remembers no prompt, so it is asked with 'think'")
    assert told[1].startswith("An endpoint does not tell what its model was trained with, so it is asked with 'think'")
    chosen = asked.model_copy(update={"prompt": "bare"})
    assert as_trained(chosen, told.append) is chosen
    assert len(told) == 2


def test_option_logprobs_are_kept_where_asked_for(tmp_path: Path) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="test", count=6))
    command = ["eval", str(WARM_START), "--data", str(tmp_path / "data"), "--prompt", "bare", "--variants", ""]
    numbers = ["--max-new-tokens", "40", "--dtype", "float32", "--device", "cpu"]

    def predictions(name: str, *extra: str) -> list[dict]:
        result = CliRunner().invoke(medr1.cli.app, [*command, *numbers, "--out", str(tmp_path / name), *extra])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]

    asked = predictions("asked", "--option-logprobs")
    answered = [line for line in asked if line["answer"] is not None]
    assert len(answered) > 3
    for line in answered:
        logprobs = line["option_logprobs"]
        assert len(logprobs) == len(line["options"])
        assert sum(map(math.exp, logprobs)) < 1 + 1e-5
        assert LETTERS[logprobs.index(max(logprobs))] == line["answer"], "greedy decoding took the likeliest letter"
    assert json.loads((tmp_path / "asked" / "manifest.json").read_text())["arguments"]["option_logprobs"] is True
    without = predictions("without")
    assert without == [{key: line[key] for key in line if key != "option_logprobs"} for line in asked]


def test_a_reasoning_model_behind_a_strict_server(data: Path, tmp_path: Path) -> None:
    """From the command line to the tools for thinking; it refuses unknown fields, temperature 0 and penalties."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        assert "Which?" in prompt_of(body)
        reply = chat_reply("<answer>A</answer>", None)
        reply["choices"][0]["message"]["reasoning_content"] = "Not b. I see a."
        return reply

    def evaluate_it(name: str, *flags: str) -> Result:
        command = ["eval", "o-model", "--data", str(data), "--out", str(tmp_path / name), "--variants", ""]
        where = ["--engine", "endpoint", "--base-url", server.url, "--dialect", "openai", "--max-retries", "0"]
        return CliRunner().invoke(medr1.cli.app, [*command, *where, *flags])

    with FaultyServer(answer=answer, refuse=refuse_as_openai) as server:
        refused = evaluate_it("refused")
        assert isinstance(refused.exception, DataError)
        assert "--omit" in str(refused.exception)
        asked = evaluate_it("asked", "--omit", "temperature,presence_penalty,frequency_penalty")
        assert isinstance(evaluate_it("wrong", "--omit", "top_k").exception, ConfigError)
        assert isinstance(evaluate_it("both", "--omit", "temperature", "--temperature", "0.9").exception, ConfigError)
    assert asked.exit_code == 0, asked.output
    assert "a request is tried up to 1 times, 2 min each, and waits at most 10 min between them" in asked.stderr
    results = json.loads((tmp_path / "asked" / "results.json").read_text())
    assert (results["n"], results["accuracy"], results["failed"], results["parse"]) == (20, 0.5, 0, {"ok": 20})
    thought = CliRunner().invoke(medr1.cli.app, ["reasoning", str(tmp_path / "asked"), "--json"])
    assert thought.exit_code == 0, thought.output
    assert json.loads(thought.stdout)["consistency"]["consistent"]["n"] == 20
