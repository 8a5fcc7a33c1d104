import csv
from pathlib import Path

import pytest

from medr1.data import SOURCES
from medr1.errors import DataError
from medr1.types import Sample
from source_cases import picture

ROW = {"index": "1", "question": "What is seen?", "A": "Bone", "B": "Fat", "answer": "B"}
ONE, TWO = picture(1, "base64"), picture(2, "base64")


def read(folder: Path, **cells: str) -> Sample:
    path = folder / "MedBench.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*ROW, *cells], delimiter="\t")
        table.writeheader()
        table.writerow(ROW | cells)
    [sample] = SOURCES["vlmevalkit"].read(path)
    return sample


@pytest.mark.parametrize(
    ("written", "pictures"), [(ONE, [1]), (f"['{ONE}', '{TWO}']", [1, 2]), (f'["{ONE}", "{TWO}"]', [1, 2])]
)
def test_images_are_one_cell_or_a_list_as_python_or_json_writes_it(tmp_path: Path, written: str, pictures: list[int]):
    images = read(tmp_path, image=written).images
    assert [ref.data for ref in images] == [picture(number, "image")["bytes"] for number in pictures]


@pytest.mark.parametrize(
    ("written", "names"), [("a.png", ["a.png"]), ("['a.png', 'b.png']", ["a.png", "b.png"]), ('["a.png"]', ["a.png"])]
)
def test_paths_are_one_cell_or_a_list_too(tmp_path: Path, written: str, names: list[str]):
    assert [ref.path for ref in read(tmp_path, image_path=written).images] == names


@pytest.mark.parametrize("length", [1, 63, 64])
def test_a_cell_as_short_as_an_index_is_one(tmp_path: Path, length: int):
    with pytest.raises(DataError, match="another row"):
        read(tmp_path, image="1" * length)


@pytest.mark.parametrize("written", ["[1, 2]", "[]", "[" * 5000 + "]" * 5000, "[__import__('os').getcwd()]", "[x]"])
def test_a_list_of_anything_else_is_refused_and_never_run(tmp_path: Path, written: str):
    with pytest.raises(DataError, match="record 1: image is neither"):
        read(tmp_path, image=written)
