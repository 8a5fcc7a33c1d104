"""Resizing the images of a data set, as Med-R1 does before training (384 × 384).

The questions stay as they are, ids too: it is the same data at another size. Shards appear one at a time, so a killed
run goes on where it stopped; nobody reads them before all are there, since the manifest says that it is not done.
"""

import io
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from medr1.data.images import MAX_ASPECT, open_image
from medr1.errors import ConfigError, DataError
from medr1.records import DataHash, read_samples, write_shards
from medr1.runs import Run
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
        least = math.ceil(max(width, height) * scale / MAX_ASPECT) if scale < 1 else 1  # or rounding makes it unfit
        target = (max(least, round(width * scale)), max(least, round(height * scale)))
    else:
        target = (size, size)
    return image if target == image.size else image.resize(target, Image.Resampling.LANCZOS)


def resize(job: Resizing, progress: Progress = lambda done: None) -> int:
    """Write `job.out` with every image as PNG of the new size, and return the number of samples.

    `ConfigError` for a size that makes no sense, `DataError` for images or data that cannot be read; then nothing is
    left. Shards of a killed call are used by the next one. A finished folder is not changed.
    """
    if not 1 <= job.size <= MOST_PIXELS_A_SIDE:
        raise ConfigError(f"the size is {job.size}; use 1 to {MOST_PIXELS_A_SIDE} pixels")
    content = DataHash(job.path if job.path.is_dir() else job.path.parent)
    total = sum(1 for _ in content.watch(read_samples(job.path)))
    if not total:
        raise DataError(f"{job.path} holds no samples; check that it is the right folder")
    names = [f"data-{number:05d}.parquet" for number in range(math.ceil(total / SHARD_SAMPLES))]
    with Run(
        job.out,
        command="data resize",
        arguments={name: getattr(job, name) for name in job.__slots__},
        identity={"size": job.size, "longest_side": job.longest_side, **content.identity()},
        seed=None,
        owns=("data-*.parquet",),
        overwrite=job.overwrite,
    ) as run:
        if not (run.done and run.has(*names)):
            try:
                _write_missing(run, names, job, progress)
            except DataError:  # with the mended picture it is another run, which could not use the shards
                run.discard()
                raise
            run.reach("done", n=total)
    return total


def _write_missing(run: Run, names: list[str], job: Resizing, progress: Progress) -> None:
    """Publish the shards that are not there, one after the other."""
    run.start()
    samples = read_samples(job.path)
    done = 0
    with ThreadPoolExecutor(job.threads or os.cpu_count() or 1) as pool:
        for name in names:
            shard = list(itertools.islice(samples, SHARD_SAMPLES))
            if not run.has(name):
                with run.staged() as aside:
                    write_shards(aside, _resized_samples(shard, job, pool), shard_bytes=math.inf)
                    run.publish(aside / "data-00000.parquet", name)
            done += len(shard)
            progress(done)


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
