"""`medr1 doctor`: the environment, and the findings of a finished run."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medr1.cli.doctor import doctor_command
from medr1.errors import DataError
from medr1.records import JsonlAppender, write_json

app = typer.Typer()
app.command()(doctor_command)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    with JsonlAppender(tmp_path / "train_log.jsonl") as log:
        for step in range(1, 7):
            log.append({"step": step, "grad_norm": 0.0, "reward": 0.25 * step})
    arguments = {"model": {"model_name_or_path": "tiny"}, "script": {"prompt": "bare"}, "trainer": {}}
    write_json(tmp_path / "manifest.json", {"arguments": arguments, "num_samples": 24, "prompts_too_long": 3})
    return tmp_path


def test_the_findings_of_a_run(run_folder: Path) -> None:
    result = CliRunner().invoke(app, [str(run_folder)])
    assert result.exit_code == 0, result.output
    for part in ("model tiny", "questions 24", "broken gradient (error)", "5"):
        assert part in result.output
    report = json.loads(CliRunner().invoke(app, [str(run_folder), "--json"]).stdout)
    assert [(f["name"], f["severity"], f["step"]) for f in report["findings"]] == [("broken gradient", "error", 5)]
    assert report["run"]["first_reward"] == 0.25
    assert report["run"]["last_reward"] == 1.5
    assert report["run"]["prompts_too_long"] == 3


def test_a_healthy_run_without_manifest(tmp_path: Path) -> None:
    with JsonlAppender(tmp_path / "train_log.jsonl") as log:
        log.append({"step": 1, "grad_norm": 1.0})
    assert "Nothing is wrong" in CliRunner().invoke(app, [str(tmp_path)]).output


def test_a_folder_that_is_no_run_is_an_error_with_its_mend(tmp_path: Path) -> None:
    error = CliRunner().invoke(app, [str(tmp_path)]).exception
    assert isinstance(error, DataError)
    assert "name the --output_dir" in str(error)


def test_the_environment_has_versions_and_room_but_no_names() -> None:
    import socket

    import torch
    import transformers

    result = CliRunner().invoke(app, ["--json"])
    report = json.loads(result.stdout)
    assert report["torch"] == torch.__version__
    assert report["transformers"] == transformers.__version__
    assert report["free_disk_gib"] > 0
    assert (report["gpu"] is None) == (not torch.cuda.is_available())
    assert report["image_backend"] in ("pil", "torchvision")
    assert str(Path.cwd()) not in result.stdout
    assert f'"{socket.gethostname()}"' not in result.stdout
    assert report["torch"] in CliRunner().invoke(app, []).stdout
