"""What the commands are asked for that run a whole pipeline."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from medr1.settings import RunSettings, Several


class DemoSettings(RunSettings):
    """What the demo runs; the defaults are the five-minute one."""

    out: Path = Path("runs/demo")
    """Folder of the demo; called again, it goes on where it stopped."""
    seeds: Annotated[int, Ge(1)] = 1
    """Seeds of the reinforcement learning, all reported."""
    shuffled: bool = False
    """Train a further control on images shuffled between questions."""
    workers: Annotated[int, Ge(1)] | None = None
    """Trainings that run at once; by default one per two cores' worth."""
    num_train: Annotated[int, Ge(1)] = 10_800
    """Training questions, each seen once: 450 steps of 24."""
    num_test: Annotated[int, Ge(1)] = 960
    """Test questions."""
    num_colour: Annotated[int, Ge(1)] = 3000
    """Training images that the colour baseline is fitted on."""
    data_seed: int = 3
    """Seed of the phantoms. Settings were chosen with 0 to 2; nothing was chosen on the test images of this one."""
    train_arguments: Several[str] = ()
    """Further flags for every training, such as --max_steps,7."""
    overwrite: bool = False
    """Start anew where the folder holds a demo."""
