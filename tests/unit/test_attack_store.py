"""Files of an attack: what is written is what is read, and it is plain RGB."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.attack.store import dataset_samples, distances, load_png, png_names, realised, save_png
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.records import read_samples, write_shards
from medr1.results.attacked import AttackedImage


def test_names_that_are_no_file_names_are_hashed() -> None:
    assert png_names("ab12") == ["images/ab12.png"]
    assert png_names("ab12", 2) == ["images/ab12-1.png", "images/ab12-2.png"]
    for name in ("../up", "a/b", "", ".hidden", "x" * 200):
        assert png_names(name)[0].removeprefix("images/").removesuffix(".png").isalnum()
        assert len(png_names(name)[0]) < 40


def test_pixels_survive_the_file(tmp_path: Path) -> None:
    clean = np.random.default_rng(0).integers(0, 250, (28, 28, 3), dtype=np.uint8)
    moved = clean.copy()
    moved[0, 0, 0] += 5
    save_png(tmp_path / "a.png", clean)
    save_png(tmp_path / "b.png", moved)
    assert np.array_equal(load_png(tmp_path / "b.png"), moved)
    found = realised([tmp_path / "a.png"], [tmp_path / "b.png"])
    assert (found.linf_levels, found.l2) == (5, round(5 / 255, 5))
    assert realised([tmp_path / "a.png"], [tmp_path / "a.png"]).psnr is None
    far = found.model_copy(update={"linf_levels": 99})
    lines = [
        AttackedImage.model_construct(attacked=attacked, realised=one)
        for attacked, one in ((True, found), (False, far))
    ]
    assert distances(lines).linf_max == 5


def test_a_file_that_engines_would_read_differently_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(AssertionError, match="no plain RGB"):
        load_png(tmp_path / "a.png")


def test_the_data_set_is_read_like_any_other(tmp_path: Path) -> None:
    samples = [phantom("test", index).sample for index in range(2)]
    for one in samples:
        save_png(tmp_path / png_names(one.id)[0], np.full((28, 28, 3), 7, np.uint8))
    write_shards(tmp_path, dataset_samples(samples, "pgd-k8"), embed_images=False)
    again = list(read_samples(tmp_path))
    assert [one.id for one in again] == [one.id for one in samples]
    assert {one.variant for one in again} == {"pgd-k8"}
    assert np.asarray(open_image(again[0].images[0])).max() == 7
