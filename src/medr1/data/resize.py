"""Resizing the images of a data set, as Med-R1 does before training (384 × 384).

The questions stay as they are, ids too: it is the same data at another size. Shards are written one at a time into a
folder beside the result, so a killed run goes on where it stopped; the result appears when all of them are there.
"""

import io
import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from medr1.data.images import open_image
from medr1.errors import ConfigError, DataError
from medr1.records import manifest, read_json, read_samples, write_json, write_samples
from medr1.types import ImageRef, Sample

Progress = Callable[[int], None]
"""Called with the number of samples done."""

SHARD_SAMPLES = 512
MOST_PIXELS_A_SIDE = 8192
PNG_LEVEL = 1
"""PNG loses nothing at any level; the usual 6 takes four times as long for scans and saves little or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizing:
    """What to resize, and how."""

    path: Path
    """Folder that `medr1 data convert` wrote, or any other that `read_samples` reads."""
    out: Path
    size: int = 384
    """Pixels."""
    longest_side: bool = False
    """Shrink until the longer side has `size` pixels and keep the shape; smaller images stay as they are. Otherwise
    both sides get `size` pixels, whatever the shape was."""
    overwrite: bool = False
    threads: int | None = None
    """None takes one a core; Pillow decodes, resizes and encodes outside Python's lock."""


def resized(image: Image.Image, size: int, *, longest_side: bool = False) -> Image.Image:
    """The picture at its new size, filtered with Lanczos; the same object where nothing changes."""
    width, height = image.size
    if longest_side:
        scale = min(1.0, size / max(width, height))
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
    else:
        target = (size, size)
    return image if target == image.size else image.resize(target, Image.Resampling.LANCZOS)


def resize(job: Resizing, progress: Progress = lambda done: None) -> int:
    """Write `job.out` with every image as PNG of the new size, and return the number of samples.

    `ConfigError` for a size that makes no sense, `DataError` for images or data that cannot be read and for an output
    folder that is not empty; then nothing is left. Shards of a killed run are used if job and data are the same.
    """
    if not 1 <= job.size <= MOST_PIXELS_A_SIDE:
        raise ConfigError(f"the size is {job.size}; use 1 to {MOST_PIXELS_A_SIDE} pixels")
    if job.out.exists() and not job.overwrite and (not job.out.is_dir() or any(job.out.iterdir())):
        raise DataError(f"{job.out} exists and is not empty; choose another folder or allow overwriting")
    unfinished = _unfinished_folder(job)
    try:
        total = _write_shards(job, unfinished, progress)
    except DataError:
        shutil.rmtree(unfinished)
        raise
    arguments = {name: getattr(job, name) for name in job.__slots__}
    write_json(unfinished / "manifest.json", {**manifest(arguments, None), "n": total})
    (unfinished / "job.json").unlink()
    if job.out.exists():
        shutil.rmtree(job.out)
    unfinished.rename(job.out)
    return total


def _write_shards(job: Resizing, folder: Path, progress: Progress) -> int:
    samples = read_samples(job.path)
    total = 0
    with ThreadPoolExecutor(job.threads or os.cpu_count() or 1) as pool:
        for number in itertools.count():
            shard = list(itertools.islice(samples, SHARD_SAMPLES))
            if not shard:
                break
            done = folder / f"data-{number:05d}.parquet"
            if not done.exists():
                _write_shard(done, _resized_samples(shard, job, pool))
            total += len(shard)
            progress(total)
    if not total:
        raise DataError(f"{job.path} holds no samples; check that it is the right folder")
    return total


def _unfinished_folder(job: Resizing) -> Path:
    """The folder of shards that is being filled, with `job.json`, which tells whether it belongs to this job."""
    folder = job.out.with_name(f".{job.out.name}.unfinished")
    inputs = sorted(job.path.rglob("*.*")) if job.path.is_dir() else [job.path]
    facts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in inputs if file.is_file()]
    wanted = json.loads(json.dumps({"size": job.size, "longest_side": job.longest_side, "inputs": facts}))
    if not (folder / "job.json").exists() or read_json(folder / "job.json") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "job.json", wanted)
    for torn in folder.glob(".*"):
        shutil.rmtree(torn)
    return folder


def _write_shard(shard: Path, samples: Iterable[Sample]) -> None:
    aside = shard.with_name(f".{shard.stem}")
    write_samples(aside, samples, overwrite=True)
    (aside / "data-00000.parquet").rename(shard)
    shutil.rmtree(aside)


def _resized_samples(samples: list[Sample], job: Resizing, pool: ThreadPoolExecutor) -> Iterator[Sample]:
    """The samples in their order, a few images ahead of the one that is asked for."""
    ahead = 4 * (job.threads or os.cpu_count() or 1)
    waiting: deque[Future[Sample]] = deque()
    for sample in samples:
        waiting.append(pool.submit(_resized_sample, sample, job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _resized_sample(sample: Sample, job: Resizing) -> Sample:
    try:
        return replace(sample, images=tuple(_resized_image(ref, job) for ref in sample.images))
    except DataError as error:
        raise DataError(f"sample {sample.id}: {error}") from error


def _resized_image(ref: ImageRef, job: Resizing) -> ImageRef:
    image = resized(open_image(ref), job.size, longest_side=job.longest_side)
    red, green, blue = image.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        image = red  # every reader repeats the one channel: a third of the bytes and of the time
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return ImageRef(path=Path(ref.path or "image").with_suffix(".png").name, data=buffer.getvalue())
