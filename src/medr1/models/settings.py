"""What `medr1 models tiny` is asked for."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from medr1.settings import RunSettings

SHIPPED = "qwen2_5_vl"
"""Family of the warm start that comes with the package."""


class TinySettings(RunSettings):
    """Which tiny checkpoint is written."""

    out: Path
    """Folder to write the checkpoint to."""
    train: bool = False
    """Train the warm start anew (about ten minutes)."""
    random: bool = False
    """Starting weights only, untrained."""
    family: str = SHIPPED
    """qwen2_5_vl, qwen2_vl or qwen3_vl; the shipped one is qwen2_5_vl."""
    seed: int = 0
    """Seed of the weights and the training."""
    processes: Annotated[int, Ge(1)] = 2
    """Processes that draw phantoms."""
