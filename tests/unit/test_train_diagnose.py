"""The callback: each finding once, on the main process only, and not again after a resume."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from medr1.records import JsonlAppender
from medr1.train.callbacks import Diagnosis


def log(callback: Diagnosis, step: int, *, main: bool = True, **logs: Any) -> None:
    state = TrainerState(global_step=step, is_world_process_zero=main)
    callback.on_log(TrainingArguments(use_cpu=True), state, TrainerControl(), logs=logs)


def test_each_finding_is_told_once_when_it_appears(tmp_path: Path) -> None:
    told: list[str] = []
    callback = Diagnosis(tmp_path, told.append)
    for step in range(1, 8):
        log(callback, step, grad_norm=0.0)
        assert len(told) == (step >= 5)
    assert told[0].startswith("error at step 5, broken gradient: ")
    other: list[str] = []
    log(Diagnosis(tmp_path, other.append), 1, main=False, grad_norm=float("nan"))
    assert other == []


def test_without_a_listener_the_line_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log(Diagnosis(tmp_path), 1, grad_norm=float("nan"))
    assert "broken gradient" in caplog.text


def test_a_resumed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with JsonlAppender(tmp_path / "train_log.jsonl") as file:
        for step in range(1, 7):  # the fifth and sixth step run again
            file.append({"step": step, "grad_norm": 0.0})
    told: list[str] = []
    callback = Diagnosis(tmp_path, told.append)
    state = TrainerState(global_step=4, is_world_process_zero=True)
    callback.on_train_begin(TrainingArguments(use_cpu=True), state, TrainerControl())
    assert told == []
    log(callback, 5, grad_norm=0.0)
    log(callback, 6, grad_norm=0.0)
    assert len(told) == 1
    assert "step 5" in told[0]
