"""`medr1 data phantom`: procedural medical images with questions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    split: Annotated[str, typer.Option(help="train, validation or test; test has a shifted range of nuisances.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images, one question each.")] = 1000,
    side: Annotated[int, typer.Option(min=28, max=1024, help="Side in pixels.")] = 84,
    seed: Annotated[int, typer.Option(help="Seed of the pictures and questions.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
    masks: Annotated[bool, typer.Option("--masks", help="Write the lesion masks beside.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="Write a contact sheet to OUT.png.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
) -> None:
    """Draw phantoms: eight modalities, five tasks, lesions with masks, and no way to answer without looking."""
    from medr1.data.phantom import write_phantoms

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Drawing", total=count)
        written = write_phantoms(
            out,
            split,
            count,
            seed=seed,
            side=side,
            processes=processes,
            masks=masks,
            sheet=out.with_name(f"{out.name}.png") if sheet else None,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    typer.echo(f"Written: {written} questions to {out}")
