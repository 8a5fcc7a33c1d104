"""Conversion of a published or own data set to the parquet folder that everything else reads."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medr1.data import find_source
from medr1.data.images import embed_images
from medr1.errors import ConfigError
from medr1.records import data_hash, manifest, staged_folder, write_json, write_shards
from medr1.types import Sample

Progress = Callable[[int, int], None]
"""Called with the number of samples done and of all samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What to convert, and how."""

    path: Path
    """File or folder of the source."""
    out: Path
    """Folder to write."""
    source: str | None = None
    """Name in `SOURCES`; None detects it."""
    image_root: Path | None = None
    """Folder that the image names are relative to; None is the folder of the data."""
    limit: int | None = None
    """Take this many at random: published files are ordered by data set, so the first ones would be biased."""
    seed: int = 0
    allow_missing_images: bool = False
    """Keep the reference of an image that is not there (enough for audits of the text)."""
    overwrite: bool = False


def convert(job: Conversion, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Write `job.out` with shards and `manifest.json`, whole or not at all, and return the counts of `summarise`.

    Every image is decoded once before its bytes are embedded; see `embed_images` for what is stored.
    """
    if job.limit is not None and job.limit < 1:
        raise ConfigError(f"the limit is {job.limit}; take at least one sample")
    source = find_source(job.path, job.source)
    with staged_folder(job.out, overwrite=job.overwrite) as staged:
        samples = choose(list(source.read(job.path)), job.limit, job.seed)
        root = job.image_root or (job.path if job.path.is_dir() else job.path.parent)
        missing = Counter[str]()
        write_shards(staged, _embedded(samples, root, job.allow_missing_images, missing, progress), embed_images=False)
        summary = {"source": source.name, **summarise(samples), "missing_images": missing.total()}
        arguments = {name: getattr(job, name) for name in job.__slots__}
        write_json(staged / "manifest.json", {**manifest(arguments, job.seed), **summary})
    return summary


def choose(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` samples, drawn without replacement under the seed and left in their order."""
    if limit is None or limit >= len(samples):
        return samples
    return [samples[index] for index in sorted(random.Random(seed).sample(range(len(samples)), limit))]


def summarise(samples: Iterable[Sample]) -> dict[str, Any]:
    """Counts that describe a set of samples, and its hash."""
    samples = list(samples)
    values = {
        "by_modality": (s.modality for s in samples),
        "by_task": (s.task for s in samples),
        "by_num_options": (str(len(s.options)) for s in samples),
        "by_source": (s.source for s in samples),
    }
    counts = {name: dict(sorted(Counter(column).items())) for name, column in values.items()}
    return {"n": len(samples), "num_groups": len({s.group for s in samples}), **counts, "data_hash": data_hash(samples)}


def _embedded(
    samples: list[Sample], root: Path, allow_missing: bool, missing: Counter[str], progress: Progress
) -> Iterator[Sample]:
    for done, sample in enumerate(samples, start=1):
        embedded = embed_images(sample, root, allow_missing=allow_missing)
        missing[sample.id] += sum(ref.data is None for ref in embedded.images)
        yield embedded
        progress(done, len(samples))
