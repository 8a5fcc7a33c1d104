"""What predictions amount to: right or not, by question, and how they could be read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from medr1.stats import proportion
from medr1.types import Estimate, Failure, Prediction, Sample
from medr1.variants.variant import group_of as group_of

Key = tuple[str, str]
"""Identity of a question as asked: id and variant."""


def key_of(record: Sample | Prediction | Failure) -> Key:
    """Identity of a question as asked, the same for a sample and its predictions and failures."""
    return record.id, record.variant


def is_right(prediction: Prediction) -> bool:
    """Whether the answer is the gold letter; unreadable answers are not."""
    return prediction.answer is not None and prediction.answer == prediction.gold


def draws_of(predictions: Iterable[Prediction]) -> list[list[Prediction]]:
    """The draws of each question, in order of draw; questions in the order they come."""
    questions: dict[Key, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        questions[key_of(prediction)].append(prediction)
    return [sorted(draws, key=lambda p: p.draw) for draws in questions.values()]


def accuracy_of(predictions: Sequence[Prediction]) -> Estimate:
    """Share of right answers; questions about one image are taken together."""
    return proportion([is_right(p) for p in predictions], [group_of(p) for p in predictions])


def parse_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """How many completions were read how, by status."""
    return dict(sorted(Counter(p.parse_status for p in predictions).items()))
