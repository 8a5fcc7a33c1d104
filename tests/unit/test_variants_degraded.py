"""Augmented training images: drawn anew per epoch, the same for a seed, half of them clean."""

import numpy as np
import pytest
from PIL import Image

from medr1.data.images import png_bytes
from medr1.data.phantom import phantom
from medr1.prompts import PROMPTS
from medr1.train.dataset import Augmentation, TrainingRows
from medr1.types import ImageRef, Sample
from medr1.variants import VARIANTS


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("train", index).sample for index in range(24)]


def shown(samples: list[Sample], epoch: int, seed: int = 3, **changes: object) -> list[bytes]:
    rows = TrainingRows(samples, PROMPTS["bare"], seed=seed, **changes)  # type: ignore[arg-type]
    rows.epoch = epoch
    return [rows.row(index)["images"][0].tobytes() for index in range(len(samples))]


@pytest.mark.parametrize("kind", ["noise", "corruption"])
def test_images_differ_between_epochs_and_repeat_under_the_seed(samples: list[Sample], kind: Augmentation) -> None:
    clean = shown(samples, 0)
    epochs = [shown(samples, epoch, augment=kind) for epoch in (0, 1)]
    assert epochs[0] == shown(samples, 0, augment=kind)
    assert epochs[0] != epochs[1]
    assert epochs[0] != shown(samples, 0, seed=4, augment=kind)
    unchanged = [sum(a == b for a, b in zip(clean, images, strict=True)) for images in epochs]
    assert all(4 <= count <= 20 for count in unchanged)  # half of 24


def test_the_blind_twin_stays_blank(samples: list[Sample]) -> None:
    assert shown(samples, 0, images="blank", augment="corruption") == shown(samples, 0, images="blank")


def test_noise_has_a_bounded_strength_and_keeps_the_size() -> None:
    grey = Image.new("RGB", (64, 48), (128, 128, 128))
    shown = [Sample(id=str(n), images=(ImageRef(data=png_bytes(grey)),), question="?") for n in range(60)]
    images = [image for sample in shown for image in VARIANTS["degraded:noise"].pictures(sample, 0)]
    deviations = np.array([np.asarray(image).std() / 255 for image in images])
    assert {image.size for image in images} == {(64, 48)}
    assert deviations.max() < 0.11
    assert (deviations > 0.05).any()
    assert 15 < (deviations == 0).sum() < 45
