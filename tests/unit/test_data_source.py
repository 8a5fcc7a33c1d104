import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medr1.data import SOURCES, find_source, read_source
from medr1.data.record_files import data_files, read_records
from medr1.data.source import choice_sample, merged
from medr1.errors import ConfigError, DataError

RECORD = {"image": "Images/MIAS/mdb146.png", "problem": "Which? A)CT, B)X-ray", "solution": "<answer> B </answer>"}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.json", {"image": "x"}, "one JSON object, not a list"),
        ("a.json", [RECORD, 3], "record 2: is not a JSON object"),
        ("a.json", b"[{", "not JSON"),
        ("a.json", b"\xff", "not JSON"),
        ("a.json", b"[[1]]", "record 1: is not a JSON object"),
        ("a.json", b'[{"a": 1}, {"a": ' + b"[" * 200_000, "record 2: is not JSON"),
        ("a.json", b'[{"a": ' + b"1" * 5000 + b"}]", "record 1: is not JSON"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "record 1: is not JSON"),
        ("a.json", b'[{"a": 1}] x', "is not JSON"),
        ("a.jsonl", b'{"a": 1}\n' + b"[" * 200_000, "line 2"),
        ("a.csv", b"a,a\n1,2\n", "'a' twice"),
        ("a.tsv", b"a\tb\n1\n", "record 1: has more or fewer cells"),
        ("a.json", [], "no records"),
        ("a.jsonl", b'{"a": 1}\n{"b"\n', "line 2"),
        ("a.csv", b'a,b\n"x,1\n', "not CSV"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "record 2: has more or fewer cells"),
        ("a.csv", b"a,b\n1\n", "record 1: has more or fewer cells"),
    ],
)
def test_files_without_records_are_refused(tmp_path: Path, name: str, value: Any, message: str):
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        with pytest.raises(DataError, match=message):
            list(read_records(write(path, value)))


def test_damaged_archives_are_named(tmp_path: Path):
    whole = gzip.compress(json.dumps([RECORD] * 50).encode())
    for damaged in (b"", whole[:40], b"plain", whole[:30] + b"\xff\xff\xff" + whole[33:]):
        (tmp_path / "a.json.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.json\.gz"):
            list(read_records(tmp_path / "a.json.gz"))


def test_the_last_line_of_a_hand_made_file_needs_no_newline(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}')
    assert list(read_records(path)) == [{"a": 1}, {"a": 2}]


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path):
    for name in ("b/2_test.json", "a/1_test.json.gz", ".hidden/x.json", "b/.DS_Store", "b/notes.txt"):
        write(tmp_path / name, [])
    assert [file.name for file in data_files(tmp_path, (".json", ".json.gz"))] == ["1_test.json.gz", "2_test.json"]
    with pytest.raises(DataError, match="holds no"):
        data_files(tmp_path, (".csv",))
    with pytest.raises(DataError, match="does not exist"):
        data_files(tmp_path / "none", (".csv",))


@pytest.mark.parametrize(
    "change", [{"question": "  "}, {"options": ["a"]}, {"options": ["a"] * 27}, {"options": ["a", " "]}]
)
def test_incomplete_questions_are_refused(change: dict[str, Any]):
    fields = {"source": "s", "image_names": ["x"], "question": "?", "options": ["a", "b"], "answer_index": 0}
    with pytest.raises(DataError):
        choice_sample(**(fields | change))


def test_files_that_know_different_things_are_merged_and_contradictions_refused():
    unknown = choice_sample(source="s", image_names=["x"], question="?", options=["a", "b"], answer_index=0)
    ct, graded = replace(unknown, modality="CT"), replace(unknown, task="Lesion Grading")
    other = replace(unknown, id="other")
    assert list(merged([[ct, other], [graded]])) == [replace(ct, task="Lesion Grading"), other]
    assert list(merged([[graded], [ct]])) == [replace(ct, task="Lesion Grading")]
    with pytest.raises(DataError, match="modality"):
        list(merged([[ct], [replace(unknown, modality="MRI")]]))
    with pytest.raises(DataError, match="answer_index"):
        list(merged([[ct], [replace(unknown, answer_index=1)]]))


def test_images_become_paths_under_the_image_root(tmp_path: Path):
    path = write(tmp_path / "CT_test.json", [RECORD])
    assert [ref.path for ref in next(read_source(path)).images] == ["Images/MIAS/mdb146.png"]
    rooted = next(read_source(path, image_root=tmp_path / "root"))
    assert [ref.path for ref in rooted.images] == [str(tmp_path / "root/Images/MIAS/mdb146.png")]
    assert rooted.id == next(read_source(path)).id
    write(path, [RECORD | {"image": "../secret.png"}])
    with pytest.raises(DataError, match="secret"):
        next(read_source(path, image_root=tmp_path))


def test_formats_are_detected_or_named(tmp_path: Path):
    path = write(tmp_path / "a.json", [RECORD])
    assert find_source(path) is SOURCES["med-r1"]
    assert find_source(path, "jsonl") is SOURCES["jsonl"]
    with pytest.raises(ConfigError, match="med-r1, medvlm-r1"):
        find_source(path, "medr1")
    with pytest.raises(DataError, match="fields picture, text"):
        find_source(write(path, [{"picture": 1, "text": 2}]))
