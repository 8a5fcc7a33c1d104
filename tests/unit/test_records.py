import datetime
import getpass
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medr1.errors import DataError
from medr1.records import (
    JsonlAppender,
    data_hash,
    manifest,
    read_json,
    read_jsonl,
    read_samples,
    sample_id,
    write_json,
    write_samples,
)
from medr1.records import samples as samples_module
from medr1.types import ANSWER_TYPES, MODALITIES, TASKS, ImageRef, Sample

IN_FOLDER = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

SAMPLE = Sample(
    id="00", images=(ImageRef(path="x.png", data=b"PNG"),), question="Which?", options=("a", "b"), answer_index=1
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
sample_lists = st.lists(
    st.builds(
        Sample,
        id=st.uuids().map(str),
        images=st.lists(st.builds(ImageRef, path=texts, data=st.binary(max_size=5)), max_size=2).map(tuple),
        question=texts,
        options=st.lists(texts, min_size=3, max_size=10).map(tuple),
        answer_index=st.none() | st.integers(0, 2),
        answer_type=st.sampled_from(ANSWER_TYPES),
        answers=st.lists(texts, max_size=2).map(tuple),
        modality=st.sampled_from(MODALITIES),
        task=st.sampled_from(TASKS),
        source=texts,
        group=texts,
        rationale=st.none() | texts,
        extra=st.dictionaries(texts, texts, max_size=2),
        variant=texts,
    ),
    max_size=5,
)


# --- JSON and JSON lines ------------------------------------------------------------------------------------------


def test_files_of_other_kinds_are_told_what_to_do(tmp_path: Path) -> None:
    for name, content, message in (
        ("own.csv", b"image,question\n", r"data convert .*own\.csv --out DIR"),
        ("own.jsonl", b"{}", r"data convert .*own\.jsonl --out DIR"),
        ("own.zip", b"PK\x03\x04", "own.zip is an archive; unpack it"),
        ("own.tar.gz", b"\x1f\x8b", "is an archive; unpack it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(read_samples(tmp_path / name))


def test_json_keeps_the_order_of_keys_and_replaces_the_file(tmp_path: Path):
    path = tmp_path / "deep" / "results.json"
    write_json(path, {"old": 1})
    write_json(path, {"z": 1, "a": [1.5, None]})
    assert path.read_text() == '{\n  "z": 1,\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "results.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": 1, "bad": object()})
    assert read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b""])
def test_an_unreadable_json_file_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        read_json(path)


@pytest.mark.parametrize("tail", [b'{"id": 3', b'{"id": "\xc3', b'{"id": 3}', b"\n\n", b'{"id": \n', b"garbage\n"])
def test_a_torn_last_line_is_dropped_and_cut_when_appending_goes_on(tmp_path: Path, tail: bytes):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id": 2}\n' + tail)
    assert read_jsonl(path) == [{"id": 1}, {"id": 2}]
    with JsonlAppender(path) as log:
        log.append({"id": 4, "text": "line\nbreak é \u2028 \ud800"})
        assert [record["id"] for record in read_jsonl(path)] == [1, 2, 4], "flushed before it is closed"
    assert read_jsonl(path)[-1]["text"] == "line\nbreak é \u2028 \ud800"


def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path: Path):
    path, cut = tmp_path / "log.jsonl", tmp_path / "cut.jsonl"
    records = [{"id": "é", "n": 1}, {"id": "b", "n": {"deep": [1, 2]}}, {"id": "c", "n": 3}]
    with JsonlAppender(path) as log:
        for record in records:
            log.append(record)
    data = path.read_bytes()
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        whole = data[:length].count(b"\n")
        assert read_jsonl(cut) == records[:whole]
        with JsonlAppender(cut) as log:
            log.append({"id": "new"})
        assert read_jsonl(cut) == [*records[:whole], {"id": "new"}]


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"\xff"])
def test_a_bad_line_before_the_last_is_named(tmp_path: Path, bad: bytes):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"id": 1}\n' + bad + b'\n{"id": 2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl line 2"):
        read_jsonl(path)


def test_a_missing_jsonl_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.jsonl"):
        read_jsonl(tmp_path / "none.jsonl")


# --- Samples ------------------------------------------------------------------------------------------------------


@IN_FOLDER
@given(samples=sample_lists)
def test_samples_come_back_equal(tmp_path: Path, samples: list[Sample]):
    assert write_samples(tmp_path / "data", samples, overwrite=True) == len(samples)
    assert list(read_samples(tmp_path / "data")) == samples


def test_datasets_reads_the_folder_with_decoded_images(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    Image.new("RGB", (3, 2), (9, 8, 7)).save(tmp_path / "x.png")
    sample = replace(SAMPLE, images=(ImageRef(path=str(tmp_path / "x.png")),) * 2, extra={"k": "v"})
    write_samples(tmp_path / "data", [sample])
    write_json(tmp_path / "data" / "manifest.json", {"seed": 0})
    table = datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(table.features["images"].feature, datasets.Image)
    assert [image.getpixel((2, 1)) for image in table[0]["images"]] == [(9, 8, 7)] * 2
    assert table[0]["options"] == ["a", "b"]
    assert table[0]["answer_index"] == 1

    table.save_to_disk(str(tmp_path / "saved"))
    embedded = replace(sample, images=(ImageRef(path="x.png", data=(tmp_path / "x.png").read_bytes()),) * 2)
    assert list(read_samples(tmp_path / "data")) == [embedded]
    assert list(read_samples(tmp_path / "saved")) == [embedded]
    datasets.DatasetDict(train=table, test=table).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match="test, train"):
        list(read_samples(tmp_path / "splits"))


def test_references_resolve_against_the_folder(tmp_path: Path):
    folder = tmp_path / "data"
    inside = [folder / "images/71%1 #2.png", folder / "images/x.png"]
    paths = ("images/71%1 #2.png", str(inside[1]))
    referenced = [replace(SAMPLE, id=path, images=(ImageRef(path=path),)) for path in paths]
    write_samples(folder, referenced, embed_images=False)
    for path in (folder, folder / "data-00000.parquet"):
        assert [sample.images[0].path for sample in read_samples(path)] == [str(path) for path in inside]


@pytest.mark.parametrize("path", ["/elsewhere/x.png", "../x.png", "a/../../x.png", "out/x.png", "x" * 2000, "a\0b", ""])
def test_references_that_lead_out_are_refused_by_row(tmp_path: Path, path: str):
    samples = [replace(SAMPLE, id=name, images=(ImageRef(path=name),)) for name in ("x.png", path)]
    write_samples(tmp_path / "data", samples, embed_images=False)
    (tmp_path / "data" / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match="row 2: path"):
        list(read_samples(tmp_path / "data"))


def test_large_sets_are_split_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples_module, "ROW_GROUP_BYTES", 10)
    monkeypatch.setattr(samples_module, "SHARD_BYTES", 25)
    samples = [replace(SAMPLE, id=str(n), images=(ImageRef(path="x", data=bytes(10)),)) for n in range(5)]
    assert write_samples(tmp_path / "data", iter(samples)) == 5
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == [f"data-0000{n}.parquet" for n in range(3)]
    assert list(read_samples(tmp_path / "data")) == samples


def test_failing_in_the_middle_leaves_nothing(tmp_path: Path):
    def failing():
        yield SAMPLE
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_samples(tmp_path / "data", failing())
    with pytest.raises(DataError, match=r"gone\.png"):
        write_samples(tmp_path / "data", [replace(SAMPLE, images=(ImageRef(path=str(tmp_path / "gone.png")),))])
    with pytest.raises(DataError, match="two samples have the id 00"):
        write_samples(tmp_path / "data", [SAMPLE, replace(SAMPLE, question="Other?")])
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_replaced_only_on_request_and_only_by_a_whole_one(tmp_path: Path):
    folder = tmp_path / "data"
    write_samples(folder, [SAMPLE])
    with pytest.raises(DataError, match="not empty"):
        write_samples(folder, [])

    def interrupted() -> Iterator[Sample]:
        yield replace(SAMPLE, id="01")
        (left,) = tmp_path.glob(".data*")
        shutil.copytree(left, tmp_path / "left")
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        write_samples(folder, interrupted(), overwrite=True)
    (tmp_path / "left").rename(tmp_path / ".data.partial")  # as a kill leaves it
    assert list(read_samples(folder)) == [SAMPLE]
    other = replace(SAMPLE, id="01")
    write_samples(folder, [other], overwrite=True)
    assert list(read_samples(folder)) == [other]
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_variants_of_one_sample_live_together(tmp_path: Path):
    samples = [SAMPLE, replace(SAMPLE, variant="blank_image")]
    write_samples(tmp_path / "data", samples)
    assert list(read_samples(tmp_path / "data")) == samples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "Sonar"}, "modality 'Sonar'"),
        ({"answer_index": 2}, "answer_index 2"),
        ({"answer_index": -1}, "answer_index -1"),
        ({"extra": "{"}, "extra"),
        ({"id": None}, "id is empty"),
        ({"images": ["x.png"]}, "the column 'images' is list<.*string> and should be list<.*bytes: binary"),
        ({"question": 1}, "the column 'question' is int64 and should be string"),
        ({"options": ["No", None]}, "one of its options is empty"),
        ({"images": [None]}, "images are not"),
    ],
)
def test_rows_outside_the_contract_are_refused(tmp_path: Path, change: dict, message: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"id": "1", "images": [{"bytes": b"", "path": "x"}], "question": "?", "options": ["a", "b"]} | change
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "foreign.parquet")
    with pytest.raises(DataError, match=f"(row 1: |parquet: ){message}"):
        list(read_samples(tmp_path / "foreign.parquet"))


def test_foreign_or_damaged_files_are_refused(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "text.parquet").write_text("no parquet")
    pq.write_table(pa.table({"id": ["1"], "image": ["x"]}), tmp_path / "other.parquet")
    for name, message in {"text.parquet": "parquet", "other.parquet": "'images'", "none": "does not exist"}.items():
        with pytest.raises(DataError, match=message):
            list(read_samples(tmp_path / name))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no parquet shards"):
        list(read_samples(tmp_path / "empty"))


# --- Identity -----------------------------------------------------------------------------------------------------


def test_sample_ids_are_stable_and_tell_questions_apart():
    assert sample_id("d", ["x.png"], "Which?", ["a", "b"]) == "c2431db4bf4b0ed7"
    others = [
        sample_id("e", ["x.png"], "Which?", ["a", "b"]),
        sample_id("d", ["y.png"], "Which?", ["a", "b"]),
        sample_id("d", ["x.png"], "Which", ["a", "b"]),
        sample_id("d", ["x.png"], "Which?", ["b", "a"]),
        sample_id("d", ["x.png"], "Which?", ["ab"]),
    ]
    assert len({*others, "c2431db4bf4b0ed7"}) == 6


def test_the_data_hash_knows_options_and_answers_but_not_the_order():
    other = replace(SAMPLE, id="01", answer_index=0)
    assert data_hash([SAMPLE, other]) == data_hash([other, SAMPLE])
    changed = [replace(SAMPLE, answer_index=0), replace(SAMPLE, options=("a", "c")), replace(SAMPLE, id="02")]
    assert len({data_hash([sample]) for sample in (SAMPLE, *changed)}) == 4


def test_the_manifest_repeats_a_run_without_naming_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arguments = {
        "out": tmp_path / "runs/a",
        "data": "/elsewhere/data set",
        "deep": {"paths": [Path("/x/y")]},
        "lr": 1.0,
    }
    found = manifest(arguments, seed=3)
    assert found.arguments == {"out": "runs/a", "data": "data set", "deep": {"paths": ["y"]}, "lr": 1.0}
    assert found.seed == 3
    assert found.packages["numpy"]
    assert datetime.datetime.fromisoformat(found.started or "").utcoffset() == datetime.timedelta(0)
    values = json.dumps(found.model_dump(include={"arguments", "platform", "packages", "python"}))
    assert str(tmp_path) not in values
    assert socket.gethostname() not in values.replace("localhost", "")
    assert f"/{getpass.getuser()}/" not in values
