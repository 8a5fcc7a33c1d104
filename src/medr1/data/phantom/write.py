"""Phantoms as a data folder on disk, like any converted data set."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from medr1.data.phantom.generate import SIDE, generate
from medr1.records import manifest, staged_folder, write_json, write_shards
from medr1.types import Sample


def write_phantoms(
    folder: Path,
    split: str,
    count: int,
    *,
    seed: int = 0,
    side: int = SIDE,
    start: int = 0,
    processes: int = 1,
    masks: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write phantoms `start` to `start + count - 1` of a split as a parquet folder, whole or not at all.

    With `masks` the lesion masks go to `masks.npz` beside it: one array `[side, side]` per sample id, 1 on lesions.
    """
    with staged_folder(folder, overwrite=overwrite) as staged:
        kept: dict[str, np.ndarray] = {}

        def samples() -> Iterator[Sample]:
            drawn = generate(split, count, seed=seed, side=side, start=start, processes=processes)
            for done, one in enumerate(drawn, start=1):
                if masks:
                    kept[one.sample.id] = one.mask
                progress(done, count)
                yield one.sample

        written = write_shards(staged, samples())
        if masks:
            np.savez_compressed(staged / "masks.npz", **kept)  # type: ignore[arg-type]
        arguments = {"split": split, "count": count, "side": side, "start": start}
        write_json(staged / "manifest.json", manifest(arguments, seed))
    return written
