"""Corrupted copies of a data set: PNG files, what was done to each, and a data set that refers to them.

    OUT/images/<corruption>/<severity>/<sample id>-<image>.png
    OUT/images.jsonl     one line a picture: sample, variant, file, SHA-256 of its pixels, distances to the clean one
    OUT/dataset.parquet  the samples, one variant a corruption and severity
    OUT/sheet.png        a contact sheet
    OUT/manifest.json    arguments, identity and state (see `medr1.runs`), number of pictures and mean SSIM by variant

A killed run goes on where it stopped; asked for further corruptions or severities, it makes only those. Samples stream
by: memory does not grow with the data.
"""

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medr1.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt, named, proper_for
from medr1.data.corruptions.sheet import corruption_sheet
from medr1.data.image_distance import l2, linf, psnr, ssim
from medr1.data.images import open_image
from medr1.errors import ConfigError, DataError
from medr1.records import content_hashes, labels_hash, read_jsonl, read_samples, short_hash
from medr1.runs import Run
from medr1.types import ImageRef, Modality, Sample
from medr1.workers import Workers

Progress = Callable[[int, int], None]
"""Called with the number of samples done and of all samples."""
Record = dict[str, Any]
"""A line of `images.jsonl`."""

LOG = "images.jsonl"
FILES = ("images", LOG, "dataset.parquet", "sheet.png")
"""What a run writes beside its manifest."""
DEFAULT_SEVERITIES = (1, 3, 5)
AHEAD = 4
"""Samples that each process may be ahead of the one that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionJob:
    """What to corrupt, and how."""

    path: Path
    """Folder that `medr1 data convert` wrote, or any other that `read_samples` reads."""
    out: Path
    corruptions: tuple[str, ...] | None = None
    """By name, each made for the samples of its modalities; None takes all of them."""
    severities: tuple[int, ...] = DEFAULT_SEVERITIES
    limit: int | None = None
    """Take this many samples at random."""
    seed: int = 0
    processes: int = 1
    overwrite: bool = False
    """Start anew where the folder holds other corruptions."""


def variant_name(name: str, severity: int) -> str:
    """`variant` of the samples, and the folder of their pictures.

    >>> variant_name("jpeg", 3), parse_variant("jpeg/3"), parse_variant("blank")
    ('jpeg/3', ('jpeg', 3), None)
    """
    return f"{name}/{severity}"


def parse_variant(variant: str) -> tuple[str, int] | None:
    """Corruption and severity of a variant; None where it is something else."""
    name, _, severity = variant.partition("/")
    return (name, int(severity)) if name in CORRUPTIONS and severity.isdecimal() else None


def write_corrupted(job: CorruptionJob, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Make what is missing and write the data set; returns `{n, variants: {variant: {n, ssim, …}}}`.

    `ConfigError` for unknown names, for corruptions that no sample can suffer and for a folder of another run;
    `DataError` for images that cannot be read, and for data without images.
    """
    _check(job)
    clean = _survey(job)
    wanted = {modality: _variants(job, modality) for modality in clean.first}
    if not any(wanted.values()):
        raise ConfigError(
            f"none of the corruptions fits the modalities of the data ({', '.join(clean.first)}); "
            f"for these there are {', '.join(sorted({name for m in clean.first for name in proper_for(m)}))}"
        )
    asked = {"asked": sorted({variant_name(*wish) for wishes in wanted.values() for wish in wishes})}
    with Run(
        job.out,
        command="corrupt",
        arguments={name: getattr(job, name) for name in job.__slots__ if name not in ("processes", "overwrite")},
        identity=clean.identity,
        seed=job.seed,
        owns=FILES,
        overwrite=job.overwrite,
    ) as run:
        if run.done and run.holds(asked):
            return {name: run.record[name] for name in ("n", "variants")}
        run.start(**asked)
        _make_missing(run, job, clean, progress)
        run.reach("whole")
        run.write_dataset("dataset.parquet", _corrupted_samples(job, _chosen(job, clean.positions)))
        names = [name for name in CORRUPTIONS if any(name == wish for wishes in wanted.values() for wish, _ in wishes)]
        with run.file("sheet.png") as path:
            corruption_sheet(path, clean.first, names, sorted(job.severities), seed=job.seed)
        summary = {"n": len(clean), "variants": _summary(read_jsonl(job.out / LOG), asked["asked"])}
        run.reach("done", **summary)
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What a first reading of the data tells; no sample is kept."""

    positions: Collection[int]
    """Rows that are corrupted."""
    identity: dict[str, str]
    """Hashes of their contents, by name."""
    first: dict[Modality, Image.Image]
    """A picture of each modality, for the sheet."""

    def __len__(self) -> int:
        return len(self.positions)


def _check(job: CorruptionJob) -> None:
    for name in job.corruptions or ():
        named(name)
    unknown = [severity for severity in job.severities if severity not in SEVERITIES]
    if unknown or not job.severities:
        raise ConfigError(f"the severities are {job.severities}; choose among 1 to {SEVERITIES[-1]}")


def _survey(job: CorruptionJob) -> _Survey:
    with_images = [row for row, sample in enumerate(read_samples(job.path)) if sample.images]
    if not with_images:
        raise DataError(f"{job.path} has no sample with an image; check that it is the right folder")
    if job.limit is not None and job.limit < len(with_images):
        with_images = sorted(random.Random(job.seed).sample(with_images, job.limit))
    positions, first, labels = frozenset(with_images), {}, []

    def seen() -> Iterator[Sample]:
        for sample in _chosen(job, positions):
            if sample.variant:
                raise DataError(f"sample {sample.id} is the variant {sample.variant!r} already; give the original data")
            if sample.modality not in first:
                first[sample.modality] = open_image(sample.images[0])
            labels.append([sample.id, labels_hash(sample)])
            yield sample

    identity = content_hashes(seen())
    return _Survey(positions=positions, identity={**identity, "labels": short_hash(sorted(labels))}, first=first)


def _chosen(job: CorruptionJob, positions: Collection[int]) -> Iterator[Sample]:
    return (sample for row, sample in enumerate(read_samples(job.path)) if row in positions)


def _variants(job: CorruptionJob, modality: Modality) -> list[tuple[str, int]]:
    """Corruptions and severities that samples of a modality get."""
    names = [name for name in proper_for(modality) if job.corruptions is None or name in job.corruptions]
    return [(name, severity) for name in names for severity in sorted(set(job.severities))]


def _make_missing(run: Run, job: CorruptionJob, clean: _Survey, progress: Progress) -> None:
    """Publish every new picture, then its line: a picture without a line is made again, into the same bytes."""
    with run.staged() as aside, run.appending(LOG) as lines:
        done = {line["png"] for line in read_jsonl(job.out / LOG)}
        for number, records in enumerate(_made(job, clean, done, aside), start=1):
            for line in records:
                run.publish(aside / line["png"], line["png"], durable=False)
                lines.append(line)
            progress(number, len(clean))


def _made(job: CorruptionJob, clean: _Survey, done: Collection[str], aside: Path) -> Iterator[list[Record]]:
    """Records of the new pictures of each sample, in the order of the data; the pictures are in the folder `aside`."""
    tasks = ((sample, _missing(sample, job, done), aside, job.seed) for sample in _chosen(job, clean.positions))
    if job.processes == 1:
        yield from starmap(_corrupt_sample, tasks)
        return
    with Workers(job.processes) as workers:
        yield from workers.map(_corrupt_sample, tasks, ahead=AHEAD)


def _missing(sample: Sample, job: CorruptionJob, done: Collection[str]) -> list[tuple[str, int, int]]:
    """Corruption, severity and image of the pictures that are still to be made."""
    return [
        (name, severity, position)
        for name, severity in _variants(job, sample.modality)
        for position in range(len(sample.images))
        if _png(sample, name, severity, position) not in done
    ]


def _png(sample: Sample, name: str, severity: int, position: int) -> str:
    return f"images/{variant_name(name, severity)}/{sample.id}-{position}.png"


def _corrupt_sample(sample: Sample, missing: Sequence[tuple[str, int, int]], aside: Path, seed: int) -> list[Record]:
    images: dict[int, np.ndarray] = {}
    records = []
    for name, severity, position in missing:
        if position not in images:
            images[position] = _opened(sample, position)
        clean = images[position]
        pixels = corrupt(clean, name, severity, f"{seed}:{sample.id}:{position}")
        png = _png(sample, name, severity, position)
        _save(aside / png, pixels)
        records.append(
            {
                "id": sample.id,
                "variant": variant_name(name, severity),
                "image": position,
                "png": png,
                "pixel_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                "linf": linf(clean, pixels),
                "l2": round(l2(clean, pixels), 4),
                "psnr": _finite(psnr(clean, pixels)),
                "ssim": round(ssim(clean, pixels), 5),
            }
        )
    return records


def _opened(sample: Sample, position: int) -> np.ndarray:
    try:
        return np.asarray(open_image(sample.images[position]))
    except DataError as error:
        raise DataError(f"sample {sample.id}: {error}") from error


def _finite(value: float) -> float | None:
    """JSON has no infinity: None for pictures that are equal."""
    return round(value, 3) if np.isfinite(value) else None


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (pixels == pixels[:, :, :1]).all()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(path, format="PNG")


def _corrupted_samples(job: CorruptionJob, samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        for name, severity in _variants(job, sample.modality):
            pngs = [_png(sample, name, severity, position) for position in range(len(sample.images))]
            refs = tuple(ImageRef(path=png) for png in pngs)
            yield replace(sample, images=refs, variant=variant_name(name, severity))


def _summary(records: Iterable[Record], variants: Collection[str]) -> dict[str, dict[str, Any]]:
    """Number of pictures and mean SSIM of each variant, in the order of the registry."""
    totals: dict[str, list[float]] = {}
    for record in records:
        if record["variant"] in variants:
            totals.setdefault(record["variant"], []).append(record["ssim"])
    order = [variant_name(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    return {v: {"n": len(totals[v]), "ssim": float(np.mean(totals[v]))} for v in order if v in totals}
