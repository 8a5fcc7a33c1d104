"""What a run leaves behind: its log, some of its completions, and both after a resume."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import TrainerControl, TrainerState, TrainingArguments

from medr1.train.callbacks import COMPLETIONS_PER_STEP, CompletionLog, Progress, TrainLog


def call(event: Any, step: int, *, main: bool = True, **kwargs: Any) -> None:
    state = TrainerState(global_step=step, max_steps=9, is_world_process_zero=main)
    event(TrainingArguments(use_cpu=True), state, TrainerControl(), **kwargs)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def test_the_log_has_a_line_per_record_of_the_main_process(tmp_path: Path) -> None:
    log = TrainLog(tmp_path)
    call(log.on_train_begin, 0)
    call(log.on_log, 1, logs={"reward": 0.5})
    call(log.on_log, 2, logs={})
    call(log.on_log, 2, logs={"reward": 0.6}, main=False)
    call(log.on_log, 3, logs={"reward": 0.75})
    assert lines(tmp_path) == [{"step": 1, "reward": 0.5}, {"step": 3, "reward": 0.75}]


def test_a_resumed_log_goes_on_behind_its_checkpoint(tmp_path: Path) -> None:
    first = TrainLog(tmp_path)
    for step in range(1, 5):
        call(first.on_log, step, logs={"run": 1})
    call(TrainLog(tmp_path).on_train_begin, 2, main=False)
    assert len(lines(tmp_path)) == 4, "another process leaves the file alone"
    second = TrainLog(tmp_path)
    call(second.on_train_begin, 2)
    assert lines(tmp_path) == [{"step": 1, "run": 1}, {"step": 2, "run": 1}]
    call(second.on_log, 3, logs={"run": 2})
    assert [record["run"] for record in lines(tmp_path)] == [1, 1, 2]
    call(second.on_log, 0, logs={"eval_before": 1})
    call(TrainLog(tmp_path).on_train_begin, 0)
    assert lines(tmp_path) == [], "a run from the start has a log of its own"


def logged(count: int) -> dict[str, Any]:
    """As the trainer notes its last generation batch."""
    return {
        "completion": [f"text {n}" if n % 2 else [{"role": "assistant", "content": f"text {n}"}] for n in range(count)],
        "advantages": [n / 10 for n in range(count)],
        "rewards": {"accuracy": [float(n % 3) for n in range(count)], "format": [1.0] * count},
    }


def test_completions_are_kept_with_their_rewards(tmp_path: Path) -> None:
    log = CompletionLog(tmp_path, lambda: logged(COMPLETIONS_PER_STEP + 4))
    call(log.on_train_end, 0)
    assert list(tmp_path.iterdir()) == [], "nothing to write"
    call(log.on_log, 1)
    assert list(tmp_path.iterdir()) == [], "written with the checkpoints only"
    call(log.on_save, 1, main=False)
    assert list(tmp_path.iterdir()) == []
    call(log.on_save, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["completions.parquet"]
    rows = pq.read_table(tmp_path / "completions.parquet").to_pylist()
    assert rows == [
        {"step": 1, "completion": f"text {n}", "advantage": n / 10, "accuracy": float(n % 3), "format": 1.0}
        for n in range(COMPLETIONS_PER_STEP)
    ]
    call(log.on_log, 2)
    call(log.on_train_end, 2)
    assert len(pq.read_table(tmp_path / "completions.parquet")) == 2 * COMPLETIONS_PER_STEP


def test_completions_of_a_resumed_run_go_on_behind_its_checkpoint(tmp_path: Path) -> None:
    first = CompletionLog(tmp_path, lambda: logged(1))
    for step in range(1, 5):
        call(first.on_log, step)
    call(first.on_save, 4)
    second = CompletionLog(tmp_path, lambda: logged(1))
    call(second.on_train_begin, 2)
    call(second.on_log, 3)
    call(second.on_save, 3)
    assert pq.read_table(tmp_path / "completions.parquet")["step"].to_pylist() == [1, 2, 3]
    fresh = CompletionLog(tmp_path, lambda: logged(1))
    call(fresh.on_train_begin, 0)
    call(fresh.on_log, 1)
    call(fresh.on_save, 1)
    assert pq.read_table(tmp_path / "completions.parquet")["step"].to_pylist() == [1]


def test_every_step_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    progress = Progress(lambda done, planned: seen.append((done, planned)))
    for step in (1, 2):
        call(progress.on_step_end, step)
    assert seen == [(1, 9), (2, 9)]
