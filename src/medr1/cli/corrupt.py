"""`medr1 corrupt` and `medr1 robustness`: corrupted copies of a data set, and what they cost a model."""

from rich.console import Console

from medr1.cli.options import print_json, progress, takes
from medr1.data.settings import CorruptSettings
from medr1.eval.settings import RobustnessSettings


@takes(CorruptSettings, prints="JSON")
def corrupt_command(settings: CorruptSettings, as_json: bool) -> None:
    """Corrupt the images of a data set as their modality can be: noise, motion, artefacts, in five severities.

    OUT is data like any other. Called again, it goes on where it stopped. Look at sheet.png.

    \b
    medr1 corrupt data/test --out data/corrupted
    medr1 eval MODEL --data data/corrupted --controls "" --out runs/corrupted
    medr1 robustness runs/clean runs/corrupted
    """
    from medr1.report.tables import Table, rich_table
    from medr1.variants.corruptions.write import CorruptionJob, write_corrupted

    job = CorruptionJob(
        path=settings.data,
        out=settings.out,
        corruptions=settings.corruptions or None,
        severities=settings.severities,
        limit=settings.limit,
        seed=settings.seed,
        processes=settings.processes,
        overwrite=settings.overwrite,
    )
    with progress("Corrupting") as show:
        summary = write_corrupted(job, show)
    if as_json:
        print_json(summary)
        return
    rows = [(variant, f"{row['n']:,}", f"{row['ssim']:.3f}") for variant, row in summary["variants"].items()]
    note = f"{summary['n']:,} samples. SSIM: mean structural similarity to the clean picture."
    Console().print(rich_table(Table(title=str(settings.out), columns=("", "pictures", "SSIM"), rows=rows, note=note)))


@takes(RobustnessSettings, prints="corruptions.json")
def robustness_command(settings: RobustnessSettings, as_json: bool) -> None:
    """Say what corruptions cost: mean corruption accuracy, relative drop, changed answers, shift of the calibration.

    For the image-reliant questions apart, the clean evaluation needs controls, and for the calibration both need
    --option-logprobs.

    \b
    medr1 robustness runs/clean runs/corrupted
    medr1 robustness runs/clean runs/corrupted --out runs/robustness --json
    """
    from medr1.flows.stored import run_robustness
    from medr1.report.corruption import all_tables
    from medr1.report.tables import rich_table

    results = run_robustness(settings)
    if as_json:
        print_json(results)
        return
    for table in all_tables(results):
        Console().print(rich_table(table))
