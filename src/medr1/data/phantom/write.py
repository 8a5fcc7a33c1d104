"""Phantoms as a data folder on disk, like any converted data set, and as a sheet to look at."""

import io
import os
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw

from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.generate import SIDE, generate, render
from medr1.data.phantom.nuisance import NUISANCE
from medr1.data.phantom.state import NO_SIZE, NORMAL, QUADRANTS, SIDES, PhantomState
from medr1.data.settings import PhantomSettings
from medr1.errors import DataError
from medr1.records import write_shards
from medr1.runs import Run, publication
from medr1.streams import numbered
from medr1.types import Sample

MASKS = "masks.npz"
FILES = ("data-*.parquet", MASKS)
"""What is written beside the manifest."""
COLUMNS = (
    (NORMAL, NO_SIZE, 0),
    ("nodule", "small", 1),
    ("nodule", "large", 1),
    ("cyst", "medium", 1),
    ("abscess", "large", 1),
    ("calcification", "large", 1),
    ("abscess", "medium", 3),
    ("cyst", "small", 4),
)
"""Finding, size and count of each column."""
_GAP, _HEADER, _LABEL = 4, 16, 88


def write_phantoms(settings: PhantomSettings, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write phantoms of a split as a parquet folder, whole or not at all; return how many.

    With `masks` the lesion masks go to `masks.npz` beside it: one array `[side, side]` per sample id, 1 on lesions.
    With `sheet` a contact sheet goes to `OUT.png`. Called again, nothing changes. `DataError` where another file has
    its name, unless `overwrite`.
    """
    out, split, side, seed = settings.out, settings.split, settings.side, settings.seed
    sheet = out.with_name(f"{out.name}.png") if settings.sheet else None
    drawn_sheet = b"" if sheet is None else contact_sheet(side=side, split=split, seed=seed)
    has_sheet = sheet is None or (sheet.is_file() and sheet.read_bytes() == drawn_sheet)
    if sheet is not None and sheet.exists() and not has_sheet and not settings.overwrite:
        raise DataError(f"{sheet} is there and is another file; move it away, or replace it with --overwrite")
    with Run(
        out,
        command="data phantom",
        arguments=settings.dump(),
        # `start` is of folders that were written when it could be chosen.
        identity={"split": split, "count": settings.count, "side": side, "start": 0, "masks": settings.masks},
        seed=seed,
        owns=FILES,
        overwrite=settings.overwrite,
    ) as run:
        if not (run.done and run.has("data-00000.parquet", *([MASKS] if settings.masks else []))):
            with run.everything() as staged:
                kept: dict[str, np.ndarray] = {}

                def samples() -> Iterator[Sample]:
                    drawn = generate(split, settings.count, seed=seed, side=side, processes=settings.processes)
                    for done, one in enumerate(drawn, start=1):
                        if settings.masks:
                            kept[one.sample.id] = one.mask
                        progress(done, settings.count)
                        yield one.sample

                write_shards(staged, samples())
                if settings.masks:
                    np.savez_compressed(staged / MASKS, **kept)  # type: ignore[arg-type]
            run.reach("done")
        if sheet is not None and not has_sheet:
            aside = sheet.with_name(f".{sheet.name}.part")
            aside.write_bytes(drawn_sheet)
            with publication("file", sheet):
                os.replace(aside, sheet)
    return settings.count


def contact_sheet(*, side: int = SIDE, split: str = "train", seed: int = 0) -> bytes:
    """The sheet as PNG; each tile has its own nuisances."""
    step = side + _GAP
    sheet = Image.new("RGB", (_LABEL + len(COLUMNS) * step, _HEADER + len(ANATOMIES) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (finding, size, count) in enumerate(COLUMNS):
        pen.text((_LABEL + column * step, 2), f"{finding[:6]} {size[:3]} {count}" if count else finding, fill="black")
    for row, (name, anatomy) in enumerate(ANATOMIES.items()):
        pen.text((2, _HEADER + row * step + side // 2 - 10), f"{anatomy.modality}\n{name}", fill="black")
        for column, (finding, size, count) in enumerate(COLUMNS):
            rng = numbered(seed, row, column)
            side_word = tuple(SIDES)[rng.integers(len(SIDES))] if count == 1 else None
            centres = (SIDES[side_word],) if side_word else tuple(QUADRANTS[k] for k in rng.permutation(4)[:count])
            state = PhantomState(
                modality=anatomy.modality,
                anatomy=name,
                finding=finding,
                size=size,
                count=count,
                side=side_word,
                centres=centres,
            )
            image, _ = render(state, NUISANCE[split], rng, side)
            sheet.paste(Image.fromarray(image), (_LABEL + column * step, _HEADER + row * step))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
