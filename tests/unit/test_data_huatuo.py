import json
from pathlib import Path

import pytest

from medr1.data import SOURCES
from medr1.errors import DataError
from medr1.types import Sample

ROW = {
    "question": " Which? ",
    "image": ["images/a.png"],
    "options": ["Same", "Same", "Other"],
    "answer": "Same",
    "dataset": "OmniMedVQA",
    "subset": "CT(Computed Tomography)",
}


def read(folder: Path, row: dict) -> Sample:
    (folder / "test.json").write_text(json.dumps([row]))
    [sample] = SOURCES["huatuo"].read(folder / "test.json")
    return sample


def test_the_subset_is_the_modality_and_the_first_of_equal_options_the_answer(tmp_path: Path):
    sample = read(tmp_path, ROW)
    assert (sample.question, sample.modality, sample.source, sample.gold) == ("Which?", "CT", "OmniMedVQA", "A")
    write_back = SOURCES["huatuo"].write_back
    assert write_back is not None
    assert write_back(sample) == ROW


def test_a_subset_that_is_no_modality_or_missing_leaves_it_unknown(tmp_path: Path):
    assert read(tmp_path, ROW | {"subset": "Chest"}).modality == "unknown"
    assert read(tmp_path, ROW | {"subset": None}).modality == "unknown"


def test_a_row_whose_answer_is_withheld_is_left_out(tmp_path: Path):
    rows = [ROW | {"answer": "?", "dataset": "MMMU"}, ROW, ROW | {"answer": "None of them"}]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    samples = SOURCES["huatuo"].read(tmp_path / "test.json")
    assert next(samples).source == "OmniMedVQA"
    with pytest.raises(DataError, match="record 3: the answer 'None of them'"):
        next(samples)
