import json
from collections import Counter
from pathlib import Path

import pytest

from medr1.data import SOURCES
from medr1.errors import DataError
from medr1.types import Sample

RECORD = {
    "image": ["images/a.png"],
    "problem": "Which?\nA) CT\nB) MRI",
    "solution": "B",
    "question": "Which?",
    "options": ["CT", "MRI"],
    "answer": "MRI",
    "dataset": "OmniMedVQA",
    "subset": "MR (Mag-netic Resonance Imaging)",
}


def read(folder: Path, record: dict) -> Sample:
    (folder / "x.json").write_text(json.dumps([record]))
    [sample] = SOURCES["medvlm-r1"].read(folder / "x.json")
    return sample


def test_a_record_of_the_test_file(tmp_path: Path):
    sample = read(tmp_path, RECORD)
    assert (sample.question, sample.options, sample.gold) == ("Which?", ("CT", "MRI"), "B")
    assert (sample.modality, sample.source) == ("MRI", "OmniMedVQA")


def test_an_example_record_needs_no_more_than_three_fields(tmp_path: Path):
    sample = read(tmp_path, {name: RECORD[name] for name in ("image", "problem", "solution")})
    assert (sample.modality, sample.source, sample.gold) == ("unknown", "unknown", "B")


def test_several_images_stay_in_order(tmp_path: Path):
    sample = read(tmp_path, RECORD | {"image": ["b.png", "a.png"]})
    assert [ref.path for ref in sample.images] == ["b.png", "a.png"]


@pytest.mark.parametrize("change", [{"question": "Other?"}, {"options": ["MRI", "CT"]}, {"answer": "CT"}])
def test_fields_that_contradict_the_problem_are_refused(tmp_path: Path, change: dict):
    with pytest.raises(DataError, match=rf"record 1: {next(iter(change))} is"):
        read(tmp_path, RECORD | change)


def test_the_published_files(real_data: Path):
    for name, count in {"MRI_CT_XRAY_300each_dataset.json": 900, "cases.json": 12}.items():
        file = real_data / "medvlm_r1" / name
        samples = list(SOURCES["medvlm-r1"].read(file))
        assert len(samples) == len({sample.group for sample in samples}) == count
        assert [(SOURCES["medvlm-r1"].write_back or str)(sample) for sample in samples] == json.loads(file.read_text())
    samples = list(SOURCES["medvlm-r1"].read(real_data / "medvlm_r1/MRI_CT_XRAY_300each_dataset.json"))
    assert [sample.modality for sample in samples] == ["MRI"] * 300 + ["CT"] * 300 + ["X-Ray"] * 300
    assert Counter(sample.gold for sample in samples[300:600]) == {"A": 90, "B": 99, "C": 50, "D": 61}
    assert Counter(len(sample.options) for sample in samples) == {4: 825, 2: 75}
