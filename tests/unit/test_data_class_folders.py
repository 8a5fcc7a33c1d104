from pathlib import Path

import pytest
from PIL import Image

from medr1.data import SOURCES, find_source
from medr1.errors import DataError

SOURCE = SOURCES["class-folders"]


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(folder / name, "PNG")


def test_any_classes_become_one_question_for_each_image(tmp_path: Path):
    folder = tmp_path / "kidneys"
    draw(folder, "stone/1.png", "healthy_organ/2.PNG", "cyst/3.dcm", "cyst/notes.txt", ".hidden/4.png", "loose.png")
    assert find_source(folder) is SOURCE
    samples = list(SOURCE.read(folder))
    assert [(sample.images[0].path, sample.gold) for sample in samples] == [
        ("cyst/3.dcm", "A"),
        ("healthy_organ/2.PNG", "B"),
        ("stone/1.png", "C"),
    ]
    assert {(s.options, s.source, s.question) for s in samples} == {
        (("cyst", "healthy organ", "stone"), "kidneys", "Which class does this image belong to?")
    }


def test_splits_may_lie_above_the_classes(tmp_path: Path):
    draw(tmp_path, "train/a/1.png", "val/b/2.png", "deeper/x/a/3.png")
    assert [sample.extra["split"] for sample in SOURCE.read(tmp_path)] == ["train", "validation"]


@pytest.mark.parametrize("names", [["one/1.png"], [f"{n}/1.png" for n in range(27)], ["1.png"]])
def test_one_class_or_more_than_there_are_letters_is_refused(tmp_path: Path, names: list[str]):
    draw(tmp_path, *names)
    with pytest.raises(DataError, match="folders with images"):
        list(SOURCE.read(tmp_path))


def test_a_file_is_no_folder_of_classes(tmp_path: Path):
    draw(tmp_path, "1.png")
    with pytest.raises(DataError, match="not a folder"):
        list(SOURCE.read(tmp_path / "1.png"))
