import csv
from pathlib import Path

import pytest

from medr1.data import SOURCES, find_source
from medr1.data.source import Choice

CHOICES = {"Choice A": " A:Fat ", "Choice B": " B:Bone ", "Choice C": " C:Air", "Choice D": "D:Water"}
FIRST = {"Figure_path": "a.jpg", "Question": "What is marked?", "Answer": "Bone", **CHOICES, "Answer_label": "B"}
SECOND = {
    **{"index": "7", "Figure_path": "a.jpg", "Caption": "(A) A bone.", "Question": "What is marked?", **CHOICES},
    **{"Answer": "B", "split": "train"},
}


def write(path: Path, row: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerow(row)
    return path


@pytest.mark.parametrize(
    ("name", "row", "split"),
    [
        ("train.csv", FIRST, "train"),
        ("test_clean.csv", FIRST, "test"),
        ("train_2.csv", SECOND, "train"),
        ("test_2.csv", SECOND | {"split": "test"}, "test"),
    ],
)
def test_both_versions_are_one_question(tmp_path: Path, name: str, row: dict[str, str], split: str):
    path = write(tmp_path / name, row)
    assert find_source(path).name == "pmc-vqa"
    [sample] = SOURCES["pmc-vqa"].read(path)
    assert (sample.options, sample.gold) == (("Fat", "Bone", "Air", "Water"), "B")
    assert sample.extra["split"] == split
    assert sample.extra.get("Caption") == row.get("Caption")


def test_the_first_uploads_misspelt_column_can_be_mapped(tmp_path: Path):
    row = {"Anwser" if name == "Answer" else name: value for name, value in FIRST.items()}
    choice = Choice(columns={"Answer": "Anwser"})
    path = write(tmp_path / "train.csv", row)
    assert find_source(path, choice=choice).name == "pmc-vqa"
    assert [sample.gold for sample in SOURCES["pmc-vqa"].read(path, choice=choice)] == ["B"]


def test_the_figures_of_both_versions_are_fetched_into_one_folder():
    wanted = SOURCES["pmc-vqa"].download
    assert wanted is not None
    assert {"train_2.csv", "test_2.csv", "images_2.zip"} <= set(wanted.files)
    assert wanted.archives == {"images*.zip": "images"}
