"""What a test set shares with the training set: images, questions, records, groups and neighbouring slices.

Text is compared exactly, as it is written: a copy is a copy of every character.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import PurePosixPath

from medr1.data.questions import Fingerprint, QuestionSet
from medr1.types import Sample

Keys = Sequence[Iterable[Hashable]]
"""For each question, all keys by which it can be recognised."""

SLICE_GAPS = (1, 2, 5, 10)
SLICE_SOURCES = ("RadImageNet",)
"""Data sets whose file names end with the number of the slice in its scan."""


def shared_flags(train: Keys, test: Keys) -> list[bool]:
    """Which test questions have a key that some training question has."""
    known = {key for keys in train for key in keys}
    return [any(key in known for key in keys) for keys in test]


def image_keys(questions: QuestionSet) -> Keys:
    """Names, file hashes and pixel hashes of the images of each question."""
    return [[key for image in images for key in image.keys] for images in questions.images]


def question_keys(questions: QuestionSet) -> Keys:
    """The question without its options."""
    return [(sample.question,) for sample in questions.samples]


def problem_keys(questions: QuestionSet) -> Keys:
    """The question with its options in their order."""
    return [((sample.question, *sample.options),) for sample in questions.samples]


def image_question_keys(questions: QuestionSet) -> Keys:
    """The same image asked the same question, whatever the options."""
    return _with_image(questions, question_keys(questions))


def record_keys(questions: QuestionSet) -> Keys:
    """The same image asked the same question with the same options."""
    return _with_image(questions, problem_keys(questions))


def group_keys(questions: QuestionSet) -> Keys:
    """The group that must not be split."""
    return [(sample.group,) if sample.group else () for sample in questions.samples]


def _with_image(questions: QuestionSet, others: Keys) -> Keys:
    images = image_keys(questions)
    return [[(image, other) for image in keys for other in also] for keys, also in zip(images, others, strict=True)]


LEVELS = {
    "image_leakage": image_keys,
    "question_repeats": problem_keys,
    "stem_repeats": question_keys,
    "image_question_repeats": image_question_keys,
    "record_repeats": record_keys,
    "group_leakage": group_keys,
}
"""What can be shared, from key of the audit to the keys of the questions."""


def leakage(train: QuestionSet, test: QuestionSet) -> dict[str, list[bool]]:
    """For each of `LEVELS`, which test questions share it with the training set."""
    return {name: shared_flags(keys_of(train), keys_of(test)) for name, keys_of in LEVELS.items()}


def shared_images(train: QuestionSet, test: QuestionSet) -> int:
    """Number of distinct test images that are in the training set."""
    known = {key for keys in image_keys(train) for key in keys}
    return len({image.keys[-1] for image in test.fingerprints() if any(key in known for key in image.keys)})


def slice_position(image: Fingerprint, source: str) -> tuple[str, int] | None:
    """Series (folder and name up to the number) and slice number of an image; None where names do not tell them.

    Of an image that is embedded in parquet the folder is not known, so its series is the name up to the number.

    >>> slice_position(Fingerprint(name="Images/RadImageNet/bowel_mass/abd068206.png"), "RadImageNet")
    ('Images/RadImageNet/bowel_mass/abd', 68206)
    """
    if source not in SLICE_SOURCES and not set(SLICE_SOURCES) & set(PurePosixPath(image.name).parts):
        return None
    found = re.fullmatch(r"(.*?)(\d+)\.[^./]+", image.name)
    return (found[1], int(found[2])) if found else None


def slice_neighbours(
    train: QuestionSet, test: QuestionSet, gaps: Sequence[int] = SLICE_GAPS
) -> dict[int, tuple[int, float]] | None:
    """By gap, how many distinct test images have a training slice of their series at most so many numbers away.

    Number, and share of the distinct test images with a slice number. Test images that are themselves in train are
    counted as leaked elsewhere, not here. None where no test image has a slice number.
    """
    known = {key for keys in image_keys(train) for key in keys}
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for image, position in _slices(train):
        del image
        numbers[position[0]].add(position[1])
    slices = dict(_slices(test))
    if not slices:
        return None
    fresh = [position for image, position in slices.items() if not any(key in known for key in image.keys)]
    counts = {gap: sum(_has_neighbour(numbers[series], number, gap) for series, number in fresh) for gap in gaps}
    return {gap: (count, count / len(slices)) for gap, count in counts.items()}


def _slices(questions: QuestionSet) -> Iterable[tuple[Fingerprint, tuple[str, int]]]:
    for sample, images in zip(questions.samples, questions.images, strict=True):
        for image in images:
            position = slice_position(image, sample.source)
            if position is not None:
                yield image, position


def _has_neighbour(numbers: set[int], number: int, gap: int) -> bool:
    return any(number + step in numbers or number - step in numbers for step in range(1, gap + 1))


def same_sample(train: Iterable[Sample], test: Iterable[Sample]) -> int:
    """Number of test samples whose identity a training sample has: the same record on another axis of splits."""
    known = {sample.id for sample in train}
    return sum(sample.id in known for sample in test)
