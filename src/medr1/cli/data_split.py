"""`medr1 data split` and `medr1 data harden`: splits that do not leak, questions that cannot be answered blind."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medr1.cli.options import print_json, progress, takes
from medr1.data.settings import HardenSettings, SplitSettings


@takes(SplitSettings, prints="the summary")
def split(settings: SplitSettings, as_json: bool) -> None:
    """Split by whole groups (image, series, patient), the same way on every axis, so that nothing leaks into test.

    \b
    medr1 data split data/all --out data/split
    medr1 data split data/all --by modality --test-share 0.1 --out data/by_modality
    """
    from medr1.data.splits import Split
    from medr1.data.splits import split as run

    job = Split(
        data=settings.data,
        out=settings.out,
        by=settings.by,
        test_share=settings.test_share,
        seed=settings.seed,
        gap=settings.series_gap,
        largest=settings.series_max,
        published=settings.published,
        overwrite=settings.overwrite,
    )
    with progress("Splitting") as show:
        summary = run(job, lambda step, done: show(done, what=step))
    if as_json:
        print_json(summary)
        return
    out = settings.out
    table = Table("part", "questions", title=f"{escape(out.name)}: {summary['n']} questions")
    for name, count in summary["parts"].items():
        table.add_row(escape(name), str(count))
    table.add_section()
    for name, count in summary["overlaps"].items():
        table.add_row(f"test questions whose {name} is in train", "not known" if count is None else str(count))
    for name in ("num_groups", "largest_group", "series_neighbours"):
        if name in summary:
            table.add_row(name.replace("_", " "), str(summary[name]))
    Console().print(table)


@takes(HardenSettings, prints="the summary")
def harden(settings: HardenSettings, as_json: bool) -> None:
    """Rebuild questions so that no rule over their text beats chance; the original stays beside each.

    \b
    medr1 data harden data/test --out data/hardened
    medr1 data harden data/test --train data/train --out data/hardened
    """
    from medr1.data.harden import Hardening
    from medr1.data.harden import harden as run

    job = Hardening(
        data=settings.data,
        out=settings.out,
        train=settings.train,
        size=settings.options,
        seed=settings.seed,
        overwrite=settings.overwrite,
    )
    with progress("Hardening") as show:
        summary = run(job, lambda step, done: show(done, what=step))
    if as_json:
        print_json(summary)
        return
    out = settings.out
    kept = f"{summary['kept']} of {summary['n']} questions kept ({summary['kept_share']:.1%})"
    table = Table("", "questions", title=f"{escape(out.name)}: {kept}")
    for reason, count in summary["left_out"].items():
        table.add_row(f"left out: {reason}", str(count))
    for size, count in summary["blocks_by_size"].items():
        table.add_row(f"in blocks of {size}", str(int(size) * count))
    if "controlled" in summary:
        table.add_row("original questions that no blind rule answers", str(summary["controlled"]["n"]))
    Console().print(table)
    if "blind" in summary:
        Console().print(_blind_table(summary["blind"]))


def _blind_table(blind: dict[str, dict[str, float]]) -> Table:
    table = Table("accuracy without the image (%)", *(name.replace("_", " ") for name in blind))
    for rule in next(iter(blind.values())):
        table.add_row(
            rule.replace("_", " "), *(f"{100 * scores[rule]:.1f}" if scores else "" for scores in blind.values())
        )
    return table
