"""How far colours alone go: a guesser that knows 18 numbers of a picture and sees no shape.

A model that only beats chance by as much has learnt the colours of a data set, not to look at images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medr1.types import Sample

PERCENTILES = (10, 50, 90)
COLOUR_STATISTICS = tuple(
    f"{channel} {name}"
    for channel in ("red", "green", "blue")
    for name in ("mean", "std", *(f"p{percentile}" for percentile in PERCENTILES), "skewness")
)
"""Names of the numbers of `colour_statistics`, in order."""


def colour_statistics(image: ArrayLike) -> NDArray[np.float64]:
    """Mean, standard deviation, 10th, 50th and 90th percentile and skewness of red, green and blue: 18 numbers.

    `image` is `[height, width, 3]` of bytes; all but the skewness are grey levels divided by 255. Where the
    pixels are does not matter.

    >>> colour_statistics(np.full((2, 2, 3), 255, np.uint8)).reshape(3, 6)[0].tolist()
    [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    """
    pixels = np.ascontiguousarray(np.asarray(image).reshape(-1, 3).T) / 255
    mean, std = pixels.mean(axis=1), pixels.std(axis=1)
    percentiles = np.percentile(pixels, PERCENTILES, axis=1)
    centred = pixels - mean[:, None]
    skewness = (centred * centred * centred).mean(axis=1) / np.maximum(std, 1e-3) ** 3
    return np.vstack([mean, std, percentiles, skewness]).T.ravel()


def colour_baseline(
    train_images: Sequence[ArrayLike],
    train_samples: Sequence[Sample],
    test_images: Sequence[ArrayLike],
    test_samples: Sequence[Sample],
) -> NDArray[np.bool_]:
    """Which test questions the colours answer: `[len(test_samples)]`.

    For each kind of question (`extra["kind"]`, else the task) a logistic regression from the colour statistics to the
    text of the right option is fitted on the training questions; it picks the offered option with the highest
    probability. An option that never was an answer has probability 0, and the first of equals is taken.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = np.array([colour_statistics(image) for image in train_images])
    test = np.array([colour_statistics(image) for image in test_images])
    train_kinds = np.array([sample.extra.get("kind", sample.task) for sample in train_samples])
    test_kinds = np.array([sample.extra.get("kind", sample.task) for sample in test_samples])
    answers = np.array([_gold_text(sample) for sample in train_samples])
    right = np.zeros(len(test_samples), bool)
    for kind in np.unique(test_kinds):
        rows, asked = train_kinds == kind, np.flatnonzero(test_kinds == kind)
        if len(np.unique(answers[rows])) < 2:
            probabilities: list[dict[str, float]] = [{} for _ in asked]
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train[rows], answers[rows])
            classes = model.classes_.tolist()
            probabilities = [dict(zip(classes, row, strict=True)) for row in model.predict_proba(test[asked])]
        for position, odds in zip(asked.tolist(), probabilities, strict=True):
            sample = test_samples[position]
            guess = int(np.argmax([odds.get(option, 0.0) for option in sample.options]))
            right[position] = guess == sample.answer_index
    return right


def _gold_text(sample: Sample) -> str:
    assert sample.answer_index is not None, "the colour baseline is for questions with one right option"
    return sample.options[sample.answer_index]
