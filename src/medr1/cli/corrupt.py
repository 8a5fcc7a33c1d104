"""`medr1 corrupt` and `medr1 robustness`: corrupted copies of a data set, and what they cost a model."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")]


def corrupt_command(
    data: Annotated[Path, typer.Argument(help="Samples: a folder that `medr1 data` wrote, or a parquet file.")],
    out: Annotated[Path, typer.Option(help="Folder for the PNGs, dataset.parquet, images.jsonl and sheet.png.")],
    corruptions: Annotated[
        str, typer.Option(help="Names, comma-separated; by default all that are proper to each sample's modality.")
    ] = "",
    severities: Annotated[str, typer.Option(help="1 (mild) to 5 (severe), comma-separated.")] = "1,3,5",
    limit: Annotated[int | None, typer.Option(min=1, help="Corrupt so many samples, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn samples and of the corruptions.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes that compute.")] = 2,
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Corrupt the images of a data set as their modality can be: noise, motion, artefacts, in five severities.

    OUT is data like any other: `medr1 eval MODEL --data OUT --controls ""`, then `medr1 robustness CLEAN CORRUPTED`.
    Called again, it goes on where it stopped. Look at sheet.png.
    """
    from medr1.errors import ConfigError
    from medr1.report.tables import Table, rich_table
    from medr1.variants.corruptions.write import CorruptionJob, write_corrupted

    names = tuple(name.strip() for name in corruptions.split(",") if name.strip())
    levels = [level.strip() for level in severities.split(",")]
    if not all(level.isdecimal() for level in levels):
        raise ConfigError(f"the severities are {severities!r}; write whole numbers with commas, as in 1,3,5")
    job = CorruptionJob(
        path=data,
        out=out,
        corruptions=names or None,
        severities=tuple(map(int, levels)),
        limit=limit,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Corrupting", total=None)
        summary = write_corrupted(job, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    rows = [(variant, f"{row['n']:,}", f"{row['ssim']:.3f}") for variant, row in summary["variants"].items()]
    note = f"{summary['n']:,} samples. SSIM: mean structural similarity to the clean picture."
    Console().print(rich_table(Table(title=str(out), columns=("", "pictures", "SSIM"), rows=rows, note=note)))


def robustness_command(
    clean: Annotated[Path, typer.Argument(help="Evaluation of the clean data: a folder that `medr1 eval` wrote.")],
    corrupted: Annotated[Path, typer.Argument(help="Evaluation of its corrupted copies, by the same model.")],
    out: Annotated[Path | None, typer.Option(help="Folder for corruptions.json.")] = None,
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print corruptions.json instead of the tables.")] = False,
) -> None:
    """Say what corruptions cost: mean corruption accuracy, relative drop, changed answers, shift of the calibration.

    For the image-reliant questions apart, the clean evaluation needs controls, and for the calibration both need
    --option-logprobs.
    """
    from medr1.eval.corruption import compare_corrupted
    from medr1.report.corruption import all_tables
    from medr1.report.tables import rich_table

    results = compare_corrupted(clean, corrupted, out=out, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    for table in all_tables(results):
        Console().print(rich_table(table))
