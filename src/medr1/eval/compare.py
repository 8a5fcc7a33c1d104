"""Two runs on the same samples: what changed, whether it is more than chance, and where the gain came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from medr1.answers.tags import TAG
from medr1.answers.wording import mentioned, plain_words
from medr1.errors import DataError
from medr1.eval.measures import group_of, is_right
from medr1.eval.pairs import difference, groups_of, hits, originals, paired, turns
from medr1.results.compared import Comparison, Difference, Gain, GainParts, StageParts, StageShares, Steps
from medr1.stats import (
    bootstrap_mean,
    detectable_difference,
    effective_size,
    group_indices,
    mcnemar,
    proportion,
    resampled_totals,
    sign_flip,
)
from medr1.types import LETTERS, Estimate, ParseStatus, Prediction

STAGES = ("format", "finding", "letter")
"""What a right answer takes: it can be read, the thinking names the right option, the letter fits the thinking."""


def compare(base: Sequence[Prediction], other: Sequence[Prediction]) -> Comparison:
    """Both accuracies on what both runs answered, their difference, its test, and the turns behind it.

    The interval and the test (`p`) take questions about one image together; `mcnemar_p` takes all as independent.
    `agreement` is the share of questions to which both gave the same readable answer, `detectable_difference` what a
    comparison with so many questions and turns finds with 80 % power. Raises `DataError` where the runs have no sample
    in common.
    """
    base, other = originals(base), originals(other)
    changes = paired(base, other)
    if not changes:
        raise DataError("the two runs have no sample in common; compare runs on the same data")
    (before, after), groups = hits(changes), groups_of(changes)
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    size, n_groups = effective_size(change, groups)
    bootstrap = bootstrap_mean(change.tolist(), groups)
    same = [c.before.answer is not None and c.before.answer == c.after.answer for c in changes]
    return Comparison(
        n=len(changes),
        n_groups=n_groups,
        base=proportion(before, groups),
        other=proportion(after, groups),
        difference=Difference(change=difference(changes), bootstrap_ci95=(bootstrap.low, bootstrap.high)),
        p=sign_flip(before, after, groups),
        test="exact McNemar" if n_groups == len(groups) else "exact sign flips of groups",
        mcnemar_p=mcnemar(before, after),
        flips=turns(changes),
        agreement=sum(same) / len(same),
        detectable_difference=detectable_difference(size, float((change != 0).mean())),
        only_in_base=len(base) - len(changes),
        only_in_other=len(other) - len(changes),
    )


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


def decompose(base: Sequence[Prediction], other: Sequence[Prediction]) -> Steps:
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
    return Steps(
        gain=after.accuracy - before.accuracy,
        parts=StageParts(**parts),
        base=stage_shares(base),
        other=stage_shares(other),
    )


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


def stage_shares(predictions: Sequence[Prediction]) -> StageShares:
    """Of one run: format right (of all), finding named right (of the readable), letter right (of the named).

    Each is None where nothing got so far.
    """
    readable = [p for p in predictions if p.parse_status == ParseStatus.OK]
    named = [p for p in readable if names_gold(p)]
    return StageShares(
        format=_stage([p.parse_status == ParseStatus.OK for p in predictions], predictions),
        finding=_stage([names_gold(p) for p in readable], readable),
        letter=_stage([is_right(p) for p in named], named),
    )


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


def _stage(passed: Sequence[bool], predictions: Sequence[Prediction]) -> Estimate | None:
    return proportion(passed, [group_of(p) for p in predictions]) if passed else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def split_gain(
    base: Sequence[Prediction], other: Sequence[Prediction], twin: Sequence[Prediction] | None = None
) -> Gain | None:
    """Where the gain of `other` over `base` came from: format, lookup, or seeing, with bootstrap intervals over groups.

        accuracy = readable (blind + seeing)

    `readable` is the share of answers that could be read, `blind` the accuracy of the readable answers to blank images
    (what can be looked up without one), and `seeing` what the readable answers to the real images have beyond that.
    The parts are Shapley values, which add up to the gain exactly. With a trained blind twin, what `other` could have
    learned to look up is what the twin answers to blank images. None where a run has no answers to blank images.
    """
    blind = other if twin is None else twin
    pools = (originals(base), _blanks(base), originals(other), _blanks(blind))
    if not all(pools):
        return None
    members, n_groups = group_indices([group_of(p) for pool in pools for p in pool], sum(map(len, pools)))
    totals_GC = np.zeros((n_groups, 3 * len(pools)))
    start = 0
    for column, pool in enumerate(pools):
        rows = members[start : start + len(pool)]
        start += len(pool)
        facts = np.array([(1, p.answer is not None, is_right(p)) for p in pool], dtype=float)
        np.add.at(totals_GC[:, 3 * column : 3 * column + 3], rows, facts)
    values = _gain_parts(totals_GC.sum(axis=0)[None])[0]
    limits = np.quantile(_gain_parts(resampled_totals(totals_GC)), [0.025, 0.975], axis=0)
    n = sum(map(len, pools))
    found = [
        Estimate(value=value, low=low, high=high, n=n, groups=n_groups, method="bootstrap-clustered")
        for value, low, high in zip(values.tolist(), *limits.tolist(), strict=True)
    ]
    return Gain(
        gain=float(values.sum()),
        blind="answers to blank images" if twin is None else "answers of the blind twin to blank images",
        parts=GainParts(format=found[0], lookup=found[1], seeing=found[2]),
    )


def _gain_parts(sums_BC: np.ndarray) -> np.ndarray:
    """Format, lookup and seeing (B, 3) from the sums of answers, readable ones and right ones of the four pools."""
    n, readable, right = (sums_BC[:, offset::3] for offset in range(3))
    read = readable / np.maximum(n, 1)
    skill = right / np.maximum(readable, 1)
    mean_read = (read[:, 0] + read[:, 2]) / 2
    lookup = (skill[:, 3] - skill[:, 1]) * mean_read
    return np.stack(
        [
            (read[:, 2] - read[:, 0]) * (skill[:, 0] + skill[:, 2]) / 2,
            lookup,
            (skill[:, 2] - skill[:, 0]) * mean_read - lookup,
        ],
        axis=1,
    )


def _blanks(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Answers to the control that says what can be answered without an image."""
    return [p for p in predictions if p.variant == "blank"]
