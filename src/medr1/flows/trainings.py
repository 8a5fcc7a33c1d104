"""Trainings side by side: each a `medr1 train` command of its own, which ends with this process, watched by its log."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medr1.errors import MedR1Error
from medr1.processes import child_environment
from medr1.records import read_jsonl
from medr1.runs import publication, stored_manifest

POLL_SECONDS = 0.5
END_SECONDS = 1.5
"""For trainings that are told to end; after that they are killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One `medr1 train` command."""

    name: str
    folder: Path
    """Its `--output_dir`."""
    arguments: tuple[str, ...]
    """What follows `medr1 train`, without the output folder."""
    num_steps: int

    @property
    def finished(self) -> bool:
        """Whether its run says that nothing is left to do."""
        stored = stored_manifest(self.folder)
        return stored is not None and stored.state == "done"

    @property
    def output(self) -> Path:
        """What it prints goes beside its folder, which is its own."""
        return self.folder.with_name(f"{self.folder.name}.txt")

    @property
    def step(self) -> int:
        """Steps that its log tells of."""
        path = self.folder / "train_log.jsonl"
        records = read_jsonl(path) if path.exists() else []
        return records[-1]["step"] if records else 0


def run_trainings(
    trainings: Sequence[Training], *, workers: int, progress: Callable[[Training, int], None]
) -> dict[str, float]:
    """Run what is not finished, `workers` at a time; return the seconds of each that ran.

    Interrupted, it stops its children; called again, each goes on from its last checkpoint.

    Raises:
        MedR1Error: one of them failed; the message names its output.
    """
    waiting = [training for training in trainings if not training.finished]
    threads = max(1, (os.cpu_count() or 1) // max(1, min(workers, len(waiting))))
    running: dict[str, tuple[Training, subprocess.Popen[bytes], float]] = {}
    seconds: dict[str, float] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                training = waiting.pop(0)
                running[training.name] = (training, _start(training, threads), time.monotonic())
            time.sleep(POLL_SECONDS)
            for name, (training, process, started) in list(running.items()):
                ended = process.poll() is not None  # asked first: the steps told last are then all there are
                progress(training, training.step)
                if not ended:
                    continue
                del running[name]
                seconds[name] = round(time.monotonic() - started, 1)
                if process.returncode != 0 or not training.finished:
                    last = training.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                    raise MedR1Error(
                        f"training {name!r} failed ({' '.join(last)}); its whole output is in {training.output}"
                    )
    finally:
        _end([process for _, process, _ in running.values()])
    return seconds


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Tell all of them to end, then see to it: what they have published is whole at any moment."""
    for process in processes:
        process.terminate()
    latest = time.monotonic() + END_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(training: Training, threads: int) -> "subprocess.Popen[bytes]":
    training.output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "medr1", "train", *training.arguments, "--output_dir", str(training.folder)]
    environment = child_environment() | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin beside another training slow both down
        "PYTHONUNBUFFERED": "1",
    }
    with publication("file", training.output):
        output = training.output.open("wb")
    with output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
