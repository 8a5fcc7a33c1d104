"""What a phantom shows, and how it is drawn by lot."""

from dataclasses import dataclass, field

import numpy as np

from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.lesions import LESIONS, RADII
from medr1.types import MODALITIES, Modality

NORMAL, NO_SIZE = "normal", "none"
FINDINGS = (NORMAL, *LESIONS)
SIZES = (*RADII, NO_SIZE)
COUNTS = ("one", "two", "three", "four")
SIDES: dict[str, tuple[float, float]] = {"top": (0, -0.5), "bottom": (0, 0.5), "left": (-0.5, 0), "right": (0.5, 0)}
"""Centre (x, y) of a single lesion on each side."""
QUADRANTS = ((-0.44, -0.44), (0.44, -0.44), (-0.44, 0.44), (0.44, 0.44))
"""Centres of several lesions."""
SCATTER = 0.08
"""Largest distance, along each axis, of a lesion from its place."""

MODALITY_WORDS: dict[Modality, str] = {
    modality: "Radiograph" if modality == "X-Ray" else modality
    for modality in MODALITIES
    if modality not in ("other", "unknown")
}
"""The word that the questions use for each modality: plain letters only, so that it can be one token."""

_COUNT_ODDS = (0.18, 0.42, 0.13, 0.13, 0.14)
"""Probability of 0..4 lesions where the question leaves it open."""
_SINGLE_ODDS = 0.67
"""Probability that a diseased picture of a diagnosis question has exactly one lesion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomState:
    """Everything that a question may be about."""

    modality: Modality
    anatomy: str
    finding: str
    """`normal`, or what all lesions of the picture are."""
    size: str
    """`small`, `medium`, `large` (the same for all lesions), or `none`."""
    count: int
    """Lesions, 0 to 4."""
    side: str | None
    """`top`, `bottom`, `left` or `right` when there is exactly one lesion."""
    centres: tuple[tuple[float, float], ...] = field(default=())
    """Lesion centres (x, y), -1 to 1, y down."""

    def values(self) -> dict[str, str | None]:
        """The one-word answer to each kind of question; None where the question makes no sense.

        >>> chest = PhantomState(modality="X-Ray", anatomy="ribs", finding="normal", size="none", count=0, side=None)
        >>> [word for word in chest.values().values()]
        ['Radiograph', 'ribs', 'normal', 'none', None, None]
        """
        return {
            "modality": MODALITY_WORDS[self.modality],
            "anatomy": self.anatomy,
            "finding": self.finding,
            "size": self.size,
            "location": self.side,
            "count": COUNTS[self.count - 1] if self.count else None,
        }


def draw_state(rng: np.random.Generator, kind: str) -> PhantomState:
    """A state in which the question `kind` has an answer, uniform over its pool; the rest is drawn by fixed odds."""
    anatomy = tuple(ANATOMIES)[rng.integers(len(ANATOMIES))]
    finding = LESIONS[rng.integers(len(LESIONS))]
    count = int(rng.choice(len(_COUNT_ODDS), p=_COUNT_ODDS))
    size = None
    if kind == "diagnosis":
        finding = FINDINGS[rng.integers(len(FINDINGS))]
        count = 1 if rng.random() < _SINGLE_ODDS else int(rng.integers(2, 5))
    elif kind == "grading":
        size, count = SIZES[rng.integers(len(SIZES))], 1
    elif kind == "location":
        count = 1
    elif kind == "count":
        count = int(rng.integers(1, len(COUNTS) + 1))
    if finding == NORMAL or size == NO_SIZE or count == 0:
        finding, size, count = NORMAL, NO_SIZE, 0
    elif size is None:
        # Four large lesions would touch each other.
        size = SIZES[rng.integers(3 if count == 1 else 2)]
    side = tuple(SIDES)[rng.integers(len(SIDES))] if count == 1 else None
    places = [SIDES[side]] if side else [QUADRANTS[k] for k in rng.permutation(len(QUADRANTS))[:count]]
    scatter = rng.uniform(-SCATTER, SCATTER, (len(places), 2))
    return PhantomState(
        modality=ANATOMIES[anatomy].modality,
        anatomy=anatomy,
        finding=finding,
        size=size,
        count=count,
        side=side,
        centres=tuple((float(x + dx), float(y + dy)) for (x, y), (dx, dy) in zip(places, scatter, strict=True)),
    )
