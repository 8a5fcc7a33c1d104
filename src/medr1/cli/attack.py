"""`medr1 attack`, `corrupt` and `robustness`: adversarial and corrupted images, and what they cost a checkpoint."""

import typer
from rich.console import Console

from medr1.attack.settings import AttackSettings
from medr1.cli.options import Then, note, print_json, progress, takes
from medr1.data.settings import CorruptSettings
from medr1.eval.settings import RobustnessSettings


@takes(
    AttackSettings,
    prints="attack.json or grid.json",
    then=Then(look="{out}/attack.html", next="medr1 eval OTHER_MODEL --data {out}/clean/dataset.parquet --out DIR"),
)
def attack_command(settings: AttackSettings, as_json: bool) -> None:
    """Attack a checkpoint through its images, and judge the saved files by free generation.

    Only samples that it answers rightly are attacked. Every accuracy stands beside noise of the same size and blind
    baselines; failed checks say why figures are not trustworthy. Called again, it goes on where it stopped.

    \b
    medr1 attack medvlm-r1 --data data/test --out runs/attack --k 4
    medr1 attack medvlm-r1 --data data/test --out runs/grid --grid --limit 100
    """
    from medr1.flows.engines import as_trained
    from medr1.flows.evaluation import attack
    from medr1.report.attack import attack_table, parts_tables
    from medr1.report.tables import rich_table
    from medr1.results.attacked import CrashedCell

    settings = as_trained(settings, note)
    with progress("Attacking") as show:
        result = attack(settings, lambda what, done, total: show(done, total, what))
    if as_json:
        cells = list(result.cells.values())
        print_json(cells[0] if len(cells) == 1 else result)
    else:
        console = Console()
        console.print(rich_table(attack_table(result, title=str(settings.out))))
        console.print(rich_table(parts_tables(result)[0]))
    crashed = [name for name, cell in result.cells.items() if isinstance(cell, CrashedCell)]
    if crashed:
        typer.echo(f"medr1: {', '.join(crashed)} failed; see manifest.json", err=True)
        raise typer.Exit(1)


@takes(
    CorruptSettings,
    prints="JSON",
    then=Then(look="{out}/sheet.png", next='medr1 eval MODEL --data {out} --variants "" --out DIR'),
)
def corrupt_command(settings: CorruptSettings, as_json: bool) -> None:
    """Corrupt the images of a data set as their modality can be: noise, motion, artefacts, in five severities.

    OUT is data like any other. Called again, it goes on where it stopped. Look at sheet.png.

    \b
    medr1 corrupt data/test --out data/corrupted
    medr1 eval MODEL --data data/corrupted --variants "" --out runs/corrupted
    medr1 robustness runs/clean runs/corrupted
    """
    from medr1.report.tables import Table, rich_table
    from medr1.variants.corruptions.write import write_corrupted

    with progress("Corrupting") as show:
        summary = write_corrupted(settings, show)
    if as_json:
        print_json(summary)
        return
    rows = [(variant, f"{found.n:,}", f"{found.ssim:.3f}") for variant, found in summary.variants.items()]
    note = f"{summary.n:,} samples. SSIM: mean structural similarity to the clean picture."
    Console().print(rich_table(Table(title=str(settings.out), columns=("", "pictures", "SSIM"), rows=rows, note=note)))


@takes(RobustnessSettings, prints="corruptions.json", then=Then(look="{out}/corruptions.json"))
def robustness_command(settings: RobustnessSettings, as_json: bool) -> None:
    """Say what corruptions cost: mean corruption accuracy, relative drop, changed answers, shift of the calibration.

    For the image-reliant questions apart, the clean evaluation needs controls, and for the calibration both need
    --option-logprobs.

    \b
    medr1 robustness runs/clean runs/corrupted
    medr1 robustness runs/clean runs/corrupted --out runs/robustness --json
    """
    from medr1.flows.stored import run_robustness
    from medr1.report.side_by_side import corruption_tables
    from medr1.report.tables import rich_table

    results = run_robustness(settings)
    if as_json:
        print_json(results)
        return
    for table in corruption_tables(results):
        Console().print(rich_table(table))
