"""What every reader in `SOURCES` must do, on one small file each."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medr1.data import SOURCES, find_source
from medr1.errors import DataError
from medr1.types import LETTERS, Sample

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """Three good records of a format, and how to break one."""

    file: str
    records: Records
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)


INLINE = "Which technique? A)CT, B)Stain (H&E), C)x, y"
LINES = "Which technique?\nA) CT\nB) Stain (H&E)\nC) x, y"
OPTIONS = ["CT", "Stain (H&E)", "x, y"]

BROKEN_PROBLEM = {
    "letter outside the options": {"solution": "D"},
    "no letter": {"solution": "perhaps"},
    "empty question": {"problem": " A)x, B)y\nA) x\nB) y"},
    "no options": {"problem": "Which technique?"},
    "no image": {"image": ""},
    "image of another type": {"image": 3},
    "solution of another type": {"solution": 1},
    "half a character": {"image": "\ud800"},
}
BROKEN_TABLE = {
    "letter outside the options": {"answer": "D"},
    "text of no option": {"answer": "ct"},
    "empty question": {"question": " "},
    "no options": {"options": None},
    "no image": {"image": ""},
}

CASES = {
    "med-r1": Case(
        "CT_test.json",
        [
            {"image": f"Images/MIAS/{name}", "problem": INLINE, "solution": "<answer> B </answer>"}
            for name in ("a.png", "71%1 #2.png", "H&E (2).png")
        ],
        BROKEN_PROBLEM,
    ),
    "medvlm-r1": Case(
        "test.json",
        [
            {"image": [name], "problem": LINES, "solution": "B", "answer": OPTIONS[1], "subset": "X-Ray"}
            for name in ("a.png", "b.png", "c.png")
        ],
        {name: change for name, change in BROKEN_PROBLEM.items() if not name.startswith("image of")}
        | {"empty image list": {"image": []}, "answer of another option": {"answer": OPTIONS[0]}},
    ),
    "huatuo": Case(
        "test.json",
        [
            {
                "question": "Which technique?",
                "image": [name],
                "options": OPTIONS,
                "answer": OPTIONS[1],
                "dataset": "OmniMedVQA",
                "subset": "X-Ray",
            }
            for name in ("a.png", "b.png", "c.png")
        ],
        {name: change for name, change in BROKEN_TABLE.items() if name != "no image"}
        | {"empty image list": {"image": []}, "options with a number": {"options": ["CT", 3]}},
    ),
    "jsonl": Case(
        "own.jsonl",
        [
            {"image": name, "question": "Which technique?", "options": OPTIONS, "answer": "B", "modality": "X-Ray"}
            for name in ("a.png", "b.png", "c.png")
        ],
        BROKEN_TABLE,
    ),
    "csv": Case(
        "own.csv",
        [
            {"image": name, "question": "Which technique?", "options": json.dumps(OPTIONS), "answer": "B", "note": "é"}
            for name in ("a.png", "b.png", "c.png")
        ],
        {**BROKEN_TABLE, "no options": {"options": ""}, "no JSON": {"options": "CT; MRI"}},
    ),
}


def write(folder: Path, case: Case, records: Records) -> Path:
    path = folder / case.file
    if path.suffix == ".csv":
        text = io.StringIO()
        rows = csv.DictWriter(text, list(records[0]))
        rows.writeheader()
        rows.writerows(records)
        path.write_text(text.getvalue(), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        path.write_text(json.dumps(records), encoding="utf-8")
    return path


def read(folder: Path, name: str, records: Records) -> list[Sample]:
    return list(SOURCES[name].read(write(folder, CASES[name], records)))


def test_every_source_has_a_case():
    assert CASES.keys() == SOURCES.keys()
    assert all(source.name == name and source.description for name, source in SOURCES.items())


@pytest.mark.parametrize("name", CASES)
def test_records_become_whole_samples(tmp_path: Path, name: str):
    samples = read(tmp_path, name, CASES[name].records)
    assert len(samples) == 3
    for sample in samples:
        assert sample.question == "Which technique?"
        assert sample.options == tuple(OPTIONS)
        assert sample.gold == LETTERS[1]
        assert sample.images
        assert all(ref.data is None and ref.path and not Path(ref.path).is_absolute() for ref in sample.images)
        assert len(sample.id) == len(sample.group) == 16
        assert all(isinstance(value, str) for value in sample.extra.values())
    assert len({sample.id for sample in samples}) == len({sample.group for sample in samples}) == 3


@pytest.mark.parametrize("name", CASES)
def test_reading_is_deterministic(tmp_path: Path, name: str):
    assert read(tmp_path, name, CASES[name].records) == read(tmp_path, name, CASES[name].records)


@pytest.mark.parametrize("name", CASES)
def test_the_format_is_detected(tmp_path: Path, name: str):
    assert find_source(write(tmp_path, CASES[name], CASES[name].records)).name == name


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.write_back])
def test_records_are_written_back_equal(tmp_path: Path, name: str):
    unusual = {**CASES[name].records[2], "note": {"deep": [1, None]}, "": "x"}
    if "problem" in unusual:
        unusual["solution"] = "b"
    if name == "med-r1":
        unusual |= {"problem": INLINE.replace("A)", "A) ") + " ", "thinking": "<think>so</think>"}
    records = [*CASES[name].records[:2], unusual]
    write_back = SOURCES[name].write_back
    assert write_back is not None
    back = [write_back(sample) for sample in read(tmp_path, name, records)]
    assert back == records
    assert [list(record) for record in back] == [list(record) for record in records]


@pytest.mark.parametrize("name", CASES)
def test_a_repeated_question_is_refused(tmp_path: Path, name: str):
    records = CASES[name].records
    with pytest.raises(DataError, match="record 4: repeats the question of record 2"):
        read(tmp_path, name, [*records, records[1]])


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in case.broken])
def test_a_broken_record_is_named(tmp_path: Path, name: str, kind: str):
    case = CASES[name]
    records = [*case.records[:1], case.records[1] | case.broken[kind], *case.records[2:]]
    with pytest.raises(DataError, match=rf"{case.file} record 2: .+"):
        read(tmp_path, name, records)
