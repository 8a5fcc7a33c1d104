"""`medr1 doctor`: the environment, and the findings of a finished run."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from medr1.cli.doctor import doctor_command
from medr1.errors import DataError
from medr1.flows import machine
from medr1.flows.machine import Machine
from medr1.records import JsonlAppender, read_json, write_json
from stored_runs import questions, store

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


def log_of(folder: Path, steps: int, **values: Any) -> Path:
    with JsonlAppender(folder / "train_log.jsonl") as log:
        for step in range(1, steps + 1):
            log.append({"step": step, "grad_norm": 1.0, "learning_rate": 1e-5, "reward": 0.5 + step / 100} | values)
    return folder


def test_a_run_of_two_steps_is_too_short_to_judge(tmp_path: Path) -> None:
    folder = log_of(tmp_path, 2, **{"rewards/format/mean": 1.0})
    printed = " ".join(CliRunner().invoke(app, [str(folder)]).output.split())
    assert "Too short to judge: no rule of medr1.diagnosis could be applied." in printed
    assert "broken gradient: too short to judge (2 of 5 records)" in printed
    assert "reward flat: too short to judge (2 of 8 records)" in printed
    assert "KL spike: not logged (kl)" in printed
    assert "Nothing is wrong" not in printed
    report = json.loads(CliRunner().invoke(app, [str(folder), "--json"]).stdout)
    assert set(report["checks"].values()) == {"not_checked"}
    assert report["rewards"]["format"]["verdict"].startswith("too short to judge")


def test_rules_that_were_applied_are_counted_and_the_others_named(tmp_path: Path) -> None:
    folder = log_of(tmp_path, 12)
    printed = " ".join(CliRunner().invoke(app, [str(folder)]).output.split())
    assert "Nothing is wrong by 2 of the 13 rules" in printed
    assert "reward flat: too short to judge (12 of 200 steps)" in printed
    report = json.loads(CliRunner().invoke(app, [str(folder), "--json"]).stdout)
    assert {name for name, outcome in report["checks"].items() if outcome == "passed"} == {
        "broken gradient",
        "zero learning rate",
    }
    assert report["not_checked"].keys() == {n for n, outcome in report["checks"].items() if outcome == "not_checked"}


def test_a_format_reward_that_paid_nothing_is_named(tmp_path: Path) -> None:
    folder = log_of(tmp_path, 30, **{"rewards/accuracy/mean": 0.4, "rewards/format/mean": 0.0})
    report = json.loads(CliRunner().invoke(app, [str(folder), "--json"]).stdout)
    assert [(f["name"], f["step"]) for f in report["findings"]] == [("unpaid reward: format", 30)]
    assert report["rewards"]["accuracy"]["verdict"] == "does not move"
    assert report["rewards"]["format"] == {
        "first": 0.0,
        "last": 0.0,
        "verdict": "rewards/format/mean 0 for 30 steps",
    }
    printed = CliRunner().invoke(app, [str(folder)], env={"COLUMNS": "250"}).output
    assert "unpaid reward: format (error)" in printed
    assert "Nothing is wrong" not in printed


SILENT = {"what": "accuracy", "why": "12 of 12 answers could not be read"}


@pytest.mark.parametrize(
    ("void", "outcome", "printed"),
    [
        ([], "passed", "no number is void"),
        ([SILENT], "failed", "void: accuracy: 12 of 12 answers could not be read"),
        (None, "not_checked", "Not checked: "),
    ],
)
def test_an_evaluation_is_examined_too(
    tmp_path: Path, void: list[dict[str, str]] | None, outcome: str, printed: str
) -> None:
    store(tmp_path, questions(20), right=0.7)
    results = read_json(tmp_path / "results.json")
    assert results.pop("void") == []
    write_json(tmp_path / "results.json", results if void is None else {**results, "void": void})
    assert printed in CliRunner().invoke(app, [str(tmp_path)]).output
    report = json.loads(CliRunner().invoke(app, [str(tmp_path), "--json"]).stdout)
    assert report == {"checks": {"void": outcome}, "void": void}


def test_a_folder_that_is_no_run_is_an_error_with_its_mend(tmp_path: Path) -> None:
    error = CliRunner().invoke(app, [str(tmp_path)]).exception
    assert isinstance(error, DataError)
    assert "name the --output_dir" in str(error)


def test_the_machine_has_versions_and_room_but_no_names() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["--json"])
    assert result.exit_code == 0, result.output
    found = Machine.model_validate_json(result.stdout)
    assert found.packages["torch"] == version("torch")
    assert found.packages["trl"] == version("trl")
    verdicts = {check.name: check.verdict for check in found.checks}
    assert verdicts["python"] == verdicts["medr1"] == verdicts["transformers"] == "ok"
    assert found.free_disk_gib > 0
    assert found.image_backend in ("pil", "torchvision")
    assert f'"{platform.node()}"' not in result.output
    assert str(Path.home()) not in result.output


def test_what_is_missing_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch": "2.9.0", "transformers": "5.23.0", "torchvision": "0.1"}

    def found(name: str) -> str | None:
        return there.get(name)

    monkeypatch.setattr(machine, "_found", found)
    monkeypatch.setattr(machine, "_loads", lambda module: False)
    checks = {check.name: check for check in machine._packages()}
    assert (checks["torch"].verdict, checks["torch"].wanted) == ("other version", ">=2.11")
    assert (checks["trl"].verdict, checks["trl"].found) == ("missing", None)
    assert checks["transformers"].verdict == "ok"
    assert checks["medr1[train]"].found == "1 of 6"
    assert checks["trl"].mend == "pip install -c constraints.txt -e '.[train]'"
    assert checks["pydicom"].mend == "pip install -c constraints.txt -e '.[dicom]'"
    assert "numpy" in checks
    assert "ruff" not in checks, "tools of ours"
    assert machine._torchvision().verdict == "broken"
    assert "pip uninstall torchvision" in (machine._torchvision().mend or "")
    monkeypatch.setattr(machine, "distribution", lambda name: type("D", (), {"read_text": lambda self, file: None})())
    assert machine.install_line("train") == "pip install 'medr1[train]'"


def test_the_table_fits_80_columns() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [])
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.output.splitlines() if "│" in line)
    for words in ("python", "transformers", "torchvision", "free disk, GiB", "memory, GiB"):
        assert words in result.output
