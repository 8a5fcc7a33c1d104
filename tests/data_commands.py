"""Small data, and the commands that make data of data, for tests that end them; importable in forks without PyTorch."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from PIL import Image

from medr1.data import resize as resizing
from medr1.data.convert import convert
from medr1.data.harden import harden
from medr1.data.phantom import write_phantoms
from medr1.data.resize import resize
from medr1.data.settings import (
    AuditSettings,
    ConvertSettings,
    HardenSettings,
    PhantomSettings,
    ResizeSettings,
    SplitSettings,
    StatsSettings,
)
from medr1.data.splits import split
from medr1.flows.audit import run_audit, run_stats
from medr1.records import samples as storage
from medr1.records import write_samples
from medr1.types import ImageRef, Sample

ORGANS = ("liver", "kidney", "spleen", "aorta")


def make_sources(folder: Path) -> Path:
    """`own.jsonl` with its pictures; `data`, questions with pictures; `text` and `train`, questions without."""
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for n in range(8):
        Image.new("RGB", (12, 10), (20 * n, 0, 90)).save(folder / "pictures" / f"{n}.png")
        rows.append(
            {"image": f"pictures/{n}.png", "question": f"Which {n}?", "options": ["CT", "MRI"], "answer": "AB"[n % 2]}
            | {"modality": ("CT", "MRI")[n % 2]}
        )
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_samples(folder / "data", [question(n, (folder / "pictures" / f"{n}.png").read_bytes()) for n in range(8)])
    for name, start in (("text", 0), ("train", 100)):
        write_samples(folder / name, [question(n) for n in range(start, start + 21)], embed_images=False)
    return folder


def question(number: int, picture: bytes | None = None) -> Sample:
    """A question about an organ."""
    return Sample(
        id=f"q{number}",
        images=(ImageRef(path=f"{number}.png", data=picture),),
        question="Which organ is shown?",
        options=ORGANS,
        answer_index=number % 4,
        modality=("CT", "MRI")[number % 2],
        task="Anatomy Identification",
        source="drawn",
        group=f"g{number // 2}",
    )


def make_convert(sources: Path, out: Path) -> object:
    with small_shards():
        return convert(ConvertSettings(path=sources / "own.jsonl", out=out))


def make_split(sources: Path, out: Path) -> object:
    return split(SplitSettings(data=sources / "text", out=out, by="modality", test_share=0.5))


def make_harden(sources: Path, out: Path) -> object:
    return harden(HardenSettings(data=sources / "text", out=out, train=sources / "train"))


def make_resize(sources: Path, out: Path) -> object:
    with mock.patch.object(resizing, "SHARD_SAMPLES", 3):
        return resize(ResizeSettings(path=sources / "data", out=out, size=6, threads=1))


def make_phantom(sources: Path, out: Path) -> object:
    del sources
    return write_phantoms(PhantomSettings(out=out, split="train", count=4, side=28, masks=True))


def make_stats(sources: Path, out: Path) -> object:
    return run_stats(StatsSettings(path=sources / "text", out=out))


def make_audit(sources: Path, out: Path) -> object:
    return run_audit(AuditSettings(train=sources / "train", test=sources / "text", out=out))


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "convert": make_convert,
    "split": make_split,
    "harden": make_harden,
    "resize": make_resize,
    "phantom": make_phantom,
}
"""Each from the folder of the sources to a folder of its own."""
MODULES = ("data_commands", "medr1.stats", "sklearn.linear_model", "sklearn.feature_extraction.text", "pyarrow.parquet")
"""What the commands import, for forks that need not import it again."""


@contextmanager
def small_shards() -> Iterator[None]:
    """Two questions a shard."""
    with mock.patch.object(storage, "SHARD_BYTES", 150), mock.patch.object(storage, "ROW_GROUP_ROWS", 2):
        yield
