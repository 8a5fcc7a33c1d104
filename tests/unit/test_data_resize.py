import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.data import resize as module
from medr1.data.images import open_image, unfit
from medr1.data.resize import resize, resized
from medr1.data.settings import ResizeSettings
from medr1.data.source import choice_sample
from medr1.errors import ConfigError, DataError
from medr1.records import data_hash, read_samples, write_samples
from medr1.types import ImageRef, Sample
from run_faults import files

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


def sample(number: int, data: bytes | None = None) -> Sample:
    made = choice_sample(
        source="s", image_names=[f"{number}.jpg"], question=f"{number}?", options=["a", "b"], answer_index=0
    )
    if data is None:
        buffer = io.BytesIO()
        Image.new("RGB", (20, 10), (number, 0, 0)).save(buffer, "PNG")
        data = buffer.getvalue()
    return replace(made, images=(ImageRef(path=f"{number}.jpg", data=data),))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "SHARD_SAMPLES", 4)
    write_samples(tmp_path / "data", [sample(number) for number in range(10)])
    return tmp_path / "data"


def test_both_sides_get_the_size_with_lanczos():
    expected = PICTURE.resize((32, 32), Image.Resampling.LANCZOS)
    assert resized(PICTURE, 32).tobytes() == expected.tobytes()
    assert resized(expected, 32) is expected


def test_the_longest_side_keeps_the_shape_and_never_enlarges():
    assert resized(PICTURE, 40, longest_side=True).size == (40, 30)
    assert resized(PICTURE.rotate(90, expand=True), 40, longest_side=True).size == (30, 40)
    assert resized(PICTURE, 384, longest_side=True) is PICTURE
    assert resized(Image.new("L", (1000, 1)), 10, longest_side=True).size == (10, 1)


def test_rounding_makes_no_picture_unfit():
    for longest in (256, 300, 384, 1000):
        for width in range(2000, 3201, 100):
            small = resized(Image.new("L", (width, 16)), longest, longest_side=True)
            assert unfit((width, 16)) is None
            assert unfit(small.size) is None
            assert small.width == longest


def test_a_resized_folder_has_the_same_questions(data: Path, tmp_path: Path):
    steps: list[int] = []
    assert resize(ResizeSettings(path=data, out=tmp_path / "out", size=8), steps.append) == 10
    assert steps == [4, 8, 10]
    before, after = list(read_samples(data)), list(read_samples(tmp_path / "out"))
    assert data_hash(before) == data_hash(after)
    assert [s.id for s in after] == [s.id for s in before]
    for number, one in enumerate(after):
        assert [(ref.path, open_image(ref).size) for ref in one.images] == [(f"{number}.png", (8, 8))]
        assert np.array_equal(np.asarray(open_image(one.images[0])), np.full((8, 8, 3), [number, 0, 0]))
    shards = ["data-00000.parquet", "data-00001.parquet", "data-00002.parquet"]
    assert list(files(tmp_path / "out")) == [*shards, "manifest.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "out"]


class Killed(BaseException):
    """Stands for the signal that ends a run."""


def test_a_killed_run_goes_on_with_the_next_shard(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = ResizeSettings(path=data, out=tmp_path / "out", size=8)
    opened: list[str | None] = []

    def counted(ref: ImageRef) -> Image.Image:
        opened.append(ref.path)
        return open_image(ref)

    monkeypatch.setattr(module, "open_image", counted)

    def kill(done: int) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        resize(job, kill)
    assert list(files(tmp_path / "out")) == ["data-00000.parquet", "data-00001.parquet", "manifest.json"]
    with pytest.raises(DataError, match="is not finished"):
        read_samples(tmp_path / "out")
    assert len(opened) == 8
    assert resize(job) == 10
    assert opened[8:] == ["8.jpg", "9.jpg"]
    assert len(list(read_samples(tmp_path / "out"))) == 10
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "out"]


def test_shards_of_another_size_or_other_data_are_not_used(data: Path, tmp_path: Path):
    def kill(done: int) -> None:
        raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        resize(ResizeSettings(path=data, out=out, size=8), kill)
    with pytest.raises(ConfigError, match="size was 8, now 9"):
        resize(ResizeSettings(path=data, out=out, size=9))
    with pytest.raises(Killed):
        resize(ResizeSettings(path=data, out=out, size=9, overwrite=True), kill)
    assert resize(ResizeSettings(path=data, out=out, size=9)) == 10
    assert {open_image(s.images[0]).size for s in read_samples(out)} == {(9, 9)}
    with pytest.raises(Killed):
        resize(ResizeSettings(path=data, out=tmp_path / "again", size=9), kill)
    write_samples(data, [sample(number) for number in range(20, 23)], overwrite=True)
    with pytest.raises(ConfigError, match="other labels; other pictures; other questions"):
        resize(ResizeSettings(path=data, out=tmp_path / "again", size=9))
    assert resize(ResizeSettings(path=data, out=tmp_path / "again", size=9, overwrite=True)) == 3
    assert [s.question for s in read_samples(tmp_path / "again")] == ["20?", "21?", "22?"]


def test_a_damaged_image_is_named_and_nothing_is_left(data: Path, tmp_path: Path):
    write_samples(data, [*map(sample, range(9)), sample(9, b"\x89PNG\r\n\x1a\n")], overwrite=True)
    for done_before in (False, True):
        with pytest.raises(DataError, match=rf"sample {sample(9).id}: image 9\.jpg"):
            resize(ResizeSettings(path=data, out=tmp_path / "out", size=8, overwrite=done_before))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("size", [0, -3, 10**6])
def test_sizes_that_make_no_sense_are_refused(data: Path, tmp_path: Path, size: int):
    with pytest.raises(ConfigError, match="size"):
        resize(ResizeSettings(path=data, out=tmp_path / "out", size=size))
