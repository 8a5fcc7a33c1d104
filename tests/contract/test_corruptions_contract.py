"""What every corruption promises: same size, 8 bit, a visible change that grows with severity, and one result a key."""

import warnings

import numpy as np
import pytest
from PIL import Image

from medr1.data.image_distance import ssim
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.types import MODALITIES
from medr1.variants.corruptions import COLOUR, CORRUPTIONS, GREY, SEVERITIES, corrupt, proper_for

COLOURING = {"colour_cast", "stain_shift", "stain_deposit"}
"""Corruptions that give a grey picture colour."""
DETERMINISTIC = {
    *("gaussian_blur", "jpeg", "low_resolution", "contrast", "beam_hardening", "thick_slice", "scatter", "gibbs"),
    *("depth_attenuation", "defocus", "vignette", "haze", "pixelate"),
}
PER_MODALITY = 3


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    index = 0
    while len(found) < 8 or any(len(images) < PER_MODALITY for images in found.values()):
        sample = phantom("train", index).sample
        index += 1
        images = found.setdefault(sample.modality, [])
        if len(images) < PER_MODALITY:
            images.append(np.asarray(open_image(sample.images[0])))
    return found


def test_the_specified_corruptions_are_proper_where_they_can_happen() -> None:
    general = {name for name, corruption in CORRUPTIONS.items() if corruption.modalities == MODALITIES}
    assert {"gaussian_noise", "gaussian_blur", "motion_blur", "jpeg", "brightness", "contrast"} <= general
    assert set(proper_for("unknown")) == general
    for modality in GREY:
        assert not {"colour_cast", "stain_shift", "hair"} & set(proper_for(modality))
    for modality in (*COLOUR, "X-Ray", "CT"):
        assert not {"kspace_motion", "ghosting", "gibbs", "bias_field", "rician_noise"} & set(proper_for(modality))
    assert "speckle" not in {*proper_for("MRI"), *proper_for("Microscopy"), *proper_for("X-Ray")}
    assert all(len(proper_for(modality)) >= len(general) + 3 for modality in (*GREY, *COLOUR))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_lowers_the_structural_similarity(name: str, phantoms: dict[str, list[np.ndarray]]) -> None:
    similarities = []
    for modality in CORRUPTIONS[name].modalities:
        for number, image in enumerate(phantoms.get(modality, [])):
            variants = [corrupt(image, name, severity, f"{modality}{number}") for severity in SEVERITIES]
            assert all(variant.dtype == np.uint8 and variant.shape == image.shape for variant in variants)
            assert all((variant != image).any() for variant in variants)
            similarities.append([ssim(image, variant) for variant in variants])
    mean = np.mean(similarities, axis=0)
    assert (np.diff(mean, prepend=1.0) < 0).all(), mean
    assert mean[0] > 0.55, "severity 1 is mild"
    assert mean[4] > 0.1, "severity 5 still shows something"


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_key_alone_decides(name: str, phantoms: dict[str, list[np.ndarray]]) -> None:
    image = phantoms["Dermoscopy"][0]
    before = image.copy()
    first = corrupt(image, name, 3, "0:a")
    np.random.seed(1)  # the global state must not matter
    assert np.array_equal(first, corrupt(image, name, 3, "0:a"))
    assert np.array_equal(image, before)
    others = [corrupt(image, name, 3, f"0:{key}") for key in "bcdefgh"]
    assert all(np.array_equal(first, other) for other in others) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_odd_sizes_flat_pictures_and_grey(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for level in (0, 255):
            for size in ((61, 37), (16, 90)):
                flat = np.full((*size, 3), level, np.uint8)
                assert corrupt(flat, name, 5, "k").shape == flat.shape
    ramp = np.asarray(Image.linear_gradient("L").resize((48, 40)))
    grey = np.repeat(ramp[:, :, None], 3, axis=2)
    result = corrupt(grey, name, 4, "k")
    assert (result == result[:, :, :1]).all() == (name not in COLOURING)
