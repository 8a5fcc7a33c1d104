"""Images that look alike: how many test images have a twin in train, beside what unrelated images would give.

Medical images of one kind resemble each other, so a rate means nothing alone. The expected rate answers: if no test
image were related to any training image, how many would still have one this close? It takes the chance p that two
unrelated images of a modality are close, and 1 - (1 - p)^N for N training images of that modality.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medr1.data.questions import QuestionSet

THRESHOLD = 4
"""Bits of the 64-bit perceptual hash in which two near-duplicates differ at most."""
THRESHOLDS = (0, 2, THRESHOLD, 8)
_ROWS = 512


@dataclass(frozen=True, slots=True)
class _Images:
    """Distinct hashed images of a set, one array element each."""

    signs: NDArray[np.float32]
    """`[n, 64]` of ±1."""
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]
    modalities: NDArray[np.str_]


def near_duplicates(train: QuestionSet, test: QuestionSet) -> dict[str, Any] | None:
    """Rate and expected rate at `THRESHOLD` and, in `by_threshold`, at all `THRESHOLDS`; None without images.

    Unrelated pairs are of one modality and of different sources, or of different groups in a modality whose training
    images have only one source; `unrelated` says which. With groups the expected rate holds whatever the groups do not
    tell (such as the patient), so there it is an upper bound.
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
        {"threshold": threshold, "rate": float(found[level].mean()), "expected_rate": float(expected[level])}
        for level, threshold in enumerate(THRESHOLDS)
    ]
    chosen = rates[THRESHOLDS.index(THRESHOLD)]
    unrelated_by = {"other source" if name in several else "other group" for name in pairs}
    return {
        "rate": chosen["rate"],
        "expected_rate": chosen["expected_rate"],
        "threshold": THRESHOLD,
        "unrelated": ", ".join(sorted(unrelated_by)),
        "n_test_images": len(second.groups),
        "n_train_images": len(first.groups),
        "by_threshold": rates,
    }


def _distinct_images(questions: QuestionSet) -> _Images | None:
    rows: dict[str, tuple[int, str, str, str]] = {}
    for sample, images in zip(questions.samples, questions.images, strict=True):
        for image in images:
            if image.perceptual_hash is not None and image.pixel_hash is not None:
                rows.setdefault(image.pixel_hash, (image.perceptual_hash, sample.group, sample.source, sample.modality))
    if not rows:
        return None
    hashes, groups, sources, modalities = zip(*rows.values(), strict=True)
    bits = np.unpackbits(np.array(hashes, ">u8").view(np.uint8)).reshape(-1, 64)
    return _Images(
        signs=2 * bits.astype(np.float32) - 1,
        groups=np.array(groups),
        sources=np.array(sources),
        modalities=np.array(modalities),
    )


def _distances(test: _Images, train: _Images) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Hamming distances `[rows, train]` of a few test images at a time: exact in float32, and as fast as a product."""
    for start in range(0, len(test.signs), _ROWS):
        rows = slice(start, start + _ROWS)
        yield rows, (64 - test.signs[rows] @ train.signs.T) / 2


def _unrelated(test: _Images, train: _Images, rows: slice, several: set[str]) -> NDArray[np.bool_]:
    """Which pairs `[rows, train]` are of one modality and have nothing else in common that the records tell."""
    same_modality = test.modalities[rows, None] == train.modalities
    by_source = np.isin(test.modalities[rows], list(several))[:, None]
    other_source = test.sources[rows, None] != train.sources
    other_group = test.groups[rows, None] != train.groups
    return same_modality & other_group & (other_source | ~by_source)
