"""What predictions amount to: right or not, shares and paired differences with their intervals."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from medr1.stats import paired_difference, proportion
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


def paired_hits(first: Sequence[Prediction], second: Sequence[Prediction]) -> tuple[list[bool], list[bool], list[str]]:
    """Right or not in both runs, for what both answered (same id and draw), and the groups."""
    theirs = {(p.id, p.draw): p for p in second}
    pairs = [(p, theirs[p.id, p.draw]) for p in first if (p.id, p.draw) in theirs]
    return [is_right(a) for a, _ in pairs], [is_right(b) for _, b in pairs], [group_of(a) for a, _ in pairs]


def difference(before: Sequence[bool], after: Sequence[bool], groups: Sequence[str]) -> dict[str, Any]:
    """Change of accuracy on the same samples, with its interval."""
    change = paired_difference(before, after, groups)
    return {"n": change.n, **written(change, "value"), "ci_method": change.method}


def accuracy(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """`{n, accuracy, ci95, ci_method, n_groups}`."""
    found = proportion([is_right(p) for p in predictions], [group_of(p) for p in predictions])
    return {"n": found.n, **written(found, "accuracy", method=True)}


def share(hits: Sequence[bool] | Sequence[float], groups: Sequence[str], name: str) -> dict[str, Any]:
    """`{name: share of hits, ci95}`."""
    return written(proportion(hits, groups), name)


def with_method(
    name: str, hits: Sequence[bool] | Sequence[float], groups: Sequence[str], draws: int = 1
) -> dict[str, Any]:
    """`{name: share of hits, ci95, ci_method, n_groups}`; hits may be parts, each the outcome of `draws` answers."""
    return written(proportion(hits, groups, draws=draws), name, method=True)


def written(estimate: Estimate, name: str, *, method: bool = False) -> dict[str, Any]:
    """An estimate as the JSON of results has it: its value under a name, the interval and, if asked for, its method."""
    record: dict[str, Any] = {name: estimate.value, "ci95": [estimate.low, estimate.high]}
    return record | {"ci_method": estimate.method, "n_groups": estimate.groups} if method else record


def parse_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """How many completions were read how, by status."""
    return dict(sorted(Counter(p.parse_status for p in predictions).items()))
