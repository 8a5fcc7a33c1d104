"""Watches a run while it trains."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from medr1.diagnosis import Watch
from medr1.train.callbacks import TRAIN_LOG, LogListener, records_before

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

    def take(self, record: Mapping[str, Any]) -> None:
        """Judge a new record."""
        for finding in self.watch.add(record):
            self.tell(finding.line())
