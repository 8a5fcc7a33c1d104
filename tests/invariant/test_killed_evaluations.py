"""An evaluation that is killed and called again ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.models.tiny import WARM_START

MOMENTS = 20
PROGRAM = Path(__file__).resolve().parent.parent / "killed_runs.py"


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_run(out: Path, whole: Path) -> None:
    """Same predictions in the same order, none twice, and results to the last digit."""
    predictions = records(out / "predictions.jsonl")
    keys = [(line["id"], line["variant"], line["draw"]) for line in predictions]
    assert len(set(keys)) == len(keys)
    assert predictions == records(whole / "predictions.jsonl")
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("results.json", "reliance.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (out, whole)]
    for manifest in manifests:
        del manifest["started"], manifest["seconds"]
    assert manifests[0] == manifests[1]


class Runs:
    """The program that runs evaluations and lets them kill themselves."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program

    def __call__(self, out: Path, kill_at: int | None = None) -> tuple[int, int, list[int]] | None:
        """Events until the last answer, in all, and until each `fsync`; None where the run was killed."""
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        print(json.dumps([str(out), kill_at]), file=self.program.stdin, flush=True)
        return json.loads(self.program.stdout.readline())


@pytest.fixture(scope="module")
def run() -> Iterator[Runs]:
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        yield Runs(program)


@pytest.fixture(scope="module")
def whole(run: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int, list[int]]:
    """A run that was left alone, and its events until the last answer, in all, and until each `fsync`."""
    out = tmp_path_factory.mktemp("whole")
    counts = run(out)
    assert counts is not None
    return out, *counts


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_moment(run: Runs, whole: tuple[Path, int, int, list[int]], tmp_path: Path, moment: int) -> None:
    uninterrupted, last_answer, total, _ = whole
    draw = random.Random(moment)
    # Most kills fall into the generation; scoring makes more events, and hardly anything there can be lost.
    first = draw.randint(1, total if moment % 4 == 3 else last_answer + 500)
    assert run(tmp_path, first) is None
    run(tmp_path, draw.randint(1, last_answer))  # the second call may be killed too, or end before
    assert run(tmp_path) is not None
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("file", range(5), ids=["started", "whole", "reliance", "results", "done"])
@pytest.mark.parametrize("before", [0, 40], ids=["written", "half written"])
def test_killed_while_a_file_is_written(
    run: Runs, whole: tuple[Path, int, int, list[int]], tmp_path: Path, file: int, before: int
) -> None:
    uninterrupted, _, _, syncs = whole
    assert len(syncs) == 5
    assert run(tmp_path, syncs[file] - before) is None
    assert run(tmp_path) is not None
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_killed_command_with_a_real_model(tmp_path: Path) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="test", count=24))
    program = [sys.executable, "-m", "medr1", "eval", str(WARM_START), "--data", str(tmp_path / "data")]
    settings = ["--prompt", "bare", "--max-new-tokens", "40", "--batch-size", "2", "--dtype", "float32"]

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen([*program, *settings, "--out", str(tmp_path / out)], stdout=subprocess.DEVNULL)

    def kill_after(out: str, lines: int) -> None:
        """SIGKILL once there are so many predictions."""
        path = tmp_path / out / "predictions.jsonl"
        process = start(out)
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    assert start("whole").wait() == 0
    for lines in (1, 11, 30):
        kill_after("killed", lines)
    assert start("killed").wait() == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
