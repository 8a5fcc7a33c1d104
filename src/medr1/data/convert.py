"""Conversion of a published or own data set to the parquet folder that everything else reads."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medr1.data import find_source
from medr1.data.images import BURNED_IN, embed_images
from medr1.data.source import EVERYTHING, Choice, LeftOut
from medr1.errors import ConfigError, DataError
from medr1.records import manifest, sample_hash, short_hash, staged_folder, write_json, write_shards
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
    choice: Choice = EVERYTHING
    """Which records, and what their fields are called."""
    image_root: Path | None = None
    """Folder that the image names are relative to; None takes the source's own (see `Source.image_folders`)."""
    limit: int | None = None
    """Take this many at random: published files are ordered by data set, so the first ones would be biased."""
    seed: int = 0
    allow_missing_images: bool = False
    """Keep the reference of an image that is not there (enough for audits of the text)."""
    skip_bad: bool = False
    """Leave out and count records that cannot be used, or whose image cannot, instead of stopping at the first."""
    overwrite: bool = False


def convert(job: Conversion, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Write `job.out` with shards and `manifest.json`, whole or not at all, and return the counts of `summarise`.

    With them come `missing_images` and `left_out` (`withheld`, `bad`, `first_bad`; see `LeftOut`).

    The records are read twice: once to count and check them all, before any image is opened, and once to write them as
    they stream by. Every image is decoded once before its bytes are embedded; see `embed_images` for what is stored.
    """
    if job.limit is not None and job.limit < 1:
        raise ConfigError(f"the limit is {job.limit}; take at least one sample")
    source = find_source(job.path, job.source, job.choice)
    left_out = LeftOut(skip_bad=job.skip_bad)
    with staged_folder(job.out, overwrite=job.overwrite) as staged:
        total = sum(1 for _ in source.read(job.path, choice=job.choice, left_out=left_out))
        chosen = _drawn(total, job.limit, job.seed)
        again = source.read(job.path, choice=job.choice, left_out=LeftOut(skip_bad=job.skip_bad))
        samples = (s for n, s in enumerate(again) if chosen is None or n in chosen)
        written = _Embedding(
            root=job.image_root or source.image_root(job.path, job.choice, skip_bad=job.skip_bad),
            allow_missing=job.allow_missing_images,
            left_out=left_out,
            total=total if chosen is None else len(chosen),
            progress=progress,
        )
        counts = _Counts()
        if not write_shards(staged, counts.watch(written.embedded(samples)), embed_images=False):
            raise left_out.no_sample(job.path, job.choice)
        summary = {
            "source": source.name,
            **counts.summary(),
            "missing_images": written.missing,
            "left_out": _summary_of(left_out, job.path, written.root),
        }
        if written.burned_in:
            summary["burned_in_text"] = written.burned_in
        arguments = {name: getattr(job, name) for name in job.__slots__ if name != "choice"}
        arguments |= {"where": {name: sorted(v) for name, v in job.choice.where.items()}, "columns": job.choice.columns}
        write_json(staged / "manifest.json", {**manifest(arguments, job.seed), **summary})
    return summary


def _summary_of(left_out: LeftOut, path: Path, root: Path) -> dict[str, Any]:
    """The counts, and what is wrong without the folders of this machine: the manifest holds none."""
    first_bad = left_out.first_bad
    for folder in (root, path if path.is_dir() else path.parent):
        if folder.is_absolute():
            first_bad = [message.replace(f"{folder}{os.sep}", "") for message in first_bad]
    return {"withheld": left_out.withheld, "bad": left_out.bad, "first_bad": first_bad}


def choose(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` samples, drawn without replacement under the seed and left in their order."""
    chosen = _drawn(len(samples), limit, seed)
    return samples if chosen is None else [samples[index] for index in sorted(chosen)]


def _drawn(total: int, limit: int | None, seed: int) -> frozenset[int] | None:
    """Positions of `limit` of `total`; None for all."""
    if limit is None or limit >= total:
        return None
    return frozenset(random.Random(seed).sample(range(total), limit))


def summarise(samples: Iterable[Sample]) -> dict[str, Any]:
    """Counts that describe a set of samples, and its hash."""
    counts = _Counts()
    for _ in counts.watch(samples):
        pass
    return counts.summary()


class _Counts:
    """Counts of samples that stream by: none of them is kept, only group names and 16 characters for the hash."""

    def __init__(self) -> None:
        self.columns = {name: Counter[str]() for name in ("modality", "task", "num_options", "source", "answer_type")}
        self.groups: set[str] = set()
        self.hashes: list[str] = []

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples, counted as they pass."""
        for sample in samples:
            values = (sample.modality, sample.task, str(len(sample.options)), sample.source, sample.answer_type)
            for column, value in zip(self.columns.values(), values, strict=True):
                column[value] += 1
            self.groups.add(sample.group)
            self.hashes.append(sample_hash(sample))
            yield sample

    def summary(self) -> dict[str, Any]:
        """The counts by value, the number of groups and the hash of the set."""
        counts = {f"by_{name}": dict(sorted(column.items())) for name, column in self.columns.items()}
        sizes = {"n": len(self.hashes), "num_groups": len(self.groups)}
        return {**sizes, **counts, "data_hash": short_hash(sorted(self.hashes))}


@dataclass(slots=True, kw_only=True)
class _Embedding:
    """Puts the images into samples that stream by, and counts what was noticed."""

    root: Path
    allow_missing: bool
    left_out: LeftOut
    total: int
    progress: Progress
    owners: dict[bytes, str] = field(default_factory=dict)
    missing: int = 0
    burned_in: int = 0

    def embedded(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples with their images inside."""
        for done, sample in enumerate(samples, start=1):
            try:
                embedded = embed_images(sample, self.root, allow_missing=self.allow_missing, owners=self.owners)
            except DataError as error:
                # An image inside a record has no file name to be found by.
                is_inside = any(ref.data is not None for ref in sample.images)
                place = f"question {sample.question[:60]!r}: " if is_inside else ""
                self.left_out.add_bad(DataError(f"{place}{error}"))
                continue
            self.missing += sum(ref.data is None for ref in embedded.images)
            self.burned_in += BURNED_IN in embedded.extra
            yield embedded
            self.progress(done, self.total)
