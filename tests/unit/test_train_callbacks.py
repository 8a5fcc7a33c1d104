"""What a run leaves behind: its log, some of its completions, and both after a resume."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from medr1.runs import Run
from medr1.train.callbacks import COMPLETIONS_PER_STEP, CompletionLog, Progress, TrainLog


def call(event: Any, step: int, *, main: bool = True, **kwargs: Any) -> None:
    state = TrainerState(global_step=step, max_steps=9, is_world_process_zero=main)
    event(TrainingArguments(use_cpu=True), state, TrainerControl(), **kwargs)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run(tmp_path, command="train", arguments={}, identity={}, seed=0, owns=()) as run:
        yield run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def test_the_log_has_a_line_per_record_of_the_main_process(run: Run) -> None:
    log = TrainLog(run)
    call(log.on_train_begin, 0)
    call(log.on_log, 1, logs={"reward": 0.5})
    call(log.on_log, 2, logs={})
    call(log.on_log, 2, logs={"reward": 0.6}, main=False)
    call(TrainLog(None).on_log, 2, logs={"reward": 0.6})
    call(log.on_log, 3, logs={"reward": 0.75})
    assert lines(run.folder) == [{"step": 1, "reward": 0.5}, {"step": 3, "reward": 0.75}]


def test_a_resumed_log_goes_on_behind_its_checkpoint(run: Run) -> None:
    first = TrainLog(run)
    for step in range(1, 5):
        call(first.on_log, step, logs={"run": 1})
    call(TrainLog(None).on_train_begin, 2)
    assert len(lines(run.folder)) == 4, "another process leaves the file alone"
    second = TrainLog(run)
    call(second.on_train_begin, 2)
    assert lines(run.folder) == [{"step": 1, "run": 1}, {"step": 2, "run": 1}]
    call(second.on_log, 3, logs={"run": 2})
    assert [record["run"] for record in lines(run.folder)] == [1, 1, 2]
    call(second.on_log, 0, logs={"eval_before": 1})
    call(TrainLog(run).on_train_begin, 0)
    assert lines(run.folder) == [], "a run from the start has a log of its own"


def logged(count: int) -> dict[str, Any]:
    """As the trainer notes its last generation batch."""
    return {
        "completion": [f"text {n}" if n % 2 else [{"role": "assistant", "content": f"text {n}"}] for n in range(count)],
        "advantages": [n / 10 for n in range(count)],
        "rewards": {"accuracy": [float(n % 3) for n in range(count)], "format": [1.0] * count},
    }


def test_completions_are_kept_with_their_rewards(run: Run) -> None:
    log = CompletionLog(run, lambda: logged(COMPLETIONS_PER_STEP + 4))
    call(log.on_train_end, 0)
    path = run.folder / "completions.parquet"
    assert not path.exists(), "nothing to write"
    call(log.on_log, 1)
    assert not path.exists(), "written with the checkpoints only"
    other = CompletionLog(None, lambda: logged(1))
    call(other.on_log, 1)
    call(other.on_save, 1)
    assert not path.exists()
    call(log.on_save, 1)
    rows = pq.read_table(path).to_pylist()
    assert rows == [
        {"step": 1, "completion": f"text {n}", "advantage": n / 10, "accuracy": float(n % 3), "format": 1.0}
        for n in range(COMPLETIONS_PER_STEP)
    ]
    call(log.on_log, 2)
    call(log.on_log, 2)  # the record that sums up a run comes at its last step
    call(log.on_train_end, 2)
    assert pq.read_table(path)["step"].to_pylist() == [1] * COMPLETIONS_PER_STEP + [2] * COMPLETIONS_PER_STEP


def test_completions_of_a_resumed_run_go_on_behind_its_checkpoint(run: Run) -> None:
    path, checkpoint = run.folder / "completions.parquet", run.folder / "checkpoint-2"
    checkpoint.mkdir()
    first = CompletionLog(run, lambda: logged(1))
    for step in range(1, 5):
        call(first.on_log, step)
        if step == 2:
            first.beside_checkpoint(checkpoint)
    # Killed before the file beside the checkpoint was written anew, the run has the rows in the checkpoint.
    second = CompletionLog(run, lambda: logged(1))
    call(second.on_train_begin, 2)
    call(second.on_log, 3)
    call(second.on_save, 3)
    assert pq.read_table(path)["step"].to_pylist() == [1, 2, 3]
    (checkpoint / "completions.parquet").unlink()  # as version 0.1 left it
    third = CompletionLog(run, lambda: logged(1))
    call(third.on_train_begin, 2)
    assert [row["step"] for row in third.rows] == [1, 2]
    fresh = CompletionLog(run, lambda: logged(1))
    call(fresh.on_train_begin, 0)
    call(fresh.on_log, 1)
    call(fresh.on_save, 1)
    assert pq.read_table(path)["step"].to_pylist() == [1]


def test_every_step_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    progress = Progress(lambda done, planned: seen.append((done, planned)))
    for step in (1, 2):
        call(progress.on_step_end, step)
    assert seen == [(1, 9), (2, 9)]
