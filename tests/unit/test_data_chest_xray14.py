from pathlib import Path

import pytest

from medr1.data import SOURCES, find_source
from medr1.errors import DataError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = ("7_000.png,Mass,0,7,58,M,PA,2682,2749,0.143,0.143", "7_001.png,Mass|Edema,1,7,58,M,AP,2500,2048,0.1,0.1")


@pytest.fixture(params=["", ","], ids=["2020", "2017"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The header as published: its brackets hold unquoted commas, and the first edition ends in one more."""
    path = tmp_path / "Data_Entry_2017.csv"
    path.write_text("".join(f"{line}{request.param}\n" for line in (HEADER, *ROWS)))
    return path


def test_both_editions_are_read_and_films_of_a_patient_share_a_group(table: Path):
    assert find_source(table).name == "chest-xray14"
    one, other = SOURCES["chest-xray14"].read(table)
    assert (one.answers, other.answers) == (("Mass",), ("Mass", "Edema"))
    assert one.group == other.group
    assert one.id != other.id
    assert one.extra["View Position"] == "PA"
    assert "split" not in one.extra


def test_the_official_lists_tell_the_split(table: Path):
    (table.parent / "train_val_list.txt").write_text("7_001.png\n")
    (table.parent / "test_list.txt").write_text("7_000.png\n8_000.png\n")
    assert [sample.extra["split"] for sample in SOURCES["chest-xray14"].read(table)] == ["test", "train"]


def test_a_list_that_cannot_be_read_is_named(table: Path):
    (table.parent / "test_list.txt").write_bytes(b"7_000.png\n\xff\xfe")
    with pytest.raises(DataError, match=r"test_list\.txt is no list of image names"):
        list(SOURCES["chest-xray14"].read(table))


PUBLISHED = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "No Finding"),
)


@pytest.mark.parametrize("label", PUBLISHED)
def test_every_published_finding_is_named_by_the_question(tmp_path: Path, label: str):
    path = tmp_path / "Data_Entry_2017_v2020.csv"
    path.write_text(f"Image Index,Finding Labels,Patient ID\n1.png,{label},1\n")
    [sample] = SOURCES["chest-xray14"].read(path)
    assert sample.answers == (label.replace("_", " "),)
    assert sample.answers[0] in sample.question
