import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from medr1.data import SOURCES
from medr1.data.source import merged
from medr1.errors import DataError
from medr1.types import Sample

CT = {"image": "Images/RadImageNet/gout/abd1.png", "problem": "Which? A)CT, B)MRI", "solution": "<answer> A </answer>"}
MIAS = {"image": "Images/MIAS/mdb1.png", "problem": "Which? A)CT, B)X-ray", "solution": "<answer> B </answer>"}

# Records, images, and questions by number of options and by gold letter, counted over the published files.
MODALITY_TEST = {
    "CT": (3241, 3169, {2: 834, 4: 2407}, {"A": 1044, "B": 996, "C": 602, "D": 599}),
    "Dermoscopy": (1306, 1278, {2: 294, 4: 1012}, {"A": 374, "B": 393, "C": 264, "D": 275}),
    "Fundus": (1098, 1085, {2: 95, 3: 20, 4: 983}, {"A": 277, "B": 283, "C": 270, "D": 268}),
    "MRI": (6370, 6330, {2: 3, 4: 6367}, {"A": 1579, "B": 1650, "C": 1581, "D": 1560}),
    "Microscopy": (1110, 1076, {2: 87, 4: 1023}, {"A": 326, "B": 294, "C": 257, "D": 233}),
    "OCT": (848, 813, {2: 32, 4: 816}, {"A": 227, "B": 211, "C": 207, "D": 203}),
    "X-Ray": (1615, 1535, {2: 47, 4: 1568}, {"A": 431, "B": 421, "C": 383, "D": 380}),
    "Ultrasound": (2074, 2066, {4: 2074}, {"A": 545, "B": 510, "C": 516, "D": 503}),
}

write_back = SOURCES["med-r1"].write_back or str


def write(path: Path, records: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))
    return path


def read(path: Path) -> list[Sample]:
    return list(SOURCES["med-r1"].read(path))


def test_the_file_name_tells_one_axis_and_the_image_the_data_set(tmp_path: Path):
    [sample] = read(write(tmp_path / "MR (Mag-netic Resonance Imaging)_test.json", [CT]))
    assert (sample.modality, sample.task, sample.source) == ("MRI", "unknown", "RadImageNet")
    [sample] = read(write(tmp_path / "Lesion Grading_train.json", [CT]))
    assert (sample.modality, sample.task) == ("unknown", "Lesion Grading")
    [sample] = read(write(tmp_path / "Disease_Diagnosis_train_partial.json", [CT]))
    assert (sample.modality, sample.task) == ("unknown", "Disease Diagnosis")


@pytest.mark.parametrize(
    "name", ["unknown_train.json", "MIAS_filtered_test.json", "Disease_Diagnosis_train_partial.json"]
)
def test_a_data_set_with_one_modality_tells_it_where_the_file_does_not(tmp_path: Path, name: str):
    [sample] = read(write(tmp_path / name, [MIAS]))
    assert (sample.modality, sample.source) == ("X-Ray", "MIAS")


def test_both_axes_are_joined_on_image_and_problem(tmp_path: Path):
    write(tmp_path / "modality/test/CT_test.json", [CT])
    write(tmp_path / "modality/train/X-Ray_train.json", [MIAS])
    write(tmp_path / "question_type/train/Modality Recognition_train.json", [MIAS, CT])
    write(tmp_path / "question_type/test/Lesion Grading_test.json", [CT | {"image": "Images/RadImageNet/x/2.png"}])
    found = {sample.extra["image"]: sample for sample in read(tmp_path)}
    assert {(s.source, s.modality, s.task) for s in found.values()} == {
        ("RadImageNet", "CT", "Modality Recognition"),
        ("MIAS", "X-Ray", "Modality Recognition"),
        ("RadImageNet", "unknown", "Lesion Grading"),
    }
    assert found[json.dumps(CT["image"])].extra["splits"] == "modality/test question_type/train"
    assert [write_back(sample) for sample in found.values()][:2] == [CT, MIAS]


def test_files_that_contradict_each_other_are_refused(tmp_path: Path):
    write(tmp_path / "CT_test.json", [CT])
    write(tmp_path / "Lesion Grading_test.json", [CT | {"solution": "<answer> B </answer>"}])
    with pytest.raises(DataError, match="disagree about the answer_index"):
        read(tmp_path)


def test_reasoning_of_supervised_files_is_the_rationale(tmp_path: Path):
    [sample] = read(write(tmp_path / "CT_test.json", [CT | {"thinking": "<think>so</think>"}]))
    assert sample.rationale == "<think>so</think>"


def test_the_group_is_the_image_whatever_the_question_and_does_not_name_it(tmp_path: Path):
    records = [CT, CT | {"problem": "Other? A)x, B)y"}, MIAS]
    groups = [sample.group for sample in read(write(tmp_path / "CT_test.json", records))]
    assert groups[0] == groups[1] != groups[2]
    assert all(set(group) <= set("0123456789abcdef") for group in groups)


@pytest.fixture(scope="module")
def published_splits(real_data: Path) -> dict[Path, list[Sample]]:
    """Every published split file, read once: it takes some seconds."""
    return {file: read(file) for file in sorted((real_data / "med_r1/splits").rglob("*.json.gz"))}


def test_the_published_test_files_have_the_published_counts(published_splits: dict[Path, list[Sample]]):
    files = {file: samples for file, samples in published_splits.items() if file.parts[-3:-1] == ("modality", "test")}
    assert len(files) == len(MODALITY_TEST)
    for samples in files.values():
        [modality] = {sample.modality for sample in samples}
        records, images, num_options, letters = MODALITY_TEST[modality]
        assert len(samples) == records
        assert len({sample.group for sample in samples}) == images
        assert Counter(len(sample.options) for sample in samples) == num_options
        assert Counter(sample.gold for sample in samples) == letters
        if modality == "CT":
            sources = Counter(sample.source for sample in samples)
            assert sources == {"RadImageNet": 2817, "Chest CT Scan": 188, "SARS-CoV-2 CT-scan": 187, "Covid CT": 49}


def assert_written_back_equal(file: Path, samples: list[Sample]) -> int:
    published = json.loads(gzip.decompress(file.read_bytes()))
    assert [write_back(sample) for sample in samples] == published, file.name
    return len(published)


def test_every_published_record_is_written_back_equal(real_data: Path, published_splits: dict[Path, list[Sample]]):
    total = sum(assert_written_back_equal(file, samples) for file, samples in published_splits.items())
    for folder in ("eval_vqa_prompts", "recovered_partial"):
        files = sorted((real_data / "med_r1" / folder).rglob("*.json.gz"))
        total += sum(assert_written_back_equal(file, read(file)) for file in files)
    assert total == 166_757


def test_the_join_of_all_published_splits(published_splits: dict[Path, list[Sample]]):
    samples = list(merged(published_splits.values()))
    assert len(samples) == len({sample.id for sample in samples}) == 70_888
    cells = Counter((sample.modality, sample.task) for sample in samples)
    # Cells of the whole pool that do not touch the two files which the snapshot lacks.
    assert cells["Ultrasound", "Anatomy Identification"] == 10_018
    assert cells["Fundus", "Lesion Grading"] == 1_830
    assert cells["OCT", "Other Biological Attributes"] == 1_697
    assert cells["CT", "Modality Recognition"] == 1_845, "1,844 of CT files and one whose file is named unknown"
    splits = Counter(split for sample in samples for split in sample.extra["splits"].split())
    assert splits["modality/test"] == 17_662
    assert splits["question_type/test"] == 17_919
