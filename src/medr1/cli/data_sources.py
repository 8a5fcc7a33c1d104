"""`medr1 data download` and `medr1 data resize`."""

import typer

from medr1.cli.options import progress, takes
from medr1.data.settings import DownloadSettings, ResizeSettings


@takes(DownloadSettings)
def download(settings: DownloadSettings) -> None:
    """Fetch a data set with its images from the Hugging Face hub; called again, it goes on where it stopped.

    \b
    medr1 data download slake --out downloads/slake
    medr1 data download OWNER/NAME --revision main --out downloads/theirs
    """
    from medr1.data import SOURCES
    from medr1.data.download import download as run

    with progress("Unpacking") as show:
        run(settings.name, settings.out, revision=settings.revision, overwrite=settings.overwrite, progress=show)
    source = f" --source {settings.name}" if settings.name in SOURCES else ""
    typer.echo(f"Fetched into {settings.out}. Next: medr1 data convert {settings.out}{source} --out DIR")


@takes(ResizeSettings)
def resize(settings: ResizeSettings) -> None:
    """Resize all images, on all cores; called again after a kill, it goes on where it stopped.

    \b
    medr1 data resize data/train --out data/train384
    medr1 data resize data/train --size 512 --longest-side --out data/train512
    """
    from medr1.data.resize import Resizing
    from medr1.data.resize import resize as run

    job = Resizing(
        path=settings.path,
        out=settings.out,
        size=settings.size,
        longest_side=settings.longest_side,
        overwrite=settings.overwrite,
    )
    with progress("Resizing") as show:
        total = run(job, show)
    typer.echo(f"Resized the images of {total} questions into {settings.out}")
