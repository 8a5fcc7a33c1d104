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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from medr1.data.image_distance import l2, linf, psnr, ssim
from medr1.data.images import open_image
from medr1.data.resize import resized
from medr1.data.settings import CorruptSettings
from medr1.errors import ConfigError, DataError
from medr1.records import checked, content_hashes, labels_hash, read_jsonl, read_samples, short_hash
from medr1.results import Record
from medr1.runs import Run
from medr1.types import ImageRef, Modality, Sample
from medr1.variants import VARIANTS
from medr1.variants.corruptions import CORRUPTIONS, SEVERITIES, corrupt, named, proper_for, variant_name
from medr1.workers import Workers

Progress = Callable[[int, int], None]
"""Called with the number of samples done and of all samples."""


class CorruptedPicture(Record):
    """A line of `images.jsonl`."""

    id: str
    variant: str
    image: int
    """Position among the pictures of the sample."""
    png: str
    pixel_sha256: str
    linf: int
    l2: float
    psnr: float | None
    """None of pictures that are equal: JSON has no infinity."""
    ssim: float


class Quality(Record):
    """Of the pictures of one variant."""

    n: int
    ssim: float
    """Mean."""


class Corrupted(Record):
    """What has been written, in the manifest too."""

    n: int
    """Samples of the clean data."""
    variants: dict[str, Quality]
    """In the order of the registry."""


LOG = "images.jsonl"
FILES = ("images", LOG, "dataset.parquet", "sheet.png")
"""What a run writes beside its manifest."""
DEFAULT_SEVERITIES = (1, 3, 5)
TILE, GAP, LINE, LABEL = 160, 4, 14, 130
"""Of the contact sheet, in pixels."""
AHEAD = 4
"""Samples that each process may be ahead of the one that is written."""


def write_corrupted(settings: CorruptSettings, progress: Progress = lambda done, total: None) -> Corrupted:
    """Make what is missing and write the data set; return what there is.

    `ConfigError` for unknown names, for corruptions that no sample can suffer and for a folder of another run;
    `DataError` for images that cannot be read, and for data without images.
    """
    _check(settings)
    clean = _survey(settings)
    wanted = {modality: _variants(settings, modality) for modality in clean.first}
    if not any(wanted.values()):
        raise ConfigError(
            f"none of the corruptions fits the modalities of the data ({', '.join(clean.first)}); "
            f"for these there are {', '.join(sorted({name for m in clean.first for name in proper_for(m)}))}"
        )
    asked = {"asked": sorted({variant for variants in wanted.values() for variant in variants})}
    with Run(
        settings.out,
        command="corrupt",
        arguments=settings.dump("processes"),
        identity=clean.identity,
        seed=settings.seed,
        owns=FILES,
        overwrite=settings.overwrite,
    ) as run:
        if run.done and run.holds(asked):
            return Corrupted.model_validate({name: run.facts[name] for name in Corrupted.model_fields})
        run.start(**asked)
        _make_missing(run, settings, clean, progress)
        run.reach("whole")
        run.write_dataset("dataset.parquet", _corrupted_samples(settings, _chosen(settings, clean.positions)))
        names = [name for name in CORRUPTIONS if any(v.partition("/")[0] == name for v in asked["asked"])]
        with run.file("sheet.png") as path:
            corruption_sheet(path, clean.first, names, sorted(settings.severities), seed=settings.seed)
        summary = Corrupted(n=len(clean), variants=_quality(_lines(settings.out), asked["asked"]))
        run.reach("done", **summary.written())
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


def _check(settings: CorruptSettings) -> None:
    for name in settings.corruptions:
        named(name)
    if not settings.severities:
        raise ConfigError(f"no severity is asked for; choose among 1 to {SEVERITIES[-1]}")


def _survey(settings: CorruptSettings) -> _Survey:
    with_images = [row for row, sample in enumerate(read_samples(settings.data)) if sample.images]
    if not with_images:
        raise DataError(f"{settings.data} has no sample with an image; check that it is the right folder")
    if settings.limit is not None and settings.limit < len(with_images):
        with_images = sorted(random.Random(settings.seed).sample(with_images, settings.limit))
    positions, first, labels = frozenset(with_images), {}, []

    def seen() -> Iterator[Sample]:
        for sample in _chosen(settings, positions):
            if sample.variant:
                raise DataError(f"sample {sample.id} is the variant {sample.variant!r} already; give the original data")
            if sample.modality not in first:
                first[sample.modality] = open_image(sample.images[0])
            labels.append([sample.id, labels_hash(sample)])
            yield sample

    identity = content_hashes(seen())
    return _Survey(positions=positions, identity={**identity, "labels": short_hash(sorted(labels))}, first=first)


def _chosen(settings: CorruptSettings, positions: Collection[int]) -> Iterator[Sample]:
    return (sample for row, sample in enumerate(read_samples(settings.data)) if row in positions)


def _variants(settings: CorruptSettings, modality: Modality) -> list[str]:
    """What samples of a modality get: corruptions with their severities."""
    names = [name for name in proper_for(modality) if not settings.corruptions or name in settings.corruptions]
    return [variant_name(name, severity) for name in names for severity in sorted(set(settings.severities))]


def _make_missing(run: Run, settings: CorruptSettings, clean: _Survey, progress: Progress) -> None:
    """Publish every new picture, then its line: a picture without a line is made again, into the same bytes."""
    with run.staged() as aside, run.appending(LOG) as lines:
        done = {line.png for line in _lines(settings.out)}
        for number, records in enumerate(_made(settings, clean, done, aside), start=1):
            for line in records:
                run.publish(aside / line.png, line.png, durable=False)
                lines.append(line)
            progress(number, len(clean))


def _made(
    settings: CorruptSettings, clean: _Survey, done: Collection[str], aside: Path
) -> Iterator[list[CorruptedPicture]]:
    """Records of the new pictures of each sample, in the order of the data; the pictures are in the folder `aside`."""
    tasks = (
        (sample, _missing(sample, settings, done), aside, settings.seed)
        for sample in _chosen(settings, clean.positions)
    )
    if settings.processes == 1:
        yield from starmap(_corrupt_sample, tasks)
        return
    with Workers(settings.processes) as workers:
        yield from workers.map(_corrupt_sample, tasks, ahead=AHEAD)


def _missing(sample: Sample, settings: CorruptSettings, done: Collection[str]) -> list[tuple[str, int]]:
    """Variant and position of the pictures that are still to be made."""
    return [
        (variant, position)
        for variant in _variants(settings, sample.modality)
        for position in range(len(sample.images))
        if _png(sample, variant, position) not in done
    ]


def _png(sample: Sample, variant: str, position: int) -> str:
    return f"images/{variant}/{sample.id}-{position}.png"


def _corrupt_sample(
    sample: Sample, missing: Sequence[tuple[str, int]], aside: Path, seed: int
) -> list[CorruptedPicture]:
    pictures: dict[int, Image.Image] = {}
    records = []
    for variant, position in missing:
        if position not in pictures:
            pictures[position] = _opened(sample, position)
        draw = VARIANTS[variant].draw
        assert draw is not None, "a corruption changes pixels"
        clean, pixels = (np.asarray(p) for p in (pictures[position], draw(pictures[position], sample, seed, position)))
        png = _png(sample, variant, position)
        _save(aside / png, pixels)
        records.append(
            CorruptedPicture(
                id=sample.id,
                variant=variant,
                image=position,
                png=png,
                pixel_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
                linf=linf(clean, pixels),
                l2=round(l2(clean, pixels), 4),
                psnr=round(ratio, 3) if np.isfinite(ratio := psnr(clean, pixels)) else None,
                ssim=round(ssim(clean, pixels), 5),
            )
        )
    return records


def _opened(sample: Sample, position: int) -> Image.Image:
    try:
        return open_image(sample.images[position])
    except DataError as error:
        raise DataError(f"sample {sample.id}: {error}") from error


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (pixels == pixels[:, :, :1]).all()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(path, format="PNG")


def _corrupted_samples(settings: CorruptSettings, samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        for variant in _variants(settings, sample.modality):
            refs = tuple(ImageRef(path=_png(sample, variant, position)) for position in range(len(sample.images)))
            yield replace(sample, images=refs, variant=variant)


def _lines(out: Path) -> list[CorruptedPicture]:
    return [checked(line, CorruptedPicture, out / LOG) for line in read_jsonl(out / LOG)]


def _quality(pictures: Iterable[CorruptedPicture], variants: Collection[str]) -> dict[str, Quality]:
    found: dict[str, list[float]] = {}
    for picture in pictures:
        if picture.variant in variants:
            found.setdefault(picture.variant, []).append(picture.ssim)
    return {v: Quality(n=len(found[v]), ssim=float(np.mean(found[v]))) for v in VARIANTS if v in found}


def corruption_sheet(
    path: Path,
    pictures: Mapping[Modality, Image.Image],
    names: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    seed: int = 0,
) -> None:
    """Write the sheet as PNG: every corruption on the first of its modalities that has a picture, with the SSIM.

    Corruptions none of whose modalities has a picture are left out.
    """
    shown: list[tuple[str, str, Image.Image]] = []
    for name in names:
        fitting = [(modality, image) for modality, image in pictures.items() if modality in named(name).modalities]
        shown += [(name, *one) for one in fitting[:1]]
    size = LABEL + (1 + len(severities)) * (TILE + GAP), len(shown) * (TILE + LINE + GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, modality, picture) in enumerate(shown):
        top = row * (TILE + LINE + GAP)
        clean = np.asarray(resized(picture, TILE, longest_side=True))
        pen.text((2, top + TILE // 2), f"{name}\n{modality}", fill="black")
        tiles = [("clean", clean)]
        for severity in severities:
            image = corrupt(clean, name, severity, f"{seed}:sheet")
            tiles.append((f"{severity}  SSIM {ssim(clean, image):.2f}", image))
        for column, (label, tile) in enumerate(tiles):
            left = LABEL + column * (TILE + GAP)
            sheet.paste(Image.fromarray(tile), (left, top + LINE))
            pen.text((left + 2, top), label, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
