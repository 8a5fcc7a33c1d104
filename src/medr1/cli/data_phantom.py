"""`medr1 data phantom`: procedural medical images with questions."""

import typer

from medr1.cli.options import progress, takes
from medr1.data.settings import PhantomSettings


@takes(PhantomSettings)
def phantom(settings: PhantomSettings) -> None:
    """Draw phantoms: eight modalities, five tasks, lesions with masks, and no way to answer without looking.

    \b
    medr1 data phantom --split train --out data/train
    medr1 data phantom --split test --count 100 --side 224 --masks --sheet --out data/test
    """
    from medr1.data.phantom import write_phantoms

    out = settings.out
    with progress("Drawing") as show:
        written = write_phantoms(
            out,
            settings.split,
            settings.count,
            seed=settings.seed,
            side=settings.side,
            processes=settings.processes,
            masks=settings.masks,
            sheet=out.with_name(f"{out.name}.png") if settings.sheet else None,
            overwrite=settings.overwrite,
            progress=show,
        )
    typer.echo(f"Written: {written} questions to {out}")
