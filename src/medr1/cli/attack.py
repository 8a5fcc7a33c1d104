"""`medr1 attack`: adversarial images for a checkpoint, and what is left of its accuracy on them."""

import typer
from rich.console import Console

from medr1.attack.settings import AttackSettings
from medr1.cli.options import print_json, progress, takes


@takes(AttackSettings, prints="attack.json or grid.json")
def attack_command(settings: AttackSettings, as_json: bool) -> None:
    """Attack a checkpoint through its images, and judge the saved files by free generation.

    Only samples that it answers rightly are attacked. Every accuracy stands beside noise of the same size and blind
    baselines; failed checks say why figures are not trustworthy. Called again, it goes on where it stopped.

    \b
    medr1 attack medvlm-r1 --data data/test --out runs/attack --k 4
    medr1 attack medvlm-r1 --data data/test --out runs/grid --grid --limit 100
    """
    from medr1.flows.attacks import attack
    from medr1.flows.engines import as_trained
    from medr1.report.attack import attack_table, parts_table
    from medr1.report.tables import rich_table

    settings = as_trained(settings, lambda line: typer.echo(f"medr1: {line}", err=True))
    with progress("Attacking") as show:
        result = attack(settings, lambda what, done, total: show(done, total, what))
    if as_json:
        cells = list(result["cells"].values())
        print_json(cells[0] if len(cells) == 1 else result)
    else:
        console = Console()
        console.print(rich_table(attack_table(result, title=str(settings.out))))
        console.print(rich_table(parts_table(result, "by_modality", "Accuracy by modality (%)")))
    crashed = [name for name, cell in result["cells"].items() if "error" in cell]
    if crashed:
        typer.echo(f"medr1: {', '.join(crashed)} failed; see manifest.json", err=True)
        raise typer.Exit(1)
