"""The colour guesser: right numbers, works where colours do tell, and nearly helpless on the phantoms."""

import numpy as np
import pytest
from scipy import stats

from medr1.data.colour import COLOUR_STATISTICS, colour_baseline, colour_statistics
from medr1.data.phantom import generate
from medr1.types import Sample


def sample(options: tuple[str, ...], answer_index: int, kind: str = "modality") -> Sample:
    return Sample(id="x", images=(), question="?", options=options, answer_index=answer_index, extra={"kind": kind})


def test_statistics_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = (0, 0, 0, 255)
    red, green, blue = colour_statistics(image).reshape(3, 6)
    mean, std = 0.25, np.sqrt(3) / 4
    # Third central moment: (3 · (−1/4)³ + (3/4)³) / 4 = 3/32; the percentiles are interpolated linearly.
    assert red == pytest.approx([mean, std, 0, 0, 0.7, 3 / 32 / std**3], abs=1e-12)
    assert green == pytest.approx(np.zeros(6), abs=1e-12)
    assert blue == pytest.approx(np.zeros(6), abs=1e-12)
    assert len(COLOUR_STATISTICS) == 18


def test_statistics_agree_with_numpy_and_scipy_and_ignore_places():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    shuffled = rng.permutation(image.reshape(-1, 3)).reshape(20, 30, 3)
    assert colour_statistics(shuffled) == pytest.approx(colour_statistics(image), abs=1e-12)
    found = dict(zip(COLOUR_STATISTICS, colour_statistics(image), strict=True))
    blue = image[..., 2].ravel() / 255
    assert found["blue p90"] == pytest.approx(np.percentile(blue, 90))
    assert found["blue std"] == pytest.approx(blue.std())
    assert found["blue skewness"] == pytest.approx(stats.skew(blue))


def test_baseline_reads_colours_where_they_tell():
    rng = np.random.default_rng(0)
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
    names = tuple(colours)

    def make(count):
        golds = rng.integers(3, size=count)
        images = [rng.normal(colours[names[k]], 20, (8, 8, 3)).clip(0, 255).astype(np.uint8) for k in golds]
        orders = [rng.permutation(3) for _ in golds]
        asked = [
            sample(tuple(names[j] for j in order), order.tolist().index(k))
            for k, order in zip(golds, orders, strict=True)
        ]
        return images, asked

    train, test = make(90), make(60)
    assert colour_baseline(*train, *test).all()


def test_baseline_keeps_kinds_apart_and_survives_the_unseen():
    rng = np.random.default_rng(0)
    images = [np.full((4, 4, 3), level, np.uint8) for level in (10, 20, 200, 210)]
    train = [sample(("dark", "light"), 0), sample(("dark", "light"), 0)] + [sample(("dark", "light"), 1)] * 2
    test = [
        sample(("light", "dark"), 1),
        sample(("big", "small"), 0, kind="size"),
        sample(("other", "dark"), 1),
    ]
    shown = [images[0], images[1], rng.integers(0, 30, (4, 4, 3), dtype=np.uint8)]
    # No question about size to learn from: the first option is taken.
    assert colour_baseline(images, train, shown, test).tolist() == [True, True, True]


def test_each_kind_has_its_own_model():
    """Two kinds with the same words and opposite meanings: one model for both would be at a loss."""
    levels = (10, 20, 200, 210)
    images = [np.full((4, 4, 3), level, np.uint8) for level in levels] * 2
    asked = [
        sample(("yes", "no"), int((level > 100) == (kind == "light")), kind)
        for kind in ("light", "dark")
        for level in levels
    ]
    assert colour_baseline(images, asked, images, asked).all()


def test_colours_hardly_help_on_phantoms():
    train, test = list(generate("train", 700)), list(generate("validation", 450))
    right = colour_baseline(
        [p.image for p in train], [p.sample for p in train], [p.image for p in test], [p.sample for p in test]
    )
    chance = np.mean([1 / len(p.sample.options) for p in test])
    assert right.mean() < chance + 0.10
    looks = np.array([p.sample.extra["kind"] in ("modality", "anatomy") for p in test])
    assert right[looks].mean() < 0.48
