"""Accuracies on a test set without its images, of rules that are fitted on the training set alone."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medr1.data.shortcuts import MajorityLetter, TextPrior, format_rule, hits, longest_option
from medr1.data.text_model import LinearTextModel
from medr1.types import Sample

CURVE_SIZES = (30, 100, 300, 1000, 3000, 10_000)
CURVE_SEEDS = 3
CURVE_TEST = 2000
"""Test questions of the learning curve at most: its points are means over seeds, read from a plot."""


def blind_hits(train: Sequence[Sample], test: Sequence[Sample], seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """By rule, the chance `[len(test)]` that it answers each test question right (ties are drawn).

    Every test sample must have one right option. `majority_letter` is the commonest letter of test itself, as the
    published audit prints it; `majority_letter_of_train` is the rule that could have been known beforehand.
    """
    rules = {
        "majority_letter": MajorityLetter(test),
        "majority_letter_of_train": MajorityLetter(train),
        "format_rule": format_rule,
        "longest_option": longest_option,
        "text_prior": TextPrior(train),
    }
    found = {name: np.array(hits(map(rule, test), test)) for name, rule in rules.items()}
    return {**found, "linear_text": np.array(hits(LinearTextModel(train, seed).picks(test), test))}


def learning_curve(train: Sequence[Sample], test: Sequence[Sample], seed: int = 0) -> list[dict[str, Any]]:
    """Accuracy of the text prior on test, fitted on n training questions drawn at random: mean and std over seeds.

    Empty where train is smaller than the first size.
    """
    chance = random.Random(seed)
    asked = list(test) if len(test) <= CURVE_TEST else chance.sample(list(test), CURVE_TEST)
    curve = []
    for size in (size for size in CURVE_SIZES if size < len(train)):
        drawn = (chance.sample(list(train), size) for _ in range(CURVE_SEEDS))
        scores = np.array([hits(map(TextPrior(part), asked), asked) for part in drawn]).mean(axis=1)
        curve.append({"n": size, "accuracy": float(scores.mean()), "std": float(scores.std(ddof=1))})
    return curve
