"""`medr1 models`: known checkpoints, and the tiny one."""

import shutil
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from medr1.cli.options import Then, takes
from medr1.models.zoo import SHIPPED, TinySettings

CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt")

app = typer.Typer(help="List known checkpoints; copy or train the tiny model.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the checkpoints that medr1 has recipes or tests for."""
    from medr1.models.zoo import ZOO

    table = Table("name", "hub id", "what it is")
    for name, entry in ZOO.items():
        table.add_row(name, entry.hub_id, entry.description)
    Console().print(table)


@app.command()
@takes(TinySettings, then=Then(next='medr1 ask photo.png "What is this?" --model {out}'))
def tiny(settings: TinySettings) -> None:
    """Write the tiny Qwen-VL: the shipped warm start, one trained anew, or random weights.

    \b
    medr1 models tiny --out models/tiny
    medr1 models tiny --family qwen2_vl --random --out models/random
    """
    from medr1.errors import ConfigError
    from medr1.models.tiny import WARM_START
    from medr1.models.tiny.build import FAMILIES, TinyShape, save_random
    from medr1.runs import Run

    family, seed = settings.family, settings.seed
    if family not in FAMILIES:
        raise ConfigError(f"there is no tiny model of the family {family!r}; choose one of {', '.join(FAMILIES)}")
    if settings.train and not FAMILIES[family].circuits:
        trainable = " or ".join(name for name, made_of in FAMILIES.items() if made_of.circuits)
        raise ConfigError(f"the tiny {family} does not learn from its random weights; train {trainable}")
    shape = TinyShape(family=family)
    made = "trained" if settings.train else "random" if settings.random or family != SHIPPED else "shipped"
    with Run(
        settings.out,
        command="models tiny",
        arguments={"made": made, "family": family},
        identity={"made": made, "family": family},
        seed=seed,
        owns=CHECKPOINT_FILES,
        overwrite=settings.overwrite,
    ) as run:
        if not (run.done and run.has("config.json", "model.safetensors")):
            with run.everything() as folder:
                if made == "trained":
                    _train(shape, folder, seed, settings.processes)
                elif made == "random":
                    save_random(shape, folder, seed=seed)
                else:
                    shutil.copytree(WARM_START, folder, dirs_exist_ok=True)
            run.reach("done")


def _train(shape: object, out: Path, seed: int, processes: int) -> None:
    import torch

    from medr1.models.tiny.build import TinyShape
    from medr1.train.warm_start import Curriculum, WarmStart

    assert isinstance(shape, TinyShape)
    torch.set_num_threads(1)  # sums in another order give other weights
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Drawing phantoms", total=None)
        warm_start = WarmStart(shape, Curriculum(seed=seed), processes=processes)
        for record in warm_start.train():
            label = f"{record['stage']}, loss {record['loss']:.2f}"
            bar.update(task, description=label, completed=record["step"], total=record["steps"])
        warm_start.save(out)
