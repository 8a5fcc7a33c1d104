"""`medr1 attack`: adversarial images for a checkpoint, and what is left of its accuracy on them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from medr1.cli.engines import Device, DeviceOption, Dtype, DtypeOption
from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.attack.craft import Attack

GRID_ATTACKS, GRID_BUDGETS = "noise,fgsm,pgd", "2,4,7,8"
ONE_BUDGET = 8


class Region(StrEnum):
    """Pixels that may change."""

    ALL = "all"
    INSIDE = "inside"
    OUTSIDE = "outside"


class Space(StrEnum):
    """Images that are attacked."""

    GRID = "grid"
    NATIVE = "native"


EpsilonOption = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Budget from 0 to 1 instead of --k: 0.03 is k = 7.")
]
ModesOption = Annotated[
    str | None,
    typer.Option(help="Words forced before the letter: direct, rationale, joint, stop. [joint,stop or direct]"),
]


def attack_command(
    model: Annotated[str, typer.Argument(help="Checkpoint: a folder, a name of `medr1 models list`, or a hub name.")],
    data: Annotated[Path, typer.Option(help="Samples: a folder that `medr1 data` wrote, or a parquet file.")],
    out: Annotated[Path, typer.Option(help="Folder for images, predictions, attack.json, grid.json and attack.html.")],
    attack: Annotated[
        str | None,
        typer.Option(help="noise, fgsm, pgd, pgd_strong, apgd, mi, square, typographic; several with commas. [pgd]"),
    ] = None,
    k: Annotated[str | None, typer.Option("--k", help="Budgets in grey levels of 255, comma-separated. [8]")] = None,
    epsilon: EpsilonOption = None,
    grid: Annotated[
        bool, typer.Option("--grid", help=f"Unless named otherwise, the attacks {GRID_ATTACKS} at k = {GRID_BUDGETS}.")
    ] = False,
    prompt: Annotated[str, typer.Option(help="Prompt template by name.")] = "think",
    protocol: Annotated[str, typer.Option(help="How completions are read.")] = "default",
    modes: ModesOption = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Gradient steps or queries; the attack's own.")] = None,
    restarts: Annotated[int | None, typer.Option(min=1, help="Restarts; the attack's own.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="One perturbation for the three channels.")] = False,
    region: Annotated[Region, typer.Option(help="Pixels that may change, by --masks.")] = Region.ALL,
    masks: Annotated[Path | None, typer.Option(help=".npz with a mask by sample id.")] = None,
    space: Annotated[
        Space, typer.Option(help="grid: the size that the model sees; native: that of the file.")
    ] = Space.GRID,
    train_data: Annotated[
        Path | None, typer.Option(help="Training samples: text prior, and which images occur in them.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Limit of a completion.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples that are attacked together.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Attack so many samples, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn samples and of the attacks.")] = 0,
    checks: Annotated[bool, typer.Option(help="Run the checks; without them nothing is trustworthy.")] = True,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print attack.json or grid.json instead of the table.")
    ] = False,
) -> None:
    """Attack a checkpoint through its images, and judge the saved files by free generation.

    Only samples that it answers rightly are attacked. Every accuracy stands beside noise of the same size and blind
    baselines; failed checks say why figures are not trustworthy. Called again, it goes on where it stopped.
    """
    from medr1.attack.run import run_attack
    from medr1.attack.stage import AttackJob
    from medr1.attack.threat import ThreatModel
    from medr1.data.convert import choose
    from medr1.records import read_samples
    from medr1.rollout.transformers import TransformersEngine

    job = AttackJob(
        out=out,
        attacks=_attacks(attack or (GRID_ATTACKS if grid else "pgd"), steps=steps, restarts=restarts),
        budgets=_budgets(k, epsilon, GRID_BUDGETS if grid else str(ONE_BUDGET)),
        prompt=prompt,
        protocol=protocol,
        modes=_modes(modes),
        threat=ThreatModel(k=0, grey=grey, region=region.value, space=space.value),
        masks=masks,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
        checks=checks,
        arguments={"model": model, "data": data, "limit": limit, "steps": steps, "restarts": restarts},
        overwrite=overwrite,
    )
    samples = choose(list(read_samples(data)), limit, seed)
    train_samples = None if train_data is None else list(read_samples(train_data))
    engine = TransformersEngine(model, device=device.chosen, dtype=dtype.value, batch_size=batch_size)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Attacking", total=None)
        result = run_attack(
            job,
            samples,
            engine,
            train_samples=train_samples,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    _print(result, str(out), as_json=as_json)
    crashed = [name for name, cell in result["cells"].items() if "error" in cell]
    if crashed:
        typer.echo(f"medr1: {', '.join(crashed)} failed; see manifest.json", err=True)
        raise typer.Exit(1)


def _print(result: dict[str, Any], title: str, *, as_json: bool) -> None:
    from medr1.report.attack import attack_table, parts_table
    from medr1.report.tables import rich_table

    if as_json:
        cells = list(result["cells"].values())
        typer.echo(json.dumps(cells[0] if len(cells) == 1 else result, indent=2))
    else:
        console = Console()
        console.print(rich_table(attack_table(result, title=title)))
        console.print(rich_table(parts_table(result, "by_modality", "Accuracy by modality (%)")))


def _attacks(names: str, **settings: int | None) -> "tuple[Attack, ...]":
    """Attacks by name, with those settings that are given. Raises `ConfigError`."""
    from medr1.attack.craft import named_attack

    given = {name: value for name, value in settings.items() if value is not None}
    return tuple(named_attack(name.strip(), **given) for name in names.split(","))


def _budgets(k: str | None, epsilon: float | None, usual: str) -> tuple[int, ...]:
    """Budgets in grey levels. Raises `ConfigError`."""
    from medr1.attack.threat import LEVELS, levels_of

    if epsilon is not None:
        if k is not None:
            raise ConfigError("--k and --epsilon both set the budget; leave one out")
        return (levels_of(epsilon),)
    text = k or usual
    levels = [part.strip() for part in text.split(",")]
    if not all(level.isdecimal() and int(level) <= LEVELS for level in levels):
        raise ConfigError(f"--k is {text!r}; write whole grey levels from 0 to {LEVELS} with commas, as in 2,4,8")
    return tuple(map(int, levels))


def _modes(text: str | None) -> Any:
    """Names of modes, or None. Raises `ConfigError`."""
    from typing import get_args

    from medr1.attack.objective import Mode

    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in get_args(Mode)]
    if unknown:
        raise ConfigError(f"there is no mode {unknown[0]!r}; choose among {', '.join(get_args(Mode))}")
    return names
