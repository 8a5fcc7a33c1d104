"""Trainings side by side, with a program in the place of `medr1` that says what was asked of it."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from medr1.errors import MedR1Error
from medr1.flows import trainings
from medr1.flows.trainings import Training, run_trainings

PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path

assert sys.argv[1] == "train" and sys.argv[-2] == "--output_dir", sys.argv
kind, folder = sys.argv[2], Path(sys.argv[-1])
folder.mkdir(parents=True)
facts = {"arguments": sys.argv[2:-2], "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
(folder / "facts.json").write_text(json.dumps(facts))
(folder / "running").touch()
print("first line", flush=True)
if kind == "fails":
    sys.exit("last words")
if kind == "clings":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "clinging").touch()
if kind in ("hangs", "clings"):
    time.sleep(60)
if kind == "pairs":  # goes on when it is not alone
    for _ in range(4000):
        if len(list(folder.parent.glob("*/facts.json"))) > 1:
            break
        time.sleep(0.005)
    else:
        sys.exit("alone")
(folder / "train_log.jsonl").write_text('{"step": 1}\\n{"step": 2}\\n')
(folder / "running").unlink()
(folder / "final").mkdir()
(folder / "final" / "model.safetensors").touch()
if kind != "forgets":
    (folder / "manifest.json").write_text('{"medr1": "x", "state": "done"}')
if kind == "stumbles":
    sys.exit("on the doorstep")
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program" / "medr1").mkdir(parents=True)
    (tmp_path / "program" / "medr1" / "__init__.py").touch()
    (tmp_path / "program" / "medr1" / "__main__.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "program"))
    monkeypatch.setattr(trainings, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)


def training(folder: Path, name: str, *arguments: str) -> Training:
    return Training(name=name, folder=folder / "runs" / name, arguments=arguments, num_steps=2)


def facts(one: Training) -> dict[str, Any]:
    return json.loads((one.folder / "facts.json").read_text())


def wait_for(path: Path) -> None:
    for _ in range(4000):
        if path.exists():
            return
        time.sleep(0.005)
    raise AssertionError(f"{path} did not come")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_runs_its_command_so_many_at_once_and_tells_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [training(tmp_path, name, "pairs", "--seed", name) for name in ("a", "b", "c")]
    told: list[tuple[str, int]] = []
    started: list[subprocess.Popen] = []

    class AtMostTwo(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            assert sum(process.returncode is None for process in started) < 2, "a third runs beside two"
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", AtMostTwo)
    seconds = run_trainings(three, workers=2, progress=lambda one, step: told.append((one.name, step)))
    assert seconds.keys() == {"a", "b", "c"}
    assert all(one.finished for one in three)
    assert [facts(one)["arguments"] for one in three] == [["pairs", "--seed", name] for name in "abc"]
    assert {facts(one)["threads"] for one in three} == {"3"}, "six cores for two at once"
    for one in three:
        assert one.output.read_text() == "first line\n"
        assert one.output == tmp_path / "runs" / f"{one.name}.txt", "the folder is the training's own"
        assert [step for name, step in told if name == one.name][-1] == 2, "what was told last"


def test_the_last_steps_are_told_however_short_the_training(tmp_path: Path) -> None:
    one, told = training(tmp_path, "one", "runs"), []

    def outlast(_: Training, step: int) -> None:
        told.append(step)
        if step == 0:  # it writes its steps and ends between this and the next look
            wait_for(one.folder / "facts.json")
            os.waitid(os.P_PID, facts(one)["pid"], os.WEXITED | os.WNOWAIT)

    run_trainings([one], workers=1, progress=outlast)
    assert told[-1] == 2


def test_threads_are_shared_among_those_that_run(tmp_path: Path) -> None:
    alone, done = training(tmp_path, "alone", "runs"), training(tmp_path, "done", "runs")
    (done.folder / "final").mkdir(parents=True)
    (done.folder / "final" / "model.safetensors").touch()
    assert not done.finished, "weights may have been written without the processor"
    (done.folder / "manifest.json").write_text('{"medr1": "x", "state": "whole"}')
    assert not done.finished
    (done.folder / "manifest.json").write_text('{"medr1": "x", "state": "done"}')
    assert run_trainings([done, alone], workers=4, progress=lambda one, step: None).keys() == {"alone"}
    assert facts(alone)["threads"] == "6"
    assert not done.output.exists(), "what is finished is not run again"
    assert run_trainings([done, alone], workers=4, progress=lambda one, step: None) == {}


def test_who_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "END_SECONDS", 0.2)
    one = training(tmp_path, "one", "clings")

    def interrupt(_: Training, step: int) -> None:
        wait_for(one.folder / "clinging")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trainings([one], workers=1, progress=interrupt)
    assert not is_alive(facts(one)["pid"])


@pytest.mark.parametrize(
    ("kind", "last"), [("fails", "last words"), ("forgets", "first line"), ("stumbles", "on the doorstep")]
)
def test_a_failure_is_one_line_and_ends_the_others(tmp_path: Path, kind: str, last: str) -> None:
    bad, other = training(tmp_path, "bad", kind), training(tmp_path, "other", "hangs")

    def wait_for_both(one: Training, step: int) -> None:
        wait_for(other.folder / "running")

    with pytest.raises(MedR1Error) as caught:
        run_trainings([bad, other], workers=2, progress=wait_for_both)
    assert str(caught.value) == f"training 'bad' failed ({last}); its whole output is in {bad.output}"
    assert not is_alive(facts(other)["pid"])


def test_interrupted_it_ends_its_children(tmp_path: Path) -> None:
    one = training(tmp_path, "one", "hangs")

    def interrupt(_: Training, step: int) -> None:
        wait_for(one.folder / "running")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trainings([one], workers=1, progress=interrupt)
    assert not is_alive(facts(one)["pid"])


def test_the_step_is_the_last_whole_line_of_the_log(tmp_path: Path) -> None:
    one = training(tmp_path, "one")
    assert one.step == 0
    one.folder.mkdir(parents=True)
    log = one.folder / "train_log.jsonl"
    log.write_text("")
    assert one.step == 0
    log.write_text('{"step": 3}\n{"step": 4}\n{"st')
    assert one.step == 4
