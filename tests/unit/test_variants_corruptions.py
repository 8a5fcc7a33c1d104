"""Hand-made cases of single corruptions, and the folder that `medr1 corrupt` writes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.data.settings import CorruptSettings
from medr1.errors import ConfigError, DataError
from medr1.records import read_jsonl, read_samples, write_samples
from medr1.types import Sample
from medr1.variants.corruptions import CORRUPTIONS, corrupt
from medr1.variants.corruptions.scanners import gibbs, kspace_motion, limited_angle, sparse_view, undersampling
from medr1.variants.corruptions.write import write_corrupted
from run_faults import refusal


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def square(side: int = 96) -> np.ndarray:
    picture = np.zeros((side, side, 1))
    picture[side // 3 : -side // 3, side // 3 : -side // 3] = 0.8
    return picture


def test_contrast_and_brightness_by_hand() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 200
    halves = corrupt(image, "contrast", 2, "k")  # mean 100, differences times 0.6
    assert {tuple(value) for value in halves.reshape(-1, 3)} == {(40, 40, 40), (160, 160, 160)}
    moved = corrupt(image, "brightness", 1, "k").astype(int) - image
    assert set(np.unique(moved)) <= {-20, 0, 20}  # 0.08 * 255, clipped at black


def test_noise_has_the_strength_of_the_table() -> None:
    image = np.full((256, 256, 3), 128, np.uint8)
    for severity, strength in enumerate(CORRUPTIONS["gaussian_noise"].strengths, start=1):
        noise = corrupt(image, "gaussian_noise", severity, "k") / 255 - image / 255
        assert noise.std() == pytest.approx(strength, rel=0.02)
    white = np.full((256, 256, 3), 200, np.uint8)
    dense, thin = ((corrupt(flat, "quantum_noise", 2, "k")[:, :, 0] / 255).std() for flat in (white, white // 4))
    assert dense / thin == pytest.approx(np.exp((200 - 50) / 255), rel=0.05)  # exp(p / 2), p 2 at white


def test_rician_noise_lifts_the_dark() -> None:
    black = np.zeros((256, 256, 3), np.uint8)
    level = corrupt(black, "rician_noise", 5, "k").mean() / 255
    assert level == pytest.approx(0.15 * np.sqrt(np.pi / 2), rel=0.02)  # mean of a Rayleigh distribution


def test_enough_views_and_all_lines_change_nothing() -> None:
    picture = square()
    assert np.allclose(sparse_view(picture, 2000, rng()), picture, atol=1e-9)
    assert np.allclose(limited_angle(picture, 0, rng()), picture, atol=1e-9)
    assert np.allclose(gibbs(picture, 1.0, rng()), picture, atol=1e-9)
    assert np.allclose(undersampling(picture, 0.0, rng()), picture, atol=1e-9)
    assert np.allclose(kspace_motion(picture, 0.0, rng()), picture, atol=1e-9)


def test_sparse_views_leave_the_object_and_add_streaks_outside() -> None:
    picture = square()
    streaky = sparse_view(picture, 60, rng())
    inside = picture > 0
    assert streaky[inside].mean() == pytest.approx(0.8, abs=0.05)
    assert streaky[~inside].std() > 0.01


def test_sparse_views_keep_the_height_of_a_point() -> None:
    """What lies between the views is made up for by their weight, so the frequencies of a point still add up to it."""
    point = np.zeros((96, 96, 1))
    point[40, 50] = 1
    assert sparse_view(point, 60, rng())[40, 50, 0] == pytest.approx(1, abs=0.1)


def test_a_severity_grows_the_same_noise() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    mild, severe = (corrupt(image, "gaussian_noise", severity, "k")[:, :, 0] / 255 for severity in (3, 5))
    assert np.corrcoef(mild.ravel(), severe.ravel())[0, 1] > 0.99


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = [phantom("test", index, side=56).sample for index in range(6)]
    samples[0] = replace(samples[0], images=(*samples[0].images, *samples[1].images))
    write_samples(tmp_path / "data", [*samples, replace(samples[5], id="text", images=())])
    return tmp_path / "data"


def job(data: Path, name: str = "out", **changes: object) -> CorruptSettings:
    fields = {"corruptions": ("jpeg", "speckle", "hair"), "severities": (1, 5), **changes}
    return CorruptSettings(data=data, out=data.parent / name, **fields)  # type: ignore[arg-type]


def variants_of(samples: list[Sample]) -> set[tuple[str, str]]:
    return {(sample.id, sample.variant) for sample in samples}


def test_the_folder_is_data_of_proper_variants(data: Path) -> None:
    clean = {sample.id: sample for sample in read_samples(data) if sample.images}
    summary = write_corrupted(job(data))
    samples = list(read_samples(data.parent / "out"))
    wanted = {
        (one.id, f"{name}/{severity}")
        for one in clean.values()
        for name in ("jpeg", "speckle", "hair")
        if one.modality in CORRUPTIONS[name].modalities
        for severity in (1, 5)
    }
    assert variants_of(samples) == wanted
    for sample in samples:
        original = clean[sample.id]
        assert replace(sample, images=original.images, variant="") == original
        name, severity = sample.variant.split("/")
        for position, (ref, source) in enumerate(zip(sample.images, original.images, strict=True)):
            pixels = corrupt(np.asarray(open_image(source)), name, int(severity), f"0:{sample.id}:{position}")
            assert np.array_equal(np.asarray(open_image(ref)), pixels)
    lines = read_jsonl(data.parent / "out" / "images.jsonl")
    assert len(lines) == sum(len(sample.images) for sample in samples)
    assert summary.variants["jpeg/5"].n == 7
    assert summary.variants["jpeg/1"].ssim > summary.variants["jpeg/5"].ssim
    assert Image.open(data.parent / "out" / "sheet.png").width > 300


def repainted(sample: Sample) -> Sample:
    """The same question, by its id, about another picture."""
    return replace(sample, images=phantom("test", 40, side=56).sample.images)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (repainted, "other pictures"),
        (lambda one: replace(one, question="Another question?"), "other questions"),
        (lambda one: replace(one, options=(*one.options[1:], "none of these")), "other questions"),
        (lambda one: replace(one, answer_index=(one.answer_index or 0) ^ 1), "other gold answers"),
        (lambda one: replace(one, modality="Fundus" if one.modality != "Fundus" else "CT"), "other labels"),
        (lambda one: replace(one, extra={"kind": "other"}), "other labels"),
    ],
)
def test_other_data_under_the_same_ids_are_refused(data: Path, change: Callable[[Sample], Sample], named: str) -> None:
    write_corrupted(job(data, corruptions=("jpeg",)))
    first, *others = read_samples(data)
    write_samples(data.parent / "changed", [change(first), *others])
    again = job(data, corruptions=("jpeg",)).model_copy(update={"data": data.parent / "changed"})
    assert f"({named})" in refusal(lambda: write_corrupted(again), data.parent / "out")
    write_corrupted(again.model_copy(update={"overwrite": True}))
    assert {one.id for one in read_samples(data.parent / "out")} == {one.id for one in (first, *others) if one.images}


def test_another_seed_and_other_samples_are_refused(data: Path) -> None:
    write_corrupted(job(data, corruptions=("jpeg",)))
    out = data.parent / "out"
    assert "(seed was 0, now 1)" in refusal(lambda: write_corrupted(job(data, corruptions=("jpeg",), seed=1)), out)
    fewer = job(data, corruptions=("jpeg",), limit=3)
    assert "other gold answers; other labels; other pictures" in refusal(lambda: write_corrupted(fewer), out)


def test_a_folder_of_version_0_1_is_refused_until_it_is_overwritten(data: Path) -> None:
    out = data.parent / "out"
    (out / "images").mkdir(parents=True)
    (out / "manifest.json").write_text(json.dumps({"medr1": "0.1.0", "arguments": {}, "data_hash": "x", "seed": 0}))
    wanted = job(data, corruptions=("jpeg",))
    with pytest.raises(ConfigError, match=r"written by version 0\.1\.0, which did not note what went in"):
        write_corrupted(wanted)
    assert write_corrupted(wanted.model_copy(update={"overwrite": True})).n == 6


def test_what_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="no corruption 'rust'"):
        write_corrupted(job(data, corruptions=("rust",)))
    with pytest.raises(ConfigError, match="severities is 0: input should be greater"):
        write_corrupted(job(data, severities=(0,)))
    write_corrupted(job(data, corruptions=("jpeg",), severities=(1,)))
    with pytest.raises(DataError, match="variant"):
        write_corrupted(CorruptSettings(data=data.parent / "out", out=data.parent / "twice"))
