"""What a test set shares with the training set: pictures, questions, records, groups, slices and look-alikes.

Text is compared exactly, as it is written: a copy is a copy of every character. Pictures are compared by content where
both are there, else by name, else by base name; what was found how is said.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medr1.data.questions import Fingerprint, QuestionSet, telling
from medr1.records.hashes import MISSING, file_hashes
from medr1.results.audited import NearDuplicates, NearRate, PicturesCompared, SliceNeighbours
from medr1.results.evaluated import Overlap
from medr1.types import Sample

Keys = Sequence[Iterable[Hashable]]
"""For each question, all keys by which it can be recognised."""
BASES = ("content", "name", "base name")
"""By what two pictures are found to be the same, the surest first."""

MIN_STEM = 5
"""Characters of a base name, without ending, that tell a picture: "1.png" and "0001.png" are in every data set."""
SLICE_GAPS = (1, 2, 5, 10)
SLICE_SOURCES = ("RadImageNet",)
"""Data sets whose file names end with the number of the slice in its scan."""

THRESHOLD = 4
"""Bits of the 64-bit perceptual hash in which two near-duplicates differ at most."""
THRESHOLDS = (0, 2, THRESHOLD, 8)
_ROWS = 512


def shared_flags(train: Keys, test: Keys) -> list[bool]:
    """Which test questions have a key that some training question has."""
    known = {key for keys in train for key in keys}
    return [any(key in known for key in keys) for keys in test]


class Pictures:
    """The pictures of two sets, each with keys that it shares with a picture of the other set if they are the same.

    - Two that are both there are the same where their files or pixels are.
    - Where one of them is not there, the name decides, with its folders.
    - Names under folders that the other set does not have (the same files, kept elsewhere), or whose folder is not
      known, are compared by base name without ending, unless that is short or stands for several pictures of one set.
    """

    def __init__(self, train: QuestionSet, test: QuestionSet) -> None:
        self._sets = train, test
        folders = [{image.folder for image in found.fingerprints() if not image.embedded} for found in self._sets]
        self._unclear = _several(train) | _several(test)
        self.train = [[self._kept(image, folders[1]) for image in telling(images)] for images in train.images]
        self.test = [[self._sought(image, folders[0]) for image in telling(images)] for images in test.images]
        self._known = {key for images in self.train for keys in images for key in keys}
        self._by_image = {
            image: keys
            for images, of_images in zip(test.images, self.test, strict=True)
            for image, keys in zip(telling(images), of_images, strict=True)
        }

    def keys(self) -> tuple[Keys, Keys]:
        """Of the training and of the test questions."""
        joined = [[[key for keys in images for key in keys] for images in found] for found in (self.train, self.test)]
        return joined[0], joined[1]

    def basis(self, image: Fingerprint) -> str | None:
        """By what a test picture was found in train; None where it was not."""
        return next((key[0] for key in self._by_image.get(image, ()) if key in self._known), None)

    def summary(self) -> PicturesCompared:
        """What the comparison rests on."""
        found = Counter[str]()
        for images in self.test:
            by = {key[0] for keys in images for key in keys if key in self._known}
            found.update([basis for basis in BASES if basis in by][:1])
        return PicturesCompared(
            basis=self._basis(),
            found_by={basis: found[basis] for basis in BASES},
            other_pixels=sum(any(map(self._has_other_pixels, images)) for images in self._sets[1].images),
        )

    def _basis(self) -> Literal["content", "names", "content and names"] | None:
        shown = [questions.fingerprints() for questions in self._sets]
        there = [sum(bool(image.hashes) for image in images) for images in shown]
        if not all(shown):
            return None
        if not all(there):
            return "names"
        return "content" if there == [len(images) for images in shown] else "content and names"

    def _has_other_pixels(self, image: Fingerprint) -> bool:
        named = ("name", "there", image.name)
        return not image.embedded and bool(image.hashes) and named in self._known and self.basis(image) is None

    def _names(self, image: Fingerprint, folders: set[str]) -> list[tuple[str, str]]:
        """Basis and name by which a picture that is not there can be known, given the other set's folders."""
        named = [("name", image.name)] if image.name and not image.embedded else []
        stem = image.stem
        if (image.embedded or image.folder not in folders) and len(stem) >= MIN_STEM and stem not in self._unclear:
            named.append(("base name", stem))
        return named

    def _kept(self, image: Fingerprint, folders: set[str]) -> list[tuple[str, ...]]:
        there = "there" if image.hashes else "missing"
        return [
            *(("content", key) for key in image.hashes),
            *((basis, there, name) for basis, name in self._names(image, folders)),
        ]

    def _sought(self, image: Fingerprint, folders: set[str]) -> list[tuple[str, ...]]:
        """As `_kept`: names of a picture that is there are looked for among the missing ones only."""
        others = ("missing",) if image.hashes else ("missing", "there")
        return [
            *(("content", key) for key in image.hashes),
            *((basis, other, name) for basis, name in self._names(image, folders) for other in others),
        ]


def _several(questions: QuestionSet) -> set[str]:
    """Base names that stand for more than one picture of the set."""
    first: dict[str, str] = {}
    unclear = set()
    for image in questions.fingerprints():
        if first.setdefault(image.stem, image.pixel_hash or image.name) != (image.pixel_hash or image.name):
            unclear.add(image.stem)
    return unclear


def question_keys(questions: QuestionSet) -> Keys:
    """The question without its options."""
    return [(sample.question,) for sample in questions.samples]


def problem_keys(questions: QuestionSet) -> Keys:
    """The question with its options in their order."""
    return [((sample.question, *sample.options),) for sample in questions.samples]


def group_keys(questions: QuestionSet) -> Keys:
    """The group that must not be split."""
    return [(sample.group,) if sample.group else () for sample in questions.samples]


def _both(pictures: Keys, others: Keys) -> Keys:
    """The same picture with the same other key."""
    return [[(key, other) for key in keys for other in also] for keys, also in zip(pictures, others, strict=True)]


def leakage(train: QuestionSet, test: QuestionSet, pictures: Pictures | None = None) -> dict[str, list[bool]]:
    """By what can be shared (a key of the audit), which test questions share it with the training set."""
    shown = (pictures or Pictures(train, test)).keys()
    stems, problems, groups = ((of(train), of(test)) for of in (question_keys, problem_keys, group_keys))
    levels = {
        "image_leakage": shown,
        "question_repeats": problems,
        "stem_repeats": stems,
        "image_question_repeats": (_both(shown[0], stems[0]), _both(shown[1], stems[1])),
        "record_repeats": (_both(shown[0], problems[0]), _both(shown[1], problems[1])),
        "group_leakage": groups,
    }
    return {name: shared_flags(*keys) for name, keys in levels.items()}


def shared_images(train: QuestionSet, test: QuestionSet, pictures: Pictures | None = None) -> int:
    """Number of distinct test images that are in the training set."""
    found = pictures or Pictures(train, test)
    return len({image.identity for image in test.fingerprints() if found.basis(image) is not None})


def sample_overlap(train: Sequence[Sample], test: Sequence[Sample]) -> Overlap:
    """Test samples that train has, with their pictures compared by the content of their files.

    `questions`: by id, or the same pictures, question and options; `pictures`: with a picture of train, those included.
    """
    files = {ref.path for sample in (*train, *test) for ref in sample.images if ref.data is None and ref.path}
    hashes: dict[str | None, str] = dict(zip(files, file_hashes(files), strict=True))
    shown = [[_content(sample, hashes) for sample in samples] for samples in (train, test)]
    whole = [
        {(*found, sample.question, *sample.options) for sample, found in zip(train, shown[0], strict=True)},
        {sample.id for sample in train},
    ]
    known = {picture for found in shown[0] for picture in found} - {MISSING}
    questions = pictures = 0
    for sample, found in zip(test, shown[1], strict=True):
        text = (*found, sample.question, *sample.options)
        same = sample.id in whole[1] or (MISSING not in found and text in whole[0])
        questions += same
        pictures += same or not known.isdisjoint(found)
    return Overlap(questions=questions, pictures=pictures)


def _content(sample: Sample, files: Mapping[str | None, str]) -> tuple[str, ...]:
    """Hashes of the files of its pictures."""
    return tuple(
        files.get(ref.path, MISSING) if ref.data is None else hashlib.sha256(ref.data).hexdigest()
        for ref in sample.images
    )


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
    train: QuestionSet,
    test: QuestionSet,
    gaps: Sequence[int] = SLICE_GAPS,
    pictures: Pictures | None = None,
) -> dict[str, SliceNeighbours] | None:
    """By gap, the distinct test images that have a training slice of their series at most so many numbers away.

    Test images that are themselves in train are counted as leaked elsewhere, not here. None where no test image has a
    slice number.
    """
    found = pictures or Pictures(train, test)
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for _, (series, number) in _slices(train):
        numbers[series].add(number)
    slices = dict(_slices(test))
    if not slices:
        return None
    fresh = [position for image, position in slices.items() if found.basis(image) is None]
    counts = {gap: sum(_has_neighbour(numbers[series], number, gap) for series, number in fresh) for gap in gaps}
    return {str(gap): SliceNeighbours(images=n, share=n / len(slices)) for gap, n in counts.items()}


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


# Look-alikes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Distinct:
    """Distinct hashed images of a set, one array element each."""

    signs: NDArray[np.float32]
    """`[n, 64]` of ±1."""
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]
    modalities: NDArray[np.str_]


def near_duplicates(train: QuestionSet, test: QuestionSet) -> NearDuplicates | None:
    """How many test images have a training image that looks alike, beside what unrelated ones would give.

    Medical images of one kind resemble each other, so a rate means nothing alone. The expected rate answers: if no test
    image were related to any training image, how many would still have one this close? It takes the chance p that two
    unrelated images of a modality are close, and 1 - (1 - p)^N for N training images of that modality.

    Unrelated pairs are of one modality and of different sources, or of different groups in a modality whose training
    images have only one source; `unrelated` says which. With groups the expected rate holds whatever the groups do not
    tell (such as the patient), so there it is an upper bound. None without images.
    """
    first, second = _distinct_images(train), _distinct_images(test)
    if first is None or second is None:
        return None
    several = {
        name for name in np.unique(first.modalities) if len(np.unique(first.sources[first.modalities == name])) > 1
    }
    found = np.zeros((len(THRESHOLDS), len(second.groups)), bool)
    close_pairs: dict[str, NDArray[np.int64]] = {}
    pairs: dict[str, int] = {}
    for rows, distance in _distances(second, first):
        for level, threshold in enumerate(THRESHOLDS):
            found[level, rows] = (distance <= threshold).any(axis=1)
        unrelated = _unrelated(second, first, rows, several)
        for name in np.unique(second.modalities[rows]):
            counted = unrelated & (second.modalities[rows] == name)[:, None]
            close = np.array([(distance[counted] <= threshold).sum() for threshold in THRESHOLDS])
            close_pairs[name] = close_pairs.get(name, np.zeros(len(THRESHOLDS), np.int64)) + close
            pairs[name] = pairs.get(name, 0) + int(counted.sum())
    expected = np.zeros(len(THRESHOLDS))
    for name, count in pairs.items():
        chance = close_pairs[name] / max(count, 1)
        others = int((first.modalities == name).sum())
        expected += (1 - (1 - chance) ** others) * (second.modalities == name).mean()
    rates = [
        NearRate(threshold=threshold, rate=float(found[level].mean()), expected_rate=float(expected[level]))
        for level, threshold in enumerate(THRESHOLDS)
    ]
    chosen = rates[THRESHOLDS.index(THRESHOLD)]
    unrelated_by = {"other source" if name in several else "other group" for name in pairs}
    return NearDuplicates(
        rate=chosen.rate,
        expected_rate=chosen.expected_rate,
        threshold=THRESHOLD,
        unrelated=", ".join(sorted(unrelated_by)),
        n_test_images=len(second.groups),
        n_train_images=len(first.groups),
        by_threshold=rates,
    )


def _distinct_images(questions: QuestionSet) -> _Distinct | None:
    rows: dict[str, tuple[int, str, str, str]] = {}
    for sample, images in zip(questions.samples, questions.images, strict=True):
        for image in images:
            if image.perceptual_hash is not None and image.pixel_hash is not None:
                rows.setdefault(image.pixel_hash, (image.perceptual_hash, sample.group, sample.source, sample.modality))
    if not rows:
        return None
    hashes, groups, sources, modalities = zip(*rows.values(), strict=True)
    bits = np.unpackbits(np.array(hashes, ">u8").view(np.uint8)).reshape(-1, 64)
    return _Distinct(
        signs=2 * bits.astype(np.float32) - 1,
        groups=np.array(groups),
        sources=np.array(sources),
        modalities=np.array(modalities),
    )


def _distances(test: _Distinct, train: _Distinct) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Hamming distances `[rows, train]` of a few test images at a time: exact in float32, and as fast as a product."""
    for start in range(0, len(test.signs), _ROWS):
        rows = slice(start, start + _ROWS)
        yield rows, (64 - test.signs[rows] @ train.signs.T) / 2


def _unrelated(test: _Distinct, train: _Distinct, rows: slice, several: set[str]) -> NDArray[np.bool_]:
    """Which pairs `[rows, train]` are of one modality and have nothing else in common that the records tell."""
    same_modality = test.modalities[rows, None] == train.modalities
    by_source = np.isin(test.modalities[rows], list(several))[:, None]
    other_source = test.sources[rows, None] != train.sources
    other_group = test.groups[rows, None] != train.groups
    return same_modality & other_group & (other_source | ~by_source)
