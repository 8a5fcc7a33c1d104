"""`medr1 verify` on what `medr1 rescore` wrote: every number is computed again, and what was changed shows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from faulty_server import FaultyServer
from medr1.cli import app
from medr1.errors import ConfigError, DataError
from medr1.eval.verify import FITTED, verify_rescored
from medr1.records import read_json, read_samples, write_json, write_samples
from stored_runs import questions, store

ROWS = [
    *(
        {"question": f"Which {i}?", "A": "CT", "B": "MRI", "answer": "AB"[i % 2], "response": text}
        for i, text in enumerate(["A", "<answer>B</answer>", "MRI", "both", "A", "B"])
    ),
    {"question": "Where?", "answer": "Left lung", "response": "left lung"},
    {"question": "Where?", "answer": "Left lung", "response": "right lung"},
]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Completions of a kit, rescored with a judge."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "kit.json").write_text(json.dumps(ROWS))
    with FaultyServer(answer=lambda body: f"<judge>{body['seed'] % 3}</judge>") as server:
        judge = ("--judge-endpoint", server.url, "--judge-model", "m")
        result = call("rescore", folder / "kit.json", "--out", folder / "out", "--limit", 7, "--seed", 1, *judge)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working folder: there the manifest's last part of the path leads to the completions."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def test_all_as_stored(folder: Path) -> None:
    found = verify_rescored(folder / "out")
    assert (found.differing, found.unchecked) == ([], [])
    assert found.checked > 200
    printed = call("verify", "out")
    assert (printed.exit_code, "all as stored" in printed.output) == (0, True)


def test_every_number_is_watched(folder: Path) -> None:
    stored = read_json(folder / "out" / "rescore.json")
    record = stored.pop("manifest")
    changed = []

    def shifted(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: shifted(inside, f"{path}.{key}") for key, inside in value.items()}
        if isinstance(value, list):
            return [shifted(inside, f"{path}.{index}") for index, inside in enumerate(value)]
        if isinstance(value, int | float):
            changed.append(path[1:])
            return value + 1e-6
        return value

    write_json(folder / "out" / "rescore.json", {**shifted(stored, ""), "manifest": record})
    assert any(path.startswith("judge.agreement.default") for path in changed)
    assert any(path.startswith("open.protocols") for path in changed)
    differing = verify_rescored(folder / "out").differing
    assert [line.split(": ")[0] for line in differing] == [f"rescore.json, {path}" for path in changed]
    assert call("verify", folder / "out").exit_code == 1


def test_other_completions_show(folder: Path) -> None:
    rows = read_json(folder / "kit.json")
    rows[0]["response"], rows[1]["response"] = "It is A.", "It is B."  # read alike by most
    write_json(folder / "kit.json", rows)
    assert "other completions or questions were scored" in verify_rescored(folder / "out").differing[0]


def test_other_verdicts_show(folder: Path) -> None:
    path = folder / "out" / "judgements.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["verdict"] = "unparsable" if lines[0]["verdict"] == "right" else "right"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = verify_rescored(folder / "out").differing
    assert found.startswith(f"judgements.jsonl, {lines[0]['id']} original draw 0: {lines[0]['verdict']} is stored")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    assert any(".failed: 0 is stored, 1 follows" in line for line in verify_rescored(folder / "out").differing)


def test_completions_that_are_elsewhere_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    with pytest.raises(
        DataError, match=r"the predictions of this rescoring are not at kit.json; say with --predictions"
    ):
        verify_rescored(folder / "out")
    assert call("verify", folder / "out", "--predictions", folder / "kit.json").exit_code == 0
    with pytest.raises(DataError, match="does not exist"):
        verify_rescored(folder)


TAMPERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the value": lambda stored: [stored],
    "manifest": lambda stored: stored.pop("manifest") and stored,
    "manifest.scored_hash": lambda stored: stored["manifest"].pop("scored_hash") and stored,
    "manifest.arguments": lambda stored: stored["manifest"].update(arguments=[]) or stored,
    "manifest.arguments.predictions": lambda stored: stored["manifest"]["arguments"].update(predictions=None) or stored,
    "manifest.seed": lambda stored: stored["manifest"].update(seed="first") or stored,
    "judge": lambda stored: {**stored, "judge": [1]},
    "judge.engine": lambda stored: {**stored, "judge": {}},
    "blind": lambda stored: {**stored, "blind": None},
}


@pytest.mark.parametrize("place", TAMPERED)
def test_a_file_that_cannot_be_followed_is_refused_with_its_place(folder: Path, place: str) -> None:
    path = folder / "out" / "rescore.json"
    write_json(path, TAMPERED[place](read_json(path)))
    with pytest.raises(DataError, match=rf"rescore\.json: {place} is .*; restore the file, or write it anew"):
        verify_rescored(folder / "out")


def test_data_and_training_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path / "test", questions(30))
    write_samples(tmp_path / "train", questions(20))
    store(tmp_path / "run", list(read_samples(tmp_path / "test")), right=0.7)
    named = ("--data", "test", "--train-data", "train")
    assert call("rescore", "run", "--out", "run", *named).exit_code == 0, "into the folder of the evaluation"
    assert read_json(tmp_path / "run" / "rescore.json")["blind"]["text_prior"] is not None
    found = verify_rescored(tmp_path / "run")
    assert (found.differing, found.unchecked) == ([], [])
    both = json.loads(call("verify", "run", "--json").stdout)
    assert both["checked"] > found.checked, "both files were checked"
    (tmp_path / "train").rename(tmp_path / "moved")
    assert verify_rescored(tmp_path / "run").unchecked == list(FITTED)
    assert verify_rescored(tmp_path / "run", train_data=tmp_path / "moved").unchecked == []
    with pytest.raises(DataError, match="is not what the text prior of this run was fitted on"):
        verify_rescored(tmp_path / "run", train_data=tmp_path / "test")
    write_samples(tmp_path / "train", questions(7))
    found = verify_rescored(tmp_path / "run")
    assert (found.differing, found.unchecked) == ([], list(FITTED)), "other data stand there now"
    (tmp_path / "test").rename(tmp_path / "gone")
    with pytest.raises(DataError, match="the data of this rescoring are not at test; say with --data"):
        verify_rescored(tmp_path / "run")


def test_predictions_are_for_rescore_folders(tmp_path: Path) -> None:
    store(tmp_path / "run", questions(12), right=0.5)
    result = call("verify", tmp_path / "run", "--predictions", tmp_path / "run")
    assert isinstance(result.exception, ConfigError)
    assert "--predictions is for what `medr1 rescore` wrote" in str(result.exception)
