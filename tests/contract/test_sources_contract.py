"""What every reader in `SOURCES` must do, on one small file each (see `tests/source_cases.py`)."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medr1.data import SOURCES, find_source
from medr1.data.convert import convert
from medr1.data.images import open_image
from medr1.data.settings import ConvertSettings
from medr1.errors import DataError
from medr1.records import read_samples
from medr1.types import Sample
from source_cases import CASES, INLINE, Records, write


def read(folder: Path, name: str, rows: Records) -> list[Sample]:
    return list(SOURCES[name].read(write(folder, CASES[name], rows)))


def value_of(sample: Sample, name: str) -> Any:
    value = getattr(sample, name)
    return list(value) if isinstance(value, tuple) else value


def test_every_source_has_a_case():
    assert CASES.keys() == SOURCES.keys()
    assert all(source.name == name and source.description for name, source in SOURCES.items())
    assert all(len(case.rows) == len(case.samples) == 5 for case in CASES.values())
    assert all(source.download or source.note or source.write_back for source in SOURCES.values())


@pytest.mark.parametrize("name", CASES)
def test_records_become_whole_samples(tmp_path: Path, name: str):
    samples = read(tmp_path, name, CASES[name].rows)
    assert len(samples) == 5
    for sample, expected in zip(samples, CASES[name].samples, strict=True):
        assert {field: value_of(sample, field) for field in expected} == expected
        assert sample.images
        assert all(ref.path and not Path(ref.path).is_absolute() for ref in sample.images)
        assert len(sample.id) == len(sample.group) == 16
        assert all(isinstance(value, str) for value in sample.extra.values())
        is_choice = sample.answer_type in ("choice", "yes_no")
        assert bool(sample.options) == (sample.answer_index is not None) == (not sample.answers) == is_choice
    assert len({sample.id for sample in samples}) == 5
    pictures = {tuple((ref.data, ref.path) for ref in sample.images) for sample in samples}
    assert len({sample.group for sample in samples}) == len(pictures)


@pytest.mark.parametrize("name", CASES)
def test_reading_is_deterministic(tmp_path: Path, name: str):
    assert read(tmp_path, name, CASES[name].rows) == read(tmp_path, name, CASES[name].rows)


@pytest.mark.parametrize("name", CASES)
def test_the_format_is_detected(tmp_path: Path, name: str):
    path = write(tmp_path, CASES[name], CASES[name].rows)
    expected = CASES[name].detected_as or name
    assert find_source(path).name == expected
    assert find_source(tmp_path).name == expected


@pytest.mark.parametrize("name", CASES)
def test_a_folder_with_its_images_is_converted_and_read_back(tmp_path: Path, name: str):
    case, data = CASES[name], tmp_path / "data"
    samples = read(data, name, case.rows)
    for ref in (ref for sample in samples for ref in sample.images if ref.data is None):
        file = data / case.images_in / str(ref.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 7).save(file)
    summary = convert(ConvertSettings(path=data, out=tmp_path / "out", source=name))
    assert (summary.n, summary.missing_images) == (5, 0)
    for before, after in zip(samples, read_samples(tmp_path / "out"), strict=True):
        assert (after.id, after.group, after.question, after.options) == (
            before.id,
            before.group,
            before.question,
            before.options,
        )
        assert (after.answers, after.answer_index, after.extra) == (before.answers, before.answer_index, before.extra)
        assert all(ref.data and "/" not in str(ref.path) for ref in after.images)
        assert [open_image(ref).size for ref in after.images] == [
            (4, 3) if ref.data is None else (3, 2) for ref in before.images
        ]


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.write_back])
def test_records_are_written_back_equal(tmp_path: Path, name: str):
    unusual = {**CASES[name].rows[2], "note": {"deep": [1, None]}, "": "x"}
    if "problem" in unusual:
        unusual["solution"] = "b"
    if name == "med-r1":
        unusual |= {"problem": INLINE.replace("A)", "A) ") + " ", "thinking": "<think>so</think>"}
    rows = [*CASES[name].rows[:2], unusual]
    write_back = SOURCES[name].write_back
    assert write_back is not None
    back = [write_back(sample) for sample in read(tmp_path, name, rows)]
    assert back == rows
    assert [list(record) for record in back] == [list(record) for record in rows]


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.suffixes])
def test_a_repeated_question_is_refused_or_kept_under_another_id(tmp_path: Path, name: str):
    rows = CASES[name].rows
    if not SOURCES[name].keeps_repeats:
        with pytest.raises(DataError, match="record 6: repeats the question of record 2"):
            read(tmp_path, name, [*rows, rows[1]])
        return
    *whole, twice, thrice = read(tmp_path, name, [*rows, rows[1], rows[1]])
    assert whole == read(tmp_path, name, rows)
    assert len({sample.id for sample in (*whole, twice, thrice)}) == 7
    assert twice.group == thrice.group == whole[1].group


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in case.broken])
def test_a_broken_record_is_named(tmp_path: Path, name: str, kind: str):
    case = CASES[name]
    rows = [*case.rows[:1], case.rows[1] | case.broken[kind], *case.rows[2:]]
    with pytest.raises(DataError, match=rf"{Path(case.file).name} record 2: .+"):
        read(tmp_path, name, rows)
