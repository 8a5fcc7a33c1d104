"""A linear model that reads question and options and never sees the image.

It is the strongest of the blind rules: n-grams carry over to texts that were never seen in training, where the counter
of `shortcuts.TextPrior` has to guess.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medr1.answers.wording import plain_words
from medr1.data.shortcuts import format_rule, longest_option
from medr1.types import LETTERS, Sample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUM_FEATURES = 2**18
MAX_TRAIN = 20_000
"""Training questions beyond this are sampled down: more do not change the accuracy and cost seconds."""
EPOCHS = 5
TIE = 1e-9


class LinearTextModel:
    """Pairwise logistic regression on hashed n-grams: the right option must score higher than every other one.

    Features of an option: its words, word pairs and character triples, the whole text, its first and last character,
    its letter, whether it is the longest and whether the format rule picks it; and the whole text crossed with the
    words of the question. Fitted by stochastic gradient descent under the seed.
    """

    def __init__(self, train: Sequence[Sample], seed: int = 0) -> None:
        from sklearn.feature_extraction import FeatureHasher
        from sklearn.linear_model import SGDClassifier

        self._hasher = FeatureHasher(NUM_FEATURES, input_type="string")
        asked = [sample for sample in train if sample.answer_index is not None and len(sample.options) > 1]
        if len(asked) > MAX_TRAIN:
            asked = random.Random(seed).sample(asked, MAX_TRAIN)
        self._weights: NDArray[np.float64] | None = None
        if sum(len(sample.options) - 1 for sample in asked) > 1:  # the fit needs both signs of a difference
            differences, labels = self._pairs(asked)
            model = SGDClassifier(
                loss="log_loss",
                alpha=1e-6,
                max_iter=EPOCHS,
                tol=None,  # pyright: ignore[reportArgumentType]
                fit_intercept=False,
                average=True,
                random_state=seed,
            )
            self._weights = np.asarray(model.fit(differences, labels).coef_)[0]

    def picks(self, samples: Sequence[Sample]) -> list[tuple[int, ...]]:
        """Positions of the options with the highest score, for each sample; all of them where nothing was fitted."""
        if self._weights is None or not any(sample.options for sample in samples):
            return [tuple(range(len(sample.options))) for sample in samples]
        scores = self._features(samples) @ self._weights
        starts = np.cumsum([0, *(len(sample.options) for sample in samples)])
        per_sample = (scores[start:end] for start, end in pairwise(starts))
        return [tuple(np.flatnonzero(part > part.max() - TIE).tolist()) if len(part) else () for part in per_sample]

    def __call__(self, sample: Sample) -> tuple[int, ...]:
        """The options with the highest score; `picks` is faster for many samples."""
        return self.picks([sample])[0]

    def _pairs(self, samples: Sequence[Sample]) -> "tuple[csr_matrix, NDArray[np.float64]]":
        """Right minus wrong for every wrong option; every second difference is turned round, as two classes need."""
        from scipy.sparse import csr_matrix

        features = self._features(samples)
        right, wrong, start = [], [], 0
        for sample in samples:
            assert sample.answer_index is not None, "only questions with one right option are fitted"
            others = [start + i for i in range(len(sample.options)) if i != sample.answer_index]
            right += [start + sample.answer_index] * len(others)
            wrong += others
            start += len(sample.options)
        labels = np.where(np.arange(len(right)) % 2 == 0, 1.0, -1.0)

        return csr_matrix((features[right] - features[wrong]).multiply(labels[:, None])), labels

    def _features(self, samples: Sequence[Sample]) -> "csr_matrix":
        """One row an option, in order; each distinct text is hashed once."""
        from scipy.sparse import csr_matrix

        option_rows: dict[str, int] = {}
        cross_rows: dict[tuple[str, str], int] = {}
        shape_rows: dict[tuple[int, bool, bool], int] = {}
        rows = []
        for sample in samples:
            longest, picked = longest_option(sample), format_rule(sample)
            for position, option in enumerate(sample.options):
                shape = (position, longest == (position,), picked == (position,))
                rows.append(
                    (
                        option_rows.setdefault(option, len(option_rows)),
                        cross_rows.setdefault((sample.question, option), len(cross_rows)),
                        shape_rows.setdefault(shape, len(shape_rows)),
                    )
                )
        index = np.array(rows).reshape(-1, 3)
        parts = (
            self._hasher.transform(_option_tokens(option) for option in option_rows),
            self._hasher.transform(_cross_tokens(*pair) for pair in cross_rows),
            self._hasher.transform(_shape_tokens(*shape) for shape in shape_rows),
        )
        total = sum(
            (part[index[:, column]] for column, part in enumerate(parts)), start=csr_matrix((len(index), NUM_FEATURES))
        )
        return csr_matrix(total)


def _option_tokens(option: str) -> list[str]:
    text = plain_words(option)
    words = text.split()
    letters = f" {text} "
    return [
        f"text={text}",
        f"first={option[:1].islower()}",
        f"last={option[-1:] if not option[-1:].isalnum() else ''}",
        f"length={min(len(option), 100) // 5}",
        *(f"word={word}" for word in words),
        *(f"pair={one} {other}" for one, other in pairwise(words)),
        *(f"char={letters[i : i + 3]}" for i in range(len(letters) - 2)),
    ]


def _cross_tokens(question: str, option: str) -> list[str]:
    text, stem = plain_words(option), plain_words(question)
    return [f"stem={stem}|{text}", *(f"cross={word}|{text}" for word in sorted(set(stem.split())))]


def _shape_tokens(position: int, longest: bool, picked: bool) -> list[str]:
    return [f"letter={LETTERS[position]}", *(["longest"] if longest else []), *(["format"] if picked else [])]
