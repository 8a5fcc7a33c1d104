"""Where a gain in accuracy came from: format, lookup, or seeing.

    accuracy = readable (blind + seeing)

`readable` is the share of answers that could be read, `blind` the accuracy of the readable answers to blank images
(what can be looked up without one), and `seeing` what the readable answers to the real images have beyond that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medr1.eval.compare import originals
from medr1.eval.measures import group_of, is_right
from medr1.stats import group_indices, resampled_totals
from medr1.types import Prediction

BLANK = "blank"
"""The control that says what can be answered without an image."""
PARTS = ("format", "lookup", "seeing")


def split_gain(
    base: Sequence[Prediction], other: Sequence[Prediction], twin: Sequence[Prediction] | None = None
) -> dict[str, Any] | None:
    """The gain of `other` over `base` in its three parts, each with a bootstrap interval over groups.

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
    values = _parts(totals_GC.sum(axis=0)[None])[0]
    limits = np.quantile(_parts(resampled_totals(totals_GC)), [0.025, 0.975], axis=0)
    return {
        "gain": float(values.sum()),
        "blind": "answers to blank images" if twin is None else "answers of the blind twin to blank images",
        "parts": {
            name: {"value": float(value), "ci95": [float(lo), float(hi)]}
            for name, value, lo, hi in zip(PARTS, values, *limits, strict=True)
        },
    }


def _parts(sums_BC: np.ndarray) -> np.ndarray:
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
    return [p for p in predictions if p.variant == BLANK]
