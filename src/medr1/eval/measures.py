"""What predictions amount to: right or not, shares and paired differences with their intervals."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from medr1.stats import Interval, paired_difference_interval, proportion_interval
from medr1.types import Prediction, Sample

Key = tuple[str, str]
"""Identity of a question as asked: id and variant."""


def key_of(record: Sample | Prediction) -> Key:
    """Identity of a question as asked, the same for a sample and its predictions."""
    return record.id, record.variant


def is_right(prediction: Prediction) -> bool:
    """Whether the answer is the gold letter; unreadable answers are not."""
    return prediction.answer is not None and prediction.answer == prediction.gold


def group_of(prediction: Prediction) -> str:
    """What predictions of one image share; the sample itself where no group is known."""
    return prediction.group or prediction.id


def draws_of(predictions: Iterable[Prediction]) -> list[list[Prediction]]:
    """The draws of each question, in order of draw; questions in the order they come."""
    questions: dict[Key, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        questions[key_of(prediction)].append(prediction)
    return [sorted(draws, key=lambda p: p.draw) for draws in questions.values()]


def paired_hits(first: Sequence[Prediction], second: Sequence[Prediction]) -> tuple[list[bool], list[bool], list[str]]:
    """Right or not in both runs, for what both answered (same id and draw), and the groups."""
    theirs = {(p.id, p.draw): p for p in second}
    pairs = [(p, theirs[p.id, p.draw]) for p in first if (p.id, p.draw) in theirs]
    return [is_right(a) for a, _ in pairs], [is_right(b) for _, b in pairs], [group_of(a) for a, _ in pairs]


def difference(before: Sequence[bool], after: Sequence[bool], groups: Sequence[str]) -> dict[str, Any]:
    """Change of accuracy on the same samples, with its interval."""
    interval = paired_difference_interval(before, after, groups)
    value = (sum(after) - sum(before)) / len(before)
    return {"n": len(before), "value": value, "ci95": [interval.lo, interval.hi], "ci_method": interval.method}


def accuracy(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """`{n, accuracy, ci95, ci_method, n_groups}`."""
    hits = [is_right(p) for p in predictions]
    return {"n": len(hits), **with_method("accuracy", hits, [group_of(p) for p in predictions])}


def share(hits: Sequence[bool] | Sequence[float], groups: Sequence[str], name: str) -> dict[str, Any]:
    """`{name: share of hits, ci95}`."""
    interval = proportion_interval(hits, groups)
    return {name: sum(hits) / len(hits), "ci95": [interval.lo, interval.hi]}


def with_method(
    name: str, hits: Sequence[bool] | Sequence[float], groups: Sequence[str], draws: int = 1
) -> dict[str, Any]:
    """`{name: share of hits, ci95, ci_method, n_groups}`; hits may be parts, each the outcome of `draws` answers."""
    interval: Interval = proportion_interval(hits, groups, draws=draws)
    return {
        name: sum(hits) / len(hits),
        "ci95": [interval.lo, interval.hi],
        "ci_method": interval.method,
        "n_groups": interval.n_groups,
    }


def parse_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """How many completions were read how, by status."""
    return dict(sorted(Counter(p.parse_status for p in predictions).items()))
