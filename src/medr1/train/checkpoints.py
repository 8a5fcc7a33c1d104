"""Checkpoints of a training: made aside, published whole, found again, and said where something of them is missing."""

import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from medr1.models.loading import forget_padding
from medr1.runs import STAGING, Run

logger = logging.getLogger(__name__)

NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
STATE_FILE = "trainer_state.json"
ASIDE = f"{STAGING}checkpoint"
"""Where a checkpoint is made: every process writes its part there, so the name is the same in all of them."""
NEEDED_TO_RESUME = {
    "optimizer*": "the optimizer with its moments",
    "scheduler.pt": "the schedule of the learning rate",
    "rng_state*.pth": "the stream of random numbers",
}
"""Files of a checkpoint without which a resumed run is another one, and what they hold."""


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest first."""
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True) if path.is_dir()]


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that can be resumed from; says which newer ones are damaged, and what of it is missing."""
    for path in checkpoints_in(folder):
        damage = damage_of(path)
        if damage is None:
            for pattern, content in NEEDED_TO_RESUME.items():
                if not any(path.glob(pattern)) and not any(path.glob(f"**/{pattern}")):
                    logger.warning(
                        "%s has no %s: %s start anew, so the run will be another one.", path, pattern, content
                    )
            return path
        logger.warning("%s is damaged (%s); the run goes on from the checkpoint before it.", path, damage)
    return None


def damage_of(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being resumed; None where it is whole."""
    try:
        if not isinstance(json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")), dict):
            return f"{STATE_FILE} is no object"
    except (OSError, ValueError) as error:
        return f"{STATE_FILE}: {error}"
    weights = [*checkpoint.glob("*.safetensors"), *checkpoint.glob("pytorch_model_fsdp*")]
    if not weights and not any(checkpoint.glob("global_step*")):  # DeepSpeed's
        return "no weights"
    for path in checkpoint.glob("*.safetensors"):
        try:
            with safe_open(path, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name}: {error}"
    for path in checkpoint.glob("*.pt"):
        if not zipfile.is_zipfile(path):
            return f"{path.name} is cut off"
    return None


class PublishesCheckpoints:
    """For trainers: a checkpoint appears under its name when every process has written its part of it.

    `run` is None where nothing keeps the folder (a dry run); then checkpoints are written as the parent does.
    """

    run: Run | None = None
    is_writing = False
    """Whether the folder belongs to a run, on every process; `run` is that of the main process."""
    beside: list[Callable[[Path], None]]
    """Called with the folder of a checkpoint on the main process, to put further files into it."""
    _aside: Path | None = None

    def keep(self: Any, run: Run | None, *beside: Callable[[Path], None]) -> None:
        """Publish through a run; `run` is None on all processes but the main one."""
        self.run, self.is_writing, self.beside = run, True, list(beside)

    def _run_epoch(self: Any, *args: Any, **kwargs: Any) -> None:
        """The parent's, which takes one step too many of a run that was stopped behind its last one."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)  # type: ignore[misc]
        else:
            self.control.should_training_stop = True

    def _get_output_dir(self: Any, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)  # type: ignore[misc]

    def _save_checkpoint(self: Any, model: nn.Module, trial: Any) -> None:
        forget_padding(self.processing_class)
        if not self.is_writing:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            return
        folder, name = Path(self.args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self._made_aside(folder) as aside:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            wait_for_all()
            is_best = self.state.best_model_checkpoint == str(aside / name)
            if is_best:
                self.state.best_model_checkpoint = str(folder / name)
            if self.run is not None:
                if is_best:
                    self.state.save_to_json(str(aside / name / STATE_FILE))
                for write in self.beside:
                    write(aside / name)
                self.run.publish(aside / name, name)
                self.drop_old_checkpoints()
        wait_for_all()

    @contextmanager
    def _made_aside(self: Any, folder: Path) -> Iterator[Path]:
        aside = folder / ASIDE
        if self.run is not None:
            aside.mkdir(exist_ok=True)
        wait_for_all()
        self._aside = aside
        try:
            yield aside
        finally:
            self._aside = None
            if self.run is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def drop_old_checkpoints(self: Any) -> None:
        """Remove the oldest checkpoints past `save_total_limit`; the newest and the best one stay, as in the parent."""
        limit, newest_first = self.args.save_total_limit, checkpoints_in(Path(self.args.output_dir))
        if self.run is None or not newest_first or not limit or limit < 0:
            return
        best = Path(self.state.best_model_checkpoint or "").name
        protected = {newest_first[0].name, *(path.name for path in newest_first if path.name == best)}
        removable = [path.name for path in reversed(newest_first) if path.name not in protected]
        for name in removable[: len(newest_first) - max(limit, len(protected))]:
            self.run.remove(name)

    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> None:
        """TRL's draft of a README, published whole."""
        if not self.is_writing:
            super().create_model_card(*args, **kwargs)  # type: ignore[misc]
        elif self.run is not None:
            before = self.args.output_dir
            with self.run.staged() as aside:
                self.args.output_dir = str(aside)
                try:
                    super().create_model_card(*args, **kwargs)  # type: ignore[misc]
                finally:
                    self.args.output_dir = before
                for path in aside.iterdir():
                    self.run.publish(path, path.name)


def wait_for_all() -> None:
    """Wait until every process is here; at once where there is only one."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def is_main_process() -> bool:
    """Whether this is the process that writes what all share."""
    return int(os.environ.get("RANK", "0")) == 0
