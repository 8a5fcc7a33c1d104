"""Two runs on the same samples: what changed, whether it is more than chance, and where the gain came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from medr1.answers.tags import TAG
from medr1.answers.wording import mentioned, plain_words
from medr1.errors import DataError
from medr1.eval.measures import difference, group_of, is_right, paired_hits, share
from medr1.stats import bootstrap_mean, detectable_difference, effective_size, mcnemar, sign_flip
from medr1.types import LETTERS, ParseStatus, Prediction

STAGES = ("format", "finding", "letter")
"""What a right answer takes: it can be read, the thinking names the right option, the letter fits the thinking."""


def compare(base: Sequence[Prediction], other: Sequence[Prediction]) -> dict[str, Any]:
    """Both accuracies on what both runs answered, their difference, its test, and the flips behind it.

    The interval and the test (`p`) take questions about one image together; `mcnemar_p` takes all as independent.
    `agreement` is the share of questions to which both gave the same readable answer, `detectable_difference` what a
    comparison with so many questions and flips finds with 80 % power. Raises `DataError` where the runs have no sample
    in common.
    """
    base, other = originals(base), originals(other)
    before, after, groups = paired_hits(base, other)
    if not groups:
        raise DataError("the two runs have no sample in common; compare runs on the same data")
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    size, n_groups = effective_size(change, groups)
    bootstrap = bootstrap_mean(change.tolist(), groups)
    theirs = {(p.id, p.draw): p.answer for p in other}
    same = [p.answer is not None and p.answer == theirs[p.id, p.draw] for p in base if (p.id, p.draw) in theirs]
    return {
        "n": len(groups),
        "n_groups": n_groups,
        "base": share(before, groups, "accuracy"),
        "other": share(after, groups, "accuracy"),
        "difference": difference(before, after, groups) | {"bootstrap_ci95": [bootstrap.low, bootstrap.high]},
        "p": sign_flip(before, after, groups),
        "test": "exact McNemar" if n_groups == len(groups) else "exact sign flips of groups",
        "mcnemar_p": mcnemar(before, after),
        "flips": {"wrong_to_right": int((change > 0).sum()), "right_to_wrong": int((change < 0).sum())},
        "agreement": sum(same) / len(same),
        "detectable_difference": detectable_difference(size, float((change != 0).mean())),
        "only_in_base": len(base) - len(groups),
        "only_in_other": len(other) - len(groups),
    }


def originals(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Those on the images as they are: a control of one run must not be compared with an original of the other."""
    return [prediction for prediction in predictions if prediction.variant == ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The steps to a right answer as shares: accuracy = readable (named c + (1 - named) d)."""

    readable: float
    """Share of completions whose answer could be read."""
    named: float
    """Share of the readable ones whose thinking names the right option and no other."""
    right_if_named: float
    right_if_not: float

    @property
    def accuracy(self) -> float:
        """What the steps multiply to."""
        return self.readable * (self.named * self.right_if_named + (1 - self.named) * self.right_if_not)


def decompose(base: Sequence[Prediction], other: Sequence[Prediction]) -> dict[str, Any]:
    """The gain in accuracy, split among format, finding and letter.

    Each stage gets its Shapley value: the change of accuracy when its shares go from those of `base` to those of
    `other`, averaged over the orders in which the stages can change. The three parts add up to the gain exactly.
    """
    base, other = originals(base), originals(other)
    before, after = chain(base), chain(other)
    fields = {"format": ("readable",), "finding": ("named",), "letter": ("right_if_named", "right_if_not")}
    parts = dict.fromkeys(STAGES, 0.0)
    orders = list(permutations(STAGES))
    for order in orders:
        changed: set[str] = set()
        for stage in order:
            start = _mix(before, after, changed).accuracy
            changed |= set(fields[stage])
            parts[stage] += (_mix(before, after, changed).accuracy - start) / len(orders)
    return {
        "gain": after.accuracy - before.accuracy,
        "parts": parts,
        "base": stage_shares(base),
        "other": stage_shares(other),
    }


def chain(predictions: Sequence[Prediction]) -> Chain:
    """The steps to a right answer as shares of one run; a share of nothing is 0."""
    readable = [p for p in predictions if p.parse_status == ParseStatus.OK]
    named = [p for p in readable if names_gold(p)]
    unnamed = [p for p in readable if not names_gold(p)]
    return Chain(
        readable=_ratio(len(readable), len(predictions)),
        named=_ratio(len(named), len(readable)),
        right_if_named=_ratio(sum(map(is_right, named)), len(named)),
        right_if_not=_ratio(sum(map(is_right, unnamed)), len(unnamed)),
    )


def stage_shares(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Of one run: format right (of all), finding named right (of the readable), letter right (of the named).

    Each is `{n, share, ci95}`, or None where nothing got so far.
    """
    readable = [p for p in predictions if p.parse_status == ParseStatus.OK]
    named = [p for p in readable if names_gold(p)]
    return {
        "format": _stage([p.parse_status == ParseStatus.OK for p in predictions], predictions),
        "finding": _stage([names_gold(p) for p in readable], readable),
        "letter": _stage([is_right(p) for p in named], named),
    }


def names_gold(prediction: Prediction) -> bool:
    """Whether the thinking names the text of the right option and of no other, but to deny it."""
    if prediction.gold is None:
        return False
    texts = [plain_words(option) for option in prediction.options]
    return mentioned(thinking_of(prediction.completion), texts) == {LETTERS.index(prediction.gold)}


def thinking_of(completion: str) -> str:
    """What stands before the first answer tag, without think tags."""
    start = next((tag.start() for tag in TAG.finditer(completion) if tag["name"].lower() == "answer"), len(completion))
    return TAG.sub(" ", completion[:start]).strip()


def _mix(before: Chain, after: Chain, changed: set[str]) -> Chain:
    names = ("readable", "named", "right_if_named", "right_if_not")
    return Chain(**{name: getattr(after if name in changed else before, name) for name in names})


def _stage(hits: Sequence[bool], predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    return {"n": len(hits), **share(hits, [group_of(p) for p in predictions], "share")} if hits else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
