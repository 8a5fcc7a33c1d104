"""Grouping by name and pixels, and splits of whole groups."""

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data.groups import SERIES_MAX, group_questions, image_names, patient_key, series
from medr1.data.questions import QuestionSet, fingerprint, question_set
from medr1.data.settings import SplitSettings
from medr1.data.splits import GroupedSplit, assign, axis_parts, overlaps, published_parts, split
from medr1.errors import ConfigError, DataError
from medr1.records import read_samples, write_samples
from medr1.types import ImageRef, Sample


def ask(number: int, image: str, source: str = "RadImageNet", **fields: object) -> Sample:
    values: dict[str, object] = {"modality": "CT", "task": "Disease Diagnosis", "group": image, "answer_index": 0}
    return Sample(
        id=f"q{number}",
        images=(ImageRef(path=image),),
        question="Which?",
        options=("a", "b"),
        source=source,
        **(values | fields),  # pyright: ignore[reportArgumentType]
    )


def grouping(*samples: Sample, **options: int | bool) -> list[set[str]]:
    groups: dict[str, set[str]] = {}
    for (id_, _), name in group_questions(question_set("x", samples), **options).group_of.items():
        groups.setdefault(name, set()).add(id_)
    return sorted(groups.values(), key=sorted)


@pytest.mark.parametrize(
    ("source", "one", "other", "same"),
    [
        ("Mura", "valid/XR_WRIST/patient11/study1_positive/image1.png", "valid/XR_HAND/patient11/s2/image1.png", True),
        (
            "Mura",
            "valid/XR_WRIST/patient11/study1_positive/image1.png",
            "valid/XR_WRIST/patient111/s/image1.png",
            False,
        ),
        ("Chest CT Scan", "test/normal/6 - Copy (2).png", "test/normal/6.png", True),
        ("Chest CT Scan", "test/large/000139 (2).png", "val/squamous/000139.png", True),
        ("Chest CT Scan", "test/large/000139 (2).png", "test/large/000138 (2).png", False),
        ("OLIVES", "train/Prime_FULL_Prime_FULL_02-046_W40_OS_fundus_W40.tif", "x/Prime_FULL_02-046_W0_OD_f.tif", True),
        ("OLIVES", "train/TREX DME_Monthly_0248MOD_V14_OD_TREXN_001.tif", "t/TREX DME_TREX_0248TOD_V10_OS_T.tif", True),
        ("OLIVES", "train/TREX DME_GILA_0248GOD_V14_OD_fundus_OD_V14.tif", "t/TREX DME_TREX_0220TOD_V10_OS.tif", False),
        ("Diabetic Retinopathy", "0/5819_left.jpeg", "2/5819_right.jpeg", True),
        ("DeepDRiD", "regular/333/333_r2.jpg", "regular/333/333_l1.jpg", True),
        ("Knee Osteoarthritis", "test/1/9575697L.png", "val/2/9575697R.png", True),
        ("PAD-UFES-20", "imgs_part_1/PAT_365_750_854.png", "imgs_part_2/PAT_365_1_2.png", True),
        ("MIAS", "mdb145.png", "mdb146.png", True),
        ("MIAS", "mdb146.png", "mdb147.png", False),
        ("BreakHis", "benign/SOB_B_TA-14-3411F-40-005.png", "benign/SOB_B_TA-14-3411F-400-001.png", True),
        ("OCT & X-Ray 2017", "test/CNV/CNV-6256161-1.jpeg", "test/CNV/CNV-6256161-13.jpeg", True),
        ("OCT & X-Ray 2017", "test/NORMAL/NORMAL2-IM-0098-0001.jpeg", "test/NORMAL/IM-0098-0001.jpeg", False),
        ("COVIDx CXR-4", "test/MIDRC-RICORD-1C-SITE2-000125-08616-1.png", "MIDRC-RICORD-1C-SITE2-000125-1-0.png", True),
        ("Covid CT", "CT_COVID/2020.02.26.20026989-p34-114_1%1.png", "CT_COVID/2020.02.26.20026989-p7-1.png", True),
        ("Covid CT", "CT_NonCOVID/51%3.jpg", "CT_NonCOVID/51.jpg", True),
        ("NLM- Malaria Data", "P/C125P86ThinF_IMG_1_cell_75.png", "U/C126P86_ThinF_IMG_2_cell_1.png", True),
        ("Blood Cell", "val/EOSINOPHIL/_11_7956.jpeg", "val/EOSINOPHIL/_11_2.jpeg", True),
        ("Blood Cell", "val/EOSINOPHIL/_11_7956.jpeg", "val/MONOCYTE/_11_2.jpeg", False),
    ],
)
def test_names_tell_patients(source: str, one: str, other: str, same: bool):
    keys = [patient_key(source, f"Images/{source}/{name}") for name in (one, other)]
    assert None not in keys
    assert (keys[0] == keys[1]) is same


def test_data_sets_that_copy_one_another_share_keys():
    films = [
        ask(1, "Images/CoronaHack/test/person19_virus_50.jpeg", "CoronaHack"),
        ask(2, "Images/OCT & X-Ray 2017/test/PNEUMONIA/person19_virus_51.jpeg", "OCT & X-Ray 2017"),
        ask(3, "Images/ISIC2018/val/ISIC_0034501.jpg", "ISIC2018"),
        ask(4, "Images/ISIC2019/train/ISIC_0034501.jpg", "ISIC2019"),
    ]
    assert grouping(*films) == [{"q1", "q2"}, {"q3", "q4"}]


def test_slices_with_near_numbers_are_one_series_in_whatever_class_folder():
    names = ["kidney/usn100.png", "liver/usn110.png", "liver/usn121.png", "liver/thyroid100.png"]
    asked = [ask(n, f"Images/RadImageNet/{name}") for n, name in enumerate(names)]
    assert grouping(*asked) == [{"q0", "q1"}, {"q2"}, {"q3"}]
    assert grouping(*asked, gap=11) == [{"q0", "q1", "q2"}, {"q3"}]
    assert grouping(*asked, gap=11, largest=2) == [{"q0", "q1"}, {"q2"}, {"q3"}]


def test_names_of_the_record_count_where_the_path_lost_its_folder():
    embedded = ask(1, "image1.png", "Mura", extra={"image": json.dumps("Images/Mura/patient7/image1.png")})
    other = ask(2, "image2.png", "Mura", extra={"image": json.dumps("Images/Mura/patient7/image2.png")})
    assert image_names(embedded) == ("Images/Mura/patient7/image1.png",)
    assert grouping(embedded, other) == [{"q1", "q2"}]
    assert grouping(embedded, other, patients=False) == [{"q1"}, {"q2"}]


def test_a_source_s_own_group_and_equal_pixels_join():
    def image(kind: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (4, 3), (9, 8, 7)).save(buffer, format=kind)
        return buffer.getvalue()

    refs = [ImageRef(path="a.png", data=image("PNG")), ImageRef(path="b.bmp", data=image("BMP"))]
    asked = [ask(n, f"{n}.png", "own", group="p" if n > 1 else str(n)) for n in range(4)]
    prints = [(fingerprint(ref),) for ref in refs] + [(fingerprint(ImageRef(path="c")),), (fingerprint(ImageRef()),)]
    found = group_questions(QuestionSet(name="x", samples=asked, images=prints)).group_of
    assert found["q0", ""] == found["q1", ""]
    assert found["q2", ""] == found["q3", ""] != found["q1", ""]


@given(st.lists(st.integers(0, 300)), st.integers(1, 20), st.integers(1, 8))
def test_series_are_bounded_and_cut_only_where_they_must(numbers: list[int], gap: int, largest: int):
    runs = series(numbers, gap, largest)
    assert [number for run in runs for number in run] == sorted(set(numbers))
    assert all(len(run) <= largest for run in runs)
    assert all(b - a <= gap for run in runs for a, b in pairwise(run))
    for left, right in pairwise(runs):
        assert right[0] - left[-1] > gap or len(left) + len(right) > largest or largest < 2 or _wider(left, right)


def _wider(left: list[int], right: list[int]) -> bool:
    """Whether the cut between two runs is at least as wide as every gap inside them."""
    inside = [b - a for run in (left, right) for a, b in pairwise(run)]
    return right[0] - left[-1] >= max(inside, default=0)


def test_a_long_run_is_cut_at_its_widest_gap():
    assert series([1, 2, 3, 9, 10, 11, 12], gap=10, largest=4) == [[1, 2, 3], [9, 10, 11, 12]]
    assert series(range(4), gap=1, largest=2) == [[0, 1], [2, 3]]


pools = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(["CT", "MRI"]),
        st.sampled_from(["Disease Diagnosis", "unknown"]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)


def pool(rows: list[tuple[int, str, str, int]], step: int = 7) -> list[Sample]:
    return [
        ask(n, f"Images/RadImageNet/x/ct{step * number}.png", modality=modality, task=task, answer_index=answer)
        for n, (number, modality, task, answer) in enumerate(rows)
    ]


@given(pools, st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.5]), st.randoms())
def test_no_group_is_divided_and_all_axes_agree(rows: list, seed: int, share: float, shuffler):  # type: ignore[no-untyped-def]
    samples = pool(rows)
    found = group_questions(question_set("x", samples), largest=5)
    assigned = assign(samples, found.group_of, share, seed)
    sides: dict[str, set[str]] = {}
    for key, part in assigned.items():
        sides.setdefault(found.group_of[key], set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    for by in ("none", "modality", "task", "source"):
        parts = axis_parts(samples, assigned, by)
        of = {key: name.rsplit("/", 1)[-1] for name, members in parts.items() for key in members}
        assert of == assigned
        assert sum(map(len, parts.values())) == len(samples)
        counted = overlaps(question_set("x", samples), parts, found)
        assert counted == {"path": 0, "file": None, "pixels": None, "group": 0}
    shuffler.shuffle(samples)
    again = group_questions(question_set("x", samples), largest=5)
    assert again.group_of == found.group_of
    assert assign(samples, again.group_of, share, seed) == assigned


def test_strata_keep_their_share():
    samples = [
        ask(n, f"{n}.png", f"s{n % 3}", modality="CT" if n % 2 else "MRI", answer_index=n % 5 == 0) for n in range(3000)
    ]
    assigned = assign(samples, {(s.id, ""): s.id for s in samples}, 0.2, seed=1)
    for source in ("s0", "s1", "s2"):
        for answer in (0, 1):
            of = [s for s in samples if s.source == source and s.answer_index == answer]
            tested = sum(assigned[s.id, ""] == "test" for s in of)
            assert abs(tested - 0.2 * len(of)) <= 4
    assert assign(samples, {(s.id, ""): s.id for s in samples}, 0.2, seed=2) != assigned


def test_overlaps_are_counted():
    samples = [ask(1, "a.png", "own"), ask(2, "a.png", "own"), ask(3, "b.png", "own")]
    questions = question_set("x", samples)
    parts = {"CT/train": {("q1", "")}, "CT/test": {("q2", ""), ("q3", "")}}
    counted = overlaps(questions, parts, group_questions(questions))
    assert counted == {"path": 1, "file": None, "pixels": None, "group": 1}


def test_published_splits_come_as_they_are():
    samples = [
        ask(1, "a", extra={"splits": "modality/train question_type/test"}),
        ask(2, "b", extra={"splits": "question_type/train"}),
        ask(3, "c", extra={"split": "validation"}),
        ask(4, "d"),
    ]
    assert published_parts(samples) == {
        "modality/CT/train": {("q1", "")},
        "question_type/Disease_Diagnosis/test": {("q1", "")},
        "question_type/Disease_Diagnosis/train": {("q2", "")},
        "validation": {("q3", "")},
    }
    with pytest.raises(DataError, match="published split"):
        published_parts(samples[3:])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = pool([(n % 40, "CT" if n % 3 else "MRI", "unknown", n % 2) for n in range(120)], step=20)
    write_samples(tmp_path / "data", samples, embed_images=False)
    return tmp_path / "data"


def test_command_writes_every_part_and_a_manifest(data: Path):
    out = data.parent / "out"
    arguments = ["split", str(data), "--out", str(out), "--by", "modality", "--seed", "3", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert json.loads((out / "manifest.json").read_text()).items() >= summary.items()
    assert set(summary["parts"]) == {"CT/train", "CT/test", "MRI/train", "MRI/test"}
    read = {name: list(read_samples(out / name)) for name in summary["parts"]}
    assert {name: len(samples) for name, samples in read.items()} == summary["parts"]
    assert sorted(s.id for samples in read.values() for s in samples) == sorted(s.id for s in read_samples(data))
    groups = {part: {s.group for name in read if name.endswith(part) for s in read[name]} for part in ("train", "test")}
    assert not groups["train"] & groups["test"]
    found = group_questions(question_set("x", read_samples(data))).group_of
    assert groups["train"] | groups["test"] == set(found.values())
    whole = split(SplitSettings(data=data, out=data.parent / "whole", seed=3))
    assert isinstance(whole, GroupedSplit)
    assert whole.assignment == summary["assignment"]
    assert summary["overlaps"]["group"] == summary["series_neighbours"] == 0
    assert summary["largest_group"] >= 3
    assert summary["group_rules"] == {"RadImageNet: series": 40}
    table = CliRunner().invoke(app, ["split", str(data), "--out", str(out), "--overwrite"], catch_exceptions=False)
    assert "not known" in table.stdout


def test_images_travel_and_their_pixels_are_kept_together(tmp_path: Path):
    samples = []
    for n in range(20):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (n // 2, 0, 0)).save(buffer, format="PNG" if n % 2 else "BMP")
        samples.append(
            replace(ask(n, "image.png", "own"), group=str(n), images=(ImageRef(path=f"{n}", data=buffer.getvalue()),))
        )
    write_samples(tmp_path / "data", samples)
    summary = split(SplitSettings(data=tmp_path / "data", out=tmp_path / "out", test_share=0.5))
    assert isinstance(summary, GroupedSplit)
    assert summary.overlaps == {"path": 0, "file": 0, "pixels": 0, "group": 0}
    assert summary.num_groups == 10
    parts = {name: {s.id: s for s in read_samples(tmp_path / "out" / name)} for name in ("train", "test")}
    assert len(parts["train"]) + len(parts["test"]) == 20
    for n in range(0, 20, 2):
        assert (f"q{n}" in parts["test"]) == (f"q{n + 1}" in parts["test"])
    assert all(s.images == samples[int(id_[1:])].images for part in parts.values() for id_, s in part.items())


def test_errors_name_the_mend(data: Path):
    with pytest.raises(ConfigError, match=r"test_share is 1\.0: input should be less than 1"):
        split(SplitSettings(data=data, out=data.parent / "out", test_share=1.0))
    with pytest.raises(DataError, match="published split"):
        split(SplitSettings(data=data, out=data.parent / "out", published=True))
    assert not (data.parent / "out").exists()
    assert SERIES_MAX == 50
