"""Writing data sets that are made from another one, without holding its images in memory."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medr1.data.questions import QuestionSet
from medr1.doors import read_file
from medr1.records import read_samples
from medr1.types import ImageRef, Sample


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
