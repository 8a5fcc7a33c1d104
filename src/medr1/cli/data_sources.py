"""`medr1 data download | resize`, and the choice of records that `convert` takes."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.data.source import Choice


def choice_of(where: Iterable[str], columns: Iterable[str]) -> "Choice":
    """The choice that `FIELD=VALUE` and `OURS=THEIRS` texts describe; `ConfigError` for one without `=`."""
    from medr1.data.source import Choice

    values: dict[str, list[str]] = {}
    for name, value in map(_pair, where):
        values.setdefault(name, []).append(value)
    return Choice(where=values, columns=dict(map(_pair, columns)))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{text!r} is not NAME=VALUE; write it as --where q_lang=en or --column answer=label")
    return name, value


def download(
    name: Annotated[str, typer.Argument(help="A source of `medr1 data sources`, or OWNER/NAME of any data set.")],
    out: Annotated[Path, typer.Option(help="Folder to fetch into.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the newest by default.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Fetch all anew, in place of everything in the folder.")
    ] = False,
) -> None:
    """Fetch a data set with its images from the Hugging Face hub; called again, it goes on where it stopped."""
    from medr1.data import SOURCES
    from medr1.data.download import download as run

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Unpacking", total=None)
        run(
            name,
            out,
            revision=revision,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    source = f" --source {name}" if name in SOURCES else ""
    typer.echo(f"Fetched into {out}. Next: medr1 data convert {out}{source} --out DIR")


def resize(
    path: Annotated[Path, typer.Argument(help="Folder that `convert` wrote, or any other parquet folder of samples.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    size: Annotated[int, typer.Option(help="Pixels; Med-R1 trains on 384 × 384.")] = 384,
    longest_side: Annotated[
        bool, typer.Option("--longest-side", help="Keep the shape, and never enlarge: SIZE is for the longer side.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
) -> None:
    """Resize all images, on all cores; called again after a kill, it goes on where it stopped."""
    from medr1.data.resize import Resizing
    from medr1.data.resize import resize as run

    job = Resizing(path=path, out=out, size=size, longest_side=longest_side, overwrite=overwrite)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Resizing", total=None)
        total = run(job, lambda done: bar.update(task, completed=done))
    typer.echo(f"Resized the images of {total} questions into {out}")
