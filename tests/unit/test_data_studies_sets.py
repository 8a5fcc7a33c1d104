"""Sets of questions about studies: what an audit, a split, a control and a corruption make of several pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.data.convert import convert
from medr1.data.describe import faults
from medr1.data.groups import group_questions
from medr1.data.images import open_image, png_bytes
from medr1.data.leakage import Pictures, leakage
from medr1.data.questions import read_questions
from medr1.data.settings import AuditSettings, ConvertSettings, CorruptSettings
from medr1.flows.audit import run_audit
from medr1.records import read_samples, write_samples
from medr1.types import ImageRef, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import SHOWN_ANSWER
from medr1.variants.corruptions.write import write_corrupted
from study_files import solid, stacked, write_series, write_table


def slice_of(number: int) -> ImageRef:
    """A picture of its own for each number; 0 shows air alone."""
    pixels = (
        np.random.default_rng(number).integers(0, 256, (32, 32), np.uint8) if number else np.zeros((32, 32), np.uint8)
    )
    return ImageRef(data=png_bytes(Image.fromarray(pixels)))


def question(number: int, shown: tuple[int, ...], **facts: object) -> Sample:
    sample = Sample(
        id=f"q{number}",
        images=tuple(replace(slice_of(one), path=f"q{number}-{at}.png") for at, one in enumerate(shown)),
        question="Has it grown?",
        options=("yes", "no"),
        answer_index=number % 2,
        modality="CT",
        source="drawn",
        group=f"patient{number}",
    )
    return replace(sample, **facts)  # type: ignore[arg-type]


def stored(folder: Path, *samples: Sample) -> Path:
    write_samples(folder, samples)
    return folder


def test_air_is_no_picture_of_a_patient(tmp_path: Path) -> None:
    """Two studies end in the same black slice; two others share a slice that shows something."""
    shown = [(0, 1, 2), (3, 4, 0), (5, 6), (6, 7)]
    data = stored(tmp_path / "data", *(question(n, one) for n, one in enumerate(shown)))
    grouping = group_questions(read_questions(data, processes=1))
    groups = [grouping.group_of[f"q{n}", ""] for n in range(4)]
    assert len(set(groups[:3])) == 3
    assert groups[2] == groups[3]


def test_only_air_tells_as_before(tmp_path: Path) -> None:
    data = stored(tmp_path / "data", question(0, (0,)), question(1, (0, 0)))
    grouping = group_questions(read_questions(data, processes=1))
    assert grouping.group_of["q0", ""] == grouping.group_of["q1", ""]


def test_leakage_of_several_pictures(tmp_path: Path) -> None:
    train = read_questions(stored(tmp_path / "train", question(0, (0, 1, 2)), question(1, (3, 4))), processes=1)
    test = read_questions(
        stored(tmp_path / "test", question(2, (5, 0)), question(3, (4, 6)), question(4, (0,))), processes=1
    )
    assert leakage(train, test)["image_leakage"] == [False, True, False]
    assert Pictures(train, test).summary().found_by == {"content": 1, "name": 0, "base name": 0}


def test_a_follow_up_contradicts_nothing(tmp_path: Path) -> None:
    """One earlier study beside two later ones: other answers are right. The same two studies: one of them is wrong."""
    follow_up = (question(0, (1, 2)), question(1, (1, 3)))
    assert faults(read_questions(stored(tmp_path / "1", *follow_up), processes=1)).conflicting_answers == 0
    twice = (question(0, (1, 2)), question(1, (1, 2)))
    assert faults(read_questions(stored(tmp_path / "2", *twice), processes=1)).conflicting_answers == 2


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six CT studies of six patients, three slices each, with the same question and answers in turn."""
    folder = tmp_path_factory.mktemp("studies")
    for n in range(6):
        facts = {"PatientID": f"P{n}", "StudyInstanceUID": f"1.2.{n}", "SeriesInstanceUID": f"1.2.{n}.1"}
        write_series(folder / f"ct{n}", solid((6, 56, 56), n), stacked(6, (0, 0, 4)), **facts)
    rows = [{"image": f"ct{n}", "answer": "ABC"[n % 3], "modality": "CT"} for n in range(6)]
    convert(ConvertSettings(path=write_table(folder, rows), out=folder / "data", slices="uniform/3"))
    return folder / "data"


def test_controls_keep_number_and_order(studies: Path) -> None:
    samples = list(read_samples(studies))
    by_images = {sample.images: sample for sample in samples}
    for name in ("swapped", "shuffled"):
        shown = VARIANTS[name].prepare(samples, 0)
        assert len(shown) == 6
        for sample in shown:
            other = by_images[sample.images]
            assert other.group != sample.group
            if name == "swapped":
                assert sample.extra[SHOWN_ANSWER] == other.options[other.answer_index or 0]
    for name in ("blank", "noise", "low_resolution"):
        for sample in VARIANTS[name].prepare(samples, 0):
            pictures = [np.asarray(one) for one in VARIANTS[name].pictures(sample, 0)]
            assert [one.shape for one in pictures] == [(56, 56, 3)] * 3
            if name == "blank":
                assert {int(value) for one in pictures for value in np.unique(one)} == {127}
            else:
                assert len({one.tobytes() for one in pictures}) == 3


def test_corruptions_take_every_slice(studies: Path, tmp_path: Path) -> None:
    write_corrupted(
        CorruptSettings(data=studies, out=tmp_path / "out", corruptions=("low_dose",), severities=(3,), processes=1)
    )
    clean = {sample.id: sample for sample in read_samples(studies)}
    corrupted = list(read_samples(tmp_path / "out" / "dataset.parquet"))
    assert len(corrupted) == 6
    for sample in corrupted:
        assert sample.group == clean[sample.id].group
        for ref, before in zip(sample.images, clean[sample.id].images, strict=True):
            pixels, original = (np.asarray(open_image(one), float) for one in (ref, before))
            assert 0.5 < np.abs(pixels - original).mean() < 60


def test_an_audit_counts_studies(studies: Path, tmp_path: Path) -> None:
    samples = list(read_samples(studies))
    train = stored(tmp_path / "train", *samples[:4])
    test = stored(tmp_path / "test", *(replace(sample, id=f"t{n}") for n, sample in enumerate(samples[3:])))
    found = run_audit(AuditSettings(train=train, test=test, out=tmp_path / "audit"))
    assert (found.image_leakage.records, found.image_leakage.share) == (1, pytest.approx(1 / 3))
