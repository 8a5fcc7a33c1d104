"""A set of questions with the fingerprints of its images: what an audit compares and a description counts.

Image bytes are hashed as they stream by and then dropped, so that memory grows with the questions alone.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medr1.data import find_source
from medr1.data.images import open_image
from medr1.doors import read_file
from medr1.errors import DataError
from medr1.records import DataHash, read_json, read_samples
from medr1.records.samples import REQUIRED_COLUMNS
from medr1.types import ImageRef, Sample
from medr1.workers import Workers

Progress = Callable[[int], None]
"""Called with the number of questions read so far."""

_Task = tuple[ImageRef, str]
_CHUNK = 256
"""Questions whose images are handed to the worker processes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What identifies an image. The hashes are None where the file is not there."""

    name: str
    """Name that the source uses; of an image embedded in parquet, the base name only."""
    embedded: bool = False
    file_hash: str | None = None
    pixel_hash: str | None = None
    """Of the 8-bit RGB pixels: equal for a PNG and its BMP."""
    perceptual_hash: int | None = None
    """64 bits: signs of the lowest frequencies (`imagehash.phash`)."""
    size: tuple[int, int] | None = None
    """Width and height in pixels."""
    is_blank: bool = False
    """Whether all its pixels are alike: the air beside a patient is in every study."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of the content; none where the file is not there."""
        return tuple(filter(None, (self.file_hash, self.pixel_hash)))

    @property
    def keys(self) -> tuple[str, ...]:
        """Every identity of the image within its set; two images are the same where they share one."""
        # Base names repeat between folders ("1.png"), so they identify nothing.
        named = () if self.embedded or not self.name else (f"name:{self.name}",)
        return (*named, *self.hashes)

    @property
    def identity(self) -> str:
        """The surest of its identities."""
        return self.keys[-1] if self.keys else self.name

    @property
    def folder(self) -> str:
        """The folders of its name, "" for none."""
        return self.name.replace("\\", "/").rpartition("/")[0]

    @property
    def stem(self) -> str:
        """Base name without ending, in one case: what is left of a name where files are kept elsewhere or converted."""
        base = self.name.replace("\\", "/").rpartition("/")[2]
        return base.rpartition(".")[0].casefold() or base.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """Questions without image bytes, and beside each the fingerprints of its images."""

    name: str
    samples: list[Sample]
    images: list[tuple[Fingerprint, ...]]

    def fingerprints(self) -> list[Fingerprint]:
        """All images, repeated ones as often as they are shown."""
        return list(itertools.chain.from_iterable(self.images))


def question_set(name: str, samples: Iterable[Sample]) -> QuestionSet:
    """Samples already in memory, with the names of their images alone."""
    kept = list(samples)
    images = [tuple(Fingerprint(name=ref.path or "", embedded=ref.data is not None) for ref in s.images) for s in kept]
    return QuestionSet(
        name=name, samples=[_light(s, prints) for s, prints in zip(kept, images, strict=True)], images=images
    )


def read_questions(
    path: Path,
    *,
    source: str | None = None,
    image_root: Path | None = None,
    with_images: bool = True,
    processes: int | None = None,
    progress: Progress = lambda done: None,
) -> QuestionSet:
    """Read a folder that medr1 wrote, or a file or folder in any format of `SOURCES`, and hash the images there are.

    Images of a source are looked for under `image_root`, by default the data's own folder; where they are missing
    only their names are known. Hashing runs in `processes` processes (default: one a core). `DataError` for data or
    images that cannot be read.
    """
    samples, root = open_samples(path, source, image_root)
    first = list(itertools.islice(samples, 1))
    samples = itertools.chain(first, samples)
    prefix = "" if root is None else f"{root}{os.sep}"
    kept: list[Sample] = []
    images: list[tuple[Fingerprint, ...]] = []
    to_hash = with_images and any(_is_there(ref) for sample in first for ref in sample.images)
    with _fingerprints_of(processes or os.cpu_count() or 1, to_hash) as fingerprints_of:
        while chunk := list(itertools.islice(samples, _CHUNK)):
            prints = iter(fingerprints_of([(ref, prefix) for sample in chunk for ref in sample.images]))
            for sample in chunk:
                images.append(tuple(itertools.islice(prints, len(sample.images))))
                kept.append(_light(sample, images[-1]))
            progress(len(kept))
    if not kept:
        raise DataError(f"{path} holds no questions; check that it is the right file or folder")
    return QuestionSet(name=_title(path), samples=kept, images=images)


def content_of(
    path: Path, *, source: str | None = None, image_root: Path | None = None, with_images: bool = True
) -> dict[str, str]:
    """Hashes of what `read_questions` reads, by name, at the cost of reading alone: nothing is decoded."""
    samples, root = open_samples(path, source, image_root)
    content = DataHash(root)
    for _ in content.watch(samples):
        pass
    return content.identity(None if with_images else {})


def _title(path: Path) -> str:
    """Name of a file without its endings, or of a folder."""
    return re.sub(r"\.[a-z]+(\.gz)?$", "", path.name, flags=re.IGNORECASE) if path.is_file() else path.name


def open_samples(
    path: Path, source: str | None = None, image_root: Path | None = None
) -> tuple[Iterator[Sample], Path | None]:
    """The samples under `path`, and the folder that their images' names leave out; see `read_questions`.

    The folder is None where a source's images are not there.
    """
    if source is None and _is_converted(path):
        return read_samples(path), path if path.is_dir() else path.parent
    found = find_source(path, source)
    root = found.image_root(path) if image_root is None else image_root
    first = next(found.read(found.files(path)[0], root))
    if image_root is None and not any(map(_is_there, first.images)):
        root = None
    return found.read(path, root), root


def _is_converted(path: Path) -> bool:
    """Whether medr1 wrote it: parquet or `save_to_disk` with the columns of a sample, not those of another source."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    if shards and shards[0].is_file():
        try:
            columns = pq.read_schema(shards[0]).names
        except (OSError, pa.ArrowException):
            return True  # `read_samples` says what is wrong with it
        return set(REQUIRED_COLUMNS) <= set(columns)
    if (path / "dataset_info.json").exists():
        return set(REQUIRED_COLUMNS) <= set(read_json(path / "dataset_info.json").get("features") or ())
    return bool(shards) or (path / "dataset_dict.json").exists()


def fingerprint(ref: ImageRef, prefix: str = "") -> Fingerprint:
    """Hashes of one image; `prefix` is the folder that its name leaves out. Only the name where there is no file."""
    if not _is_there(ref):
        return _named(ref, prefix)
    import imagehash
    import numpy as np

    data = ref.data if ref.data is not None else read_file(Path(ref.path or ""), "image")
    picture = open_image(ImageRef(path=ref.path, data=data))
    bits = imagehash.phash(picture).hash.ravel()
    return replace(
        _named(ref, prefix),
        file_hash=f"file:{hashlib.sha256(data).hexdigest()}",
        pixel_hash=f"pixels:{picture.size}:{hashlib.sha256(picture.tobytes()).hexdigest()}",
        perceptual_hash=int.from_bytes(np.packbits(bits).tobytes(), "big"),
        size=picture.size,
        is_blank=all(low == high for low, high in picture.getextrema()),  # pyright: ignore[reportGeneralTypeIssues]
    )


def telling(images: Sequence[Fingerprint]) -> Sequence[Fingerprint]:
    """The pictures of a question by which it can be known: of several, those that show something."""
    return [image for image in images if not image.is_blank] or images


@contextmanager
def _fingerprints_of(processes: int, to_hash: bool) -> Iterator[Callable[[list[_Task]], list[Fingerprint]]]:
    """The function from images to fingerprints, over worker processes where there is something to hash."""
    if not to_hash:
        yield lambda tasks: [_named(*task) for task in tasks]
        return
    with Workers(processes) as workers:
        yield lambda tasks: list(workers.map(fingerprint, tasks, chunk=8))


def _named(ref: ImageRef, prefix: str) -> Fingerprint:
    return Fingerprint(name=(ref.path or "").removeprefix(prefix), embedded=ref.data is not None)


def _light(sample: Sample, prints: tuple[Fingerprint, ...]) -> Sample:
    """The sample with the names of its images alone."""
    if all(ref.data is None and ref.path == found.name for ref, found in zip(sample.images, prints, strict=True)):
        return sample
    return replace(sample, images=tuple(ImageRef(path=found.name) for found in prints))


def _is_there(ref: ImageRef) -> bool:
    return ref.data is not None or (ref.path is not None and os.path.isfile(ref.path))


# Writing data sets that are made from another one, without holding its images in memory ------------------------------


def samples_with_images(data: Path, questions: QuestionSet) -> Iterator[Sample]:
    """The samples that `questions` was read from, with their images; may be called as often as there are parts.

    Where no image is there, the samples in memory are all there is to know, and nothing is read again.
    """
    if any(image.file_hash for images in questions.images for image in images):
        yield from _portable_samples(data)
    else:
        yield from questions.samples


def _portable_samples(data: Path) -> Iterator[Sample]:
    """Samples to write elsewhere: referenced files embedded, names of missing ones as the source has them."""
    folder = data if data.is_dir() else data.parent
    for sample in read_samples(data):
        yield replace(sample, images=tuple(_portable(ref, folder) for ref in sample.images))


def _portable(ref: ImageRef, folder: Path) -> ImageRef:
    if ref.data is not None or ref.path is None:
        return ref
    path = Path(ref.path)
    if path.is_file():
        return ImageRef(path=path.name, data=read_file(path, "image"))
    return ImageRef(path=os.path.relpath(path, folder) if path.is_relative_to(folder) else ref.path)
