"""Watches a run while it trains."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medr1.diagnosis import Watch
from medr1.records import read_jsonl

logger = logging.getLogger(__name__)


class Diagnosis(TrainerCallback):
    """Prints each finding of `medr1.diagnosis` once, in one line, when it appears.

    Args:
        folder: of the run; the log of the steps before a resume is read from it, without saying its findings again.
        tell: where a line goes.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = logger.warning) -> None:
        self.log, self.tell = folder / "train_log.jsonl", tell
        self.watch = Watch()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the log of a run that is resumed."""
        self.watch = Watch()
        if state.global_step and self.log.exists():
            for record in read_jsonl(self.log):
                if record["step"] <= state.global_step:
                    self.watch.add(record)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Judge the new record."""
        if state.is_world_process_zero and logs:
            for finding in self.watch.add({"step": state.global_step, **logs}):
                self.tell(finding.line())
