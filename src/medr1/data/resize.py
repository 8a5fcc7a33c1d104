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
from dataclasses import replace
from pathlib import Path

from PIL import Image

from medr1.data.images import MAX_ASPECT, open_image
from medr1.data.settings import ResizeSettings
from medr1.errors import DataError
from medr1.records import DataHash, read_samples, write_shards
from medr1.runs import Run
from medr1.types import ImageRef, Sample

Progress = Callable[[int], None]
"""Called with the number of samples done."""

SHARD_SAMPLES = 512
MOST_PIXELS_A_SIDE = 8192
PNG_LEVEL = 1
"""PNG loses nothing at any level; the usual 6 takes four times as long for scans and saves little or nothing."""


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


def resize(settings: ResizeSettings, progress: Progress = lambda done: None) -> int:
    """Write `settings.out` with every image as PNG of the new size, and return the number of samples.

    `ConfigError` for a size that makes no sense, `DataError` for images or data that cannot be read; then nothing is
    left. Shards of a killed call are used by the next one. A finished folder is not changed.
    """
    content = DataHash(settings.path if settings.path.is_dir() else settings.path.parent)
    total = sum(1 for _ in content.watch(read_samples(settings.path)))
    if not total:
        raise DataError(f"{settings.path} holds no samples; check that it is the right folder")
    names = [f"data-{number:05d}.parquet" for number in range(math.ceil(total / SHARD_SAMPLES))]
    with Run(
        settings.out,
        command="data resize",
        arguments=settings.dump(),
        identity={"size": settings.size, "longest_side": settings.longest_side, **content.identity()},
        seed=None,
        owns=("data-*.parquet",),
        overwrite=settings.overwrite,
    ) as run:
        if not (run.done and run.has(*names)):
            try:
                _write_missing(run, names, settings, progress)
            except DataError:  # with the mended picture it is another run, which could not use the shards
                run.discard()
                raise
            run.reach("done", n=total)
    return total


def _write_missing(run: Run, names: list[str], settings: ResizeSettings, progress: Progress) -> None:
    """Publish the shards that are not there, one after the other."""
    run.start()
    samples = read_samples(settings.path)
    done = 0
    with ThreadPoolExecutor(settings.threads or os.cpu_count() or 1) as pool:
        for name in names:
            shard = list(itertools.islice(samples, SHARD_SAMPLES))
            if not run.has(name):
                with run.staged() as aside:
                    write_shards(aside, _resized_samples(shard, settings, pool), shard_bytes=math.inf)
                    run.publish(aside / "data-00000.parquet", name)
            done += len(shard)
            progress(done)


def _resized_samples(samples: list[Sample], settings: ResizeSettings, pool: ThreadPoolExecutor) -> Iterator[Sample]:
    """The samples in their order, a few images ahead of the one that is asked for."""
    ahead = 4 * (settings.threads or os.cpu_count() or 1)
    waiting: deque[Future[Sample]] = deque()
    for sample in samples:
        waiting.append(pool.submit(_resized_sample, sample, settings))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _resized_sample(sample: Sample, settings: ResizeSettings) -> Sample:
    try:
        return replace(sample, images=tuple(_resized_image(ref, settings) for ref in sample.images))
    except DataError as error:
        raise DataError(f"sample {sample.id}: {error}") from error


def _resized_image(ref: ImageRef, settings: ResizeSettings) -> ImageRef:
    image = resized(open_image(ref), settings.size, longest_side=settings.longest_side)
    red, green, blue = image.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        image = red  # every reader repeats the one channel: a third of the bytes and of the time
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return ImageRef(path=Path(ref.path or "image").with_suffix(".png").name, data=buffer.getvalue())
