"""What a training run leaves behind beside its checkpoints: its log, some completions, and its manifest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medr1.records import JsonlAppender, read_jsonl

COMPLETIONS_PER_STEP = 8
"""Completions kept of every logged step: enough to read along, small enough for long runs."""


class LogListener(TrainerCallback):
    """Hands every log record, with its step, to `take`; on the main process only."""

    def take(self, record: Mapping[str, Any]) -> None:
        """Do something with a record."""
        raise NotImplementedError

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """One record per log event."""
        if state.is_world_process_zero and logs:
            self.take({"step": state.global_step, **logs})


def records_before(path: Path, state: TrainerState) -> list[dict[str, Any]]:
    """The records of a log up to the step that a run resumes from; none of those that will come again."""
    if not state.global_step or not path.exists():
        return []
    return [record for record in read_jsonl(path) if record["step"] <= state.global_step]


class TrainLog(LogListener):
    """Appends every log record to `train_log.jsonl`; a resumed run continues after its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "train_log.jsonl"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop records of steps that will run again."""
        if state.is_world_process_zero and self.path.exists():
            kept = records_before(self.path, state)
            self.path.unlink()
            with JsonlAppender(self.path) as log:
                for record in kept:
                    log.append(record)

    def take(self, record: Mapping[str, Any]) -> None:
        """One line per record."""
        with JsonlAppender(self.path) as log:
            log.append(record)


class CompletionLog(TrainerCallback):
    """Keeps the first completions of every logged step in `completions.parquet`."""

    def __init__(self, folder: Path, latest: Callable[[], Mapping[str, Any]]) -> None:
        self.path = folder / "completions.parquet"
        self.latest = latest
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the rows of a run that is resumed."""
        if state.global_step and self.path.exists():
            kept = pq.read_table(self.path).to_pylist()
            self.rows = [row for row in kept if row["step"] <= state.global_step]

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Copy what the trainer logged of its last generation batch."""
        logs = self.latest()
        for index, completion in list(enumerate(logs["completion"]))[:COMPLETIONS_PER_STEP]:
            text = completion if isinstance(completion, str) else completion[0]["content"]
            row = {"step": state.global_step, "completion": text, "advantage": logs["advantages"][index]}
            self.rows.append(row | {name: values[index] for name, values in logs["rewards"].items()})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write them whenever a checkpoint is written."""
        self.write(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """And at the end."""
        self.write(state)

    def write(self, state: TrainerState) -> None:
        """Replace the file by one with all rows."""
        if state.is_world_process_zero and self.rows:
            aside = self.path.with_suffix(".writing")
            pq.write_table(pa.Table.from_pylist(self.rows), aside)
            aside.replace(self.path)


class Progress(TrainerCallback):
    """Reports every step to a function, for progress bars that are not tqdm's."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Steps done and steps planned."""
        self.report(state.global_step, state.max_steps)
