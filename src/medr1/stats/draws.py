"""Several completions of one question: pass@k and the majority vote."""

from collections import Counter
from collections.abc import Sequence
from math import comb


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of k draws is right, when `right` of n were (unbiased; Chen et al. 2021, equation 1).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    assert 0 <= right <= n and 1 <= k <= n, "k draws out of n, of which some are right"
    return 1 - comb(n - right, k) / comb(n, k)


def majority_options(answers: Sequence[str | None]) -> tuple[str, ...]:
    """The commonest answers, several where they tie; None (unreadable) has no vote.

    >>> majority_options(["A", "B", None, "A", "B"])
    ('A', 'B')
    """
    votes = Counter(answer for answer in answers if answer is not None)
    most = max(votes.values(), default=0)
    return tuple(sorted(answer for answer, count in votes.items() if count == most))


def majority_hit(answers: Sequence[str | None], gold: str | None) -> float:
    """Expected accuracy of the majority vote (Wang et al. 2023), ties drawn at random; 0 where nothing was readable."""
    winners = majority_options(answers)
    return (gold in winners) / len(winners) if winners else 0.0
