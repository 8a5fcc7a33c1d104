import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medr1.data import find_source, read_source, record_files
from medr1.data.record_files import data_files, read_records
from medr1.doors import Most
from medr1.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), values), min_size=1, max_size=6), indent=st.none() | st.integers(0, 4))
def test_a_json_list_is_read_as_the_json_module_does(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, indent: int | None
):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(rows, indent=indent))
    assert list(read_records(path)) == rows


def test_records_longer_than_a_chunk_and_chunks_inside_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record_files, "_CHUNK_CHARS", 3)
    rows = [{"é": "ü" * length, "n": [length, {"x": None}]} for length in range(40)]
    text = json.dumps(rows, ensure_ascii=False).encode()
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf \n" + text + b"\n")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text))
    assert list(read_records(tmp_path / "a.json")) == list(read_records(tmp_path / "a.json.gz")) == rows


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.tsv"])
def test_a_record_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(Most, "RECORD_CHARS", 1000)
    monkeypatch.setattr(record_files, "_CHUNK_CHARS", 100)
    opening = {"a.json": '[{"a": "', "a.jsonl": '{"a": "', "a.csv": 'a\n"', "a.tsv": 'a\n"'}[name]
    (tmp_path / name).write_text(opening + "x" * 10_000 + '"}]')
    with pytest.raises(DataError, match=name):
        list(read_records(tmp_path / name))


def test_reading_stops_where_the_caller_stops(tmp_path: Path):
    (tmp_path / "a.json").write_text('[{"a": 1}, {"a": 2}, ' + " " * 10**6 + "damage")
    records = read_records(tmp_path / "a.json")
    assert [next(records), next(records)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match="record 3"):
        next(records)


def test_tables_are_read_with_tabs_quotes_and_long_cells(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('a\tb\nx\t"y\t""z"""\n' + "1" * 300_000 + "\t2\n")
    first, second = read_records(tmp_path / "a.tsv")
    assert first == {"a": "x", "b": 'y\t"z"'}
    assert len(second["a"]) == 300_000


def test_parquet_rows_stream(tmp_path: Path):
    pq.write_table(pa.Table.from_pylist([{"n": n, "b": b"x"} for n in range(100)]), tmp_path / "a.parquet")
    assert list(read_records(tmp_path / "a.parquet")) == [{"n": n, "b": b"x"} for n in range(100)]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(read_records(tmp_path / "a.parquet"))


def test_a_folder_of_save_to_disk_is_one_file(tmp_path: Path):
    from datasets import Dataset, DatasetDict, Image

    rows = [{"image": {"bytes": b"1", "path": None}, "question": f"{n}?", "answer": "yes"} for n in range(50)]
    saved = Dataset.from_list(rows).cast_column("image", Image(decode=False))
    DatasetDict({"train": saved, "test": saved.select(range(3))}).save_to_disk(str(tmp_path / "both"))
    files = data_files(tmp_path / "both", record_files.ROW_SUFFIXES)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "both/test/state.json",
        "both/train/state.json",
    ]
    assert find_source(tmp_path / "both" / "train").name == "rows"
    samples = list(read_source(tmp_path / "both" / "train"))
    assert [sample.question for sample in samples] == [f"{n}?" for n in range(50)]
    assert {(sample.source, sample.images[0].data, sample.extra["split"]) for sample in samples} == {
        ("both", b"1", "train")
    }
    assert len({sample.id for sample in read_source(tmp_path / "both")}) == 53, "the test rows are kept beside train's"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{}", "lists no data files"),
        ("[]", "lists no data files"),
        ('{"_data_files": 1}', "lists no data files"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "has '..'"),
        ("x", "not JSON"),
    ],
)
def test_a_saved_folder_that_lists_no_files_of_its_own_is_refused(tmp_path: Path, state: str, message: str):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=message):
        list(read_records(tmp_path / "state.json"))


def test_a_table_without_columns_is_refused_in_a_sentence(tmp_path: Path):
    pq.write_table(pa.table({"question": ["?"]}).select([]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no"):
        list(read_records(tmp_path / "a.parquet"))
