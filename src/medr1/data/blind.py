"""Rules that answer without looking at the image: what an accuracy has to beat before it says anything about seeing.

A rule maps a sample to the positions of the options that it would choose. Several positions are a tie, and a tie counts
1 / (number of tied options), which is the expected accuracy of drawing among them.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medr1.answers.wording import plain_words
from medr1.results.audited import CurvePoint
from medr1.types import LETTERS, Sample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Rule = Callable[[Sample], tuple[int, ...]]
"""Positions of the options that a blind rule would choose."""

TIE = 1e-12
"""Scores closer than this are a tie."""

NUM_FEATURES = 2**18
MAX_TRAIN = 20_000
"""Training questions beyond this are sampled down: more do not change the accuracy and cost seconds."""
EPOCHS = 5
LINEAR_TIE = 1e-9

CURVE_SIZES = (30, 100, 300, 1000, 3000, 10_000)
CURVE_SEEDS = 3
CURVE_TEST = 2000
"""Test questions of the learning curve at most: its points are means over seeds, read from a plot."""


def rule_accuracy(rule: Rule, samples: Sequence[Sample]) -> float | None:
    """Expected accuracy (0..1) of a rule whose ties are drawn at random; None for no samples."""
    if not samples:
        return None
    return sum(hits(map(rule, samples), samples)) / len(samples)


def hits(picks: Iterable[tuple[int, ...]], samples: Sequence[Sample]) -> list[float]:
    """For each sample, the chance that an option drawn from what a rule picked is the right one."""
    return [(s.answer_index in p) / len(p) for s, p in zip(samples, picks, strict=True)]


def format_rule(sample: Sample) -> tuple[int, ...]:
    """The one option that starts in lower case, else the one that ends with a full stop, else all.

    Published question sets keep the raw label as the right option (`liver`, `CT.`) beside distractors that a language
    model wrote with a capital.
    """
    lower = tuple(i for i, text in enumerate(sample.options) if text[:1].islower())
    stopped = tuple(i for i, text in enumerate(sample.options) if text.endswith("."))
    return next(
        (found for found in (lower, stopped) if len(found) == 1),
        tuple(i for i, text in enumerate(sample.options) if text),
    )


def longest_option(sample: Sample) -> tuple[int, ...]:
    """The options with the most characters."""
    longest = max(map(len, sample.options))
    return tuple(i for i, text in enumerate(sample.options) if len(text) == longest)


class MajorityLetter:
    """Always the letter that is most often right in the samples it was fitted on, the first of equals."""

    def __init__(self, train: Iterable[Sample]) -> None:
        counts = Counter(sample.answer_index for sample in train if sample.answer_index is not None)
        self.position = min(counts, key=lambda position: (-counts[position], position), default=0)

    def __call__(self, sample: Sample) -> tuple[int, ...]:
        """That letter, which is wrong where the sample has no such option."""
        return (self.position,)


class TextPrior:
    """The option whose text was most often right in training, given the question: a counter that never sees an image.

    For the normalised option text t and question s,

        p0(t)       = (#gold(t) + 0.25) / (#seen(t) + 1)
        score(s, t) = (#gold(s, t) + 2 p0(t)) / (#seen(s, t) + 2)

    and the highest score wins. Fitted on its own training split it answers 87 to 100 % of Med-R1's test questions.
    """

    def __init__(self, train: Iterable[Sample]) -> None:
        self.seen, self.gold = Counter[str](), Counter[str]()
        self.seen_with, self.gold_with = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for sample in train:
            question = plain_words(sample.question)
            for position, option in enumerate(sample.options):
                text, right = plain_words(option), position == sample.answer_index
                self.seen[text] += 1
                self.seen_with[question, text] += 1
                self.gold[text] += right
                self.gold_with[question, text] += right

    def __call__(self, sample: Sample) -> tuple[int, ...]:
        """The options with the highest score."""
        question = plain_words(sample.question)
        scores = [self.score(question, plain_words(option)) for option in sample.options]
        return tuple(i for i, score in enumerate(scores) if score > max(scores) - TIE)

    def score(self, question: str, option: str) -> float:
        """How often this option was right for this question, shrunk towards how often it was right at all."""
        prior = (self.gold[option] + 0.25) / (self.seen[option] + 1)
        return (self.gold_with[question, option] + 2 * prior) / (self.seen_with[question, option] + 2)


class LinearTextModel:
    """Pairwise logistic regression on hashed n-grams: the right option must score higher than every other one.

    It is the strongest of the blind rules: n-grams carry over to texts that were never seen in training, where the
    counter of `TextPrior` has to guess.

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
        return [tuple(np.flatnonzero(p > p.max() - LINEAR_TIE).tolist()) if len(p) else () for p in per_sample]

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


def learning_curve(train: Sequence[Sample], test: Sequence[Sample], seed: int = 0) -> list[CurvePoint]:
    """Accuracy of the text prior on test, fitted on n training questions drawn at random: mean and std over seeds.

    Empty where train is smaller than the first size.
    """
    chance = random.Random(seed)
    asked = list(test) if len(test) <= CURVE_TEST else chance.sample(list(test), CURVE_TEST)
    curve = []
    for size in (size for size in CURVE_SIZES if size < len(train)):
        drawn = (chance.sample(list(train), size) for _ in range(CURVE_SEEDS))
        scores = np.array([hits(map(TextPrior(part), asked), asked) for part in drawn]).mean(axis=1)
        curve.append(CurvePoint(n=size, accuracy=float(scores.mean()), std=float(scores.std(ddof=1))))
    return curve
