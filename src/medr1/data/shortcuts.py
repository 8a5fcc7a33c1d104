"""Rules that answer without looking at the image: what an accuracy has to beat before it says anything about seeing.

A rule maps a sample to the positions of the options that it would choose. Several positions are a tie, and a tie counts
1 / (number of tied options), which is the expected accuracy of drawing among them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from medr1.answers.wording import plain_words
from medr1.types import Sample

Rule = Callable[[Sample], tuple[int, ...]]
"""Positions of the options that a blind rule would choose."""

TIE = 1e-12
"""Scores closer than this are a tie."""


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
