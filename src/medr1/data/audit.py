"""The audit of a split: what test shares with train, and how far one gets without looking at an image.

`audit` returns what `audit.json` holds; the definitions are those of the published audit of Med-R1's splits, so that
its figures come out to the printed digit.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medr1.data.blind import blind_hits, learning_curve
from medr1.data.leakage import Pictures, leakage, same_sample, shared_images, slice_neighbours
from medr1.data.near_duplicates import near_duplicates
from medr1.data.option_checks import option_checks
from medr1.data.questions import QuestionSet
from medr1.data.verdicts import verdicts
from medr1.errors import DataError
from medr1.stats import chance
from medr1.types import Sample

Flags = Mapping[str, NDArray[np.bool_]]
Hits = Mapping[str, NDArray[np.float64]]

AXES = {"by_modality": "modality", "by_task": "task", "by_source": "source"}
"""Key of the audit, and field of the sample, of each division of the test set."""


def audit(train: QuestionSet, test: QuestionSet, *, seed: int = 0) -> dict[str, Any]:
    """Everything that `audit.json` holds, as JSON values; shares and accuracies are 0..1.

    Blind rules answer the test questions that have one right option (`n_choice`); a set without any is a `DataError`.
    """
    position = [i for i, sample in enumerate(test.samples) if sample.answer_index is not None]
    if not position:
        raise DataError(f"{test.name} has no question with one right option, so no blind rule can answer it")
    asked = [test.samples[i] for i in position]
    fitted = [sample for sample in train.samples if sample.answer_index is not None]
    pictures = Pictures(train, test)
    flags = {name: np.array(found) for name, found in leakage(train, test, pictures).items()}
    scores = blind_hits(fitted, asked, seed)
    slices = slice_neighbours(train, test, pictures=pictures)
    result = {
        "train": train.name,
        "test": test.name,
        "n_train": len(train.samples),
        "n_test": len(test.samples),
        "n_choice": len(asked),
        "n_train_choice": len(fitted),
        "groups_of_several_images": _groups_of_several(train) + _groups_of_several(test),
        **{name: _shared(found) for name, found in flags.items()},
        "images_compared": pictures.summary(),
        "shared_images": shared_images(train, test, pictures),
        "same_samples": same_sample(train.samples, test.samples),
        "images": {"train": _image_counts(train), "test": _image_counts(test)},
        "near_duplicates": near_duplicates(train, test),
        "slice_neighbours": slices and {str(gap): {"images": n, "share": share} for gap, (n, share) in slices.items()},
        "chance": chance(asked),
        "blind": _blind(scores),
        "learning_curve": learning_curve(fitted, asked, seed),
        **{key: by_part(test.samples, asked, field, flags, scores) for key, field in AXES.items()},
        "options": {"train": option_checks(train), "test": option_checks(test)},
    }
    return {**result, "verdicts": verdicts(result)}


def by_part(
    samples: Sequence[Sample], asked: Sequence[Sample], field: str, flags: Flags, scores: Hits
) -> dict[str, dict[str, Any]]:
    """Leakage and blind accuracies of the test questions of each modality, task or source.

    `flags` belong to `samples`, `scores` to those of them that have one right option (`asked`).
    """
    of_sample = np.array([getattr(sample, field) for sample in samples])
    of_asked = np.array([getattr(sample, field) for sample in asked])
    parts = {}
    for name, count in sorted(Counter(of_sample.tolist()).items()):
        chosen = of_asked == name
        parts[name] = {
            "n": count,
            "image_leakage": _shared(flags["image_leakage"][of_sample == name]),
            "question_repeats": _shared(flags["question_repeats"][of_sample == name]),
            "chance": chance(sample for sample in asked if getattr(sample, field) == name),
            "blind": _blind({rule: values[chosen] for rule, values in scores.items()}),
        }
    return parts


def _shared(flags: NDArray[np.bool_]) -> dict[str, Any]:
    return {"records": int(flags.sum()), "share": float(flags.mean())}


def _blind(scores: Hits) -> dict[str, float | None]:
    return {rule: float(np.mean(values)) if len(values) else None for rule, values in scores.items()}


def _groups_of_several(questions: QuestionSet) -> int:
    """Groups that say more than which image is shown: those with several images."""
    images: defaultdict[str, set[str]] = defaultdict(set)
    for sample, shown in zip(questions.samples, questions.images, strict=True):
        if sample.group:
            images[sample.group].update(image.identity for image in shown)
    return sum(len(found) > 1 for found in images.values())


def _image_counts(questions: QuestionSet) -> dict[str, int]:
    images = questions.fingerprints()
    return {
        "distinct": len({image.identity for image in images}),
        "hashed": sum(image.pixel_hash is not None for image in images),
        "missing": sum(image.pixel_hash is None for image in images),
    }
