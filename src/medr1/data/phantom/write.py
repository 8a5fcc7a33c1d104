"""Phantoms as a data folder on disk, like any converted data set."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from medr1.data.phantom.generate import SIDE, generate
from medr1.data.phantom.sheet import contact_sheet
from medr1.errors import DataError
from medr1.records import write_shards
from medr1.runs import Run, publication
from medr1.types import Sample

MASKS = "masks.npz"
FILES = ("data-*.parquet", MASKS)
"""What is written beside the manifest."""


def write_phantoms(
    folder: Path | str,
    split: str,
    count: int,
    *,
    seed: int = 0,
    side: int = SIDE,
    start: int = 0,
    processes: int = 1,
    masks: bool = False,
    sheet: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write phantoms `start` to `start + count - 1` of a split as a parquet folder, whole or not at all.

    With `masks` the lesion masks go to `masks.npz` beside it: one array `[side, side]` per sample id, 1 on lesions.
    `sheet` is an image file for a contact sheet. Called again, nothing changes. `DataError` where another file has its
    name, unless `overwrite`.
    """
    folder = Path(folder)
    drawn_sheet = b"" if sheet is None else contact_sheet(side=side, split=split, seed=seed)
    has_sheet = sheet is None or (sheet.is_file() and sheet.read_bytes() == drawn_sheet)
    if sheet is not None and sheet.exists() and not has_sheet and not overwrite:
        raise DataError(f"{sheet} is there and is another file; move it away, or replace it with --overwrite")
    arguments = {"split": split, "count": count, "side": side, "start": start}
    with Run(
        folder,
        command="data phantom",
        arguments=arguments,
        identity={**arguments, "masks": masks},
        seed=seed,
        owns=FILES,
        overwrite=overwrite,
    ) as run:
        if not (run.done and run.has("data-00000.parquet", *([MASKS] if masks else []))):
            with run.everything() as staged:
                kept: dict[str, np.ndarray] = {}

                def samples() -> Iterator[Sample]:
                    drawn = generate(split, count, seed=seed, side=side, start=start, processes=processes)
                    for done, one in enumerate(drawn, start=1):
                        if masks:
                            kept[one.sample.id] = one.mask
                        progress(done, count)
                        yield one.sample

                write_shards(staged, samples())
                if masks:
                    np.savez_compressed(staged / MASKS, **kept)  # type: ignore[arg-type]
            run.reach("done")
        if sheet is not None and not has_sheet:
            aside = sheet.with_name(f".{sheet.name}.part")
            aside.write_bytes(drawn_sheet)
            with publication("file", sheet):
                os.replace(aside, sheet)
    return count
