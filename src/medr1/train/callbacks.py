"""What a training run leaves behind beside its checkpoints (log, completions, manifest), and who watches it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from medr1.diagnosis import LogLine, Watch
from medr1.records import read_jsonl
from medr1.runs import Run

TRAIN_LOG, COMPLETIONS = "train_log.jsonl", "completions.parquet"

COMPLETIONS_PER_STEP = 8
"""Completions kept of every logged step: enough to read along, small enough for long runs."""


class LogListener(TrainerCallback):
    """Hands every log record, with its step, to `take`; on the main process only."""

    def take(self, record: LogLine) -> None:
        """Do something with a record."""
        raise NotImplementedError

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: LogLine | None = None,
        **kwargs: Any,
    ) -> None:
        """One record per log event."""
        if state.is_world_process_zero and logs:
            self.take({"step": state.global_step, **logs})


def records_before(path: Path, state: TrainerState) -> list[LogLine]:
    """The records of a log up to the step that a run resumes from; none of those that will come again.

    The one that sums up a run comes at its end, whatever step that is.
    """
    if not state.global_step or not path.exists():
        return []
    kept = [record for record in read_jsonl(path) if record["step"] <= state.global_step]
    return [record for record in kept if "train_runtime" not in record]


class TrainLog(LogListener):
    """Appends every log record to `train_log.jsonl`; a resumed run continues after its checkpoint.

    Args:
        run: of the main process; None on the others, which write nothing.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.losses: list[tuple[int, float]] = []
        """Logged losses with their steps."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop records of steps that will run again."""
        if self.run is not None and (path := self.run.folder / TRAIN_LOG).exists():
            kept = records_before(path, state)
            self.run.write_jsonl(TRAIN_LOG, kept)
            self.losses = [(record["step"], record["loss"]) for record in kept if "loss" in record]

    def take(self, record: LogLine) -> None:
        """One line per record."""
        if self.run is None:
            return
        if "loss" in record:
            self.losses.append((record["step"], record["loss"]))
        if "train_loss" in record:
            # The trainer's own divides the losses since the last resume by the steps of the whole run.
            record = {**record, "train_loss": self._mean_loss()}
        with self.run.appending(TRAIN_LOG) as log:
            log.append(record)

    def _mean_loss(self) -> float | None:
        """Mean over the steps, each logged loss being that of the steps since the one before it."""
        if not self.losses:
            return None
        steps = [step for step, _ in self.losses]
        spans = [step - before for step, before in zip(steps, [0, *steps], strict=False)]
        return sum(loss * span for (_, loss), span in zip(self.losses, spans, strict=True)) / steps[-1]


class CompletionLog(TrainerCallback):
    """Keeps the first completions of every logged step in `completions.parquet`.

    A checkpoint holds those up to its step, so that a resumed run has each step once, wherever it was killed.

    Args:
        run: of the main process; None on the others, which write nothing.
        latest: what the trainer noted of its last generation batch.
    """

    def __init__(self, run: Run | None, latest: Callable[[], Mapping[str, Any]]) -> None:
        self.run, self.latest = run, latest
        self.rows: list[dict[str, object]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the rows of a run that is resumed."""
        if self.run is None or not state.global_step:
            return
        kept = self.run.folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / COMPLETIONS
        if not kept.exists():  # of version 0.1
            kept = self.run.folder / COMPLETIONS
        if kept.exists():
            self.rows = [row for row in pq.read_table(kept).to_pylist() if row["step"] <= state.global_step]

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Copy what the trainer logged of its last generation batch; the last record of a run has none of its own."""
        if self.rows and self.rows[-1]["step"] == state.global_step:
            return
        logs = self.latest()
        for index, completion in list(enumerate(logs["completion"]))[:COMPLETIONS_PER_STEP]:
            text = completion if isinstance(completion, str) else completion[0]["content"]
            row = {"step": state.global_step, "completion": text, "advantage": logs["advantages"][index]}
            self.rows.append(row | {name: values[index] for name, values in logs["rewards"].items()})

    def beside_checkpoint(self, checkpoint: Path) -> None:
        """Put the rows so far into a checkpoint that is not published yet."""
        self._write(checkpoint / COMPLETIONS)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Publish them whenever a checkpoint is."""
        self._publish()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """And at the end."""
        self._publish()

    def _publish(self) -> None:
        if self.run is not None and self.rows:
            with self.run.file(COMPLETIONS) as path:
                self._write(path)

    def _write(self, path: Path) -> None:
        if self.rows:
            pq.write_table(pa.Table.from_pylist(self.rows), path)


class Progress(TrainerCallback):
    """Reports every step to a function, for progress bars that are not tqdm's."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Steps done and steps planned."""
        self.report(state.global_step, state.max_steps)


logger = logging.getLogger(__name__)


class Diagnosis(LogListener):
    """Prints each finding of `medr1.diagnosis` once, in one line, when it appears.

    Args:
        folder: of the run; the log of the steps before a resume is read from it, without saying its findings again.
        tell: where a line goes.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = logger.warning) -> None:
        self.log, self.tell = folder / TRAIN_LOG, tell
        self.watch = Watch()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the log of a run that is resumed."""
        self.watch = Watch()
        for record in records_before(self.log, state):
            self.watch.add(record)

    def take(self, record: LogLine) -> None:
        """Judge a new record."""
        for finding in self.watch.add(record):
            self.tell(finding.line())
