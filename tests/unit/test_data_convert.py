import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medr1.data import SOURCES
from medr1.data.convert import LeftOutCounts, choose, convert
from medr1.data.images import png_bytes
from medr1.data.settings import ConvertSettings
from medr1.data.source import choice_sample
from medr1.errors import ConfigError, DataError
from medr1.records import as_json, data_hash, read_json, read_samples
from run_faults import files

Records = list[dict[str, Any]]


def records(count: int) -> Records:
    """Questions about the pictures that `folder` draws, in Med-R1's schema."""
    return [
        {
            "image": f"Images/MIAS/{n % 3} %20#.png",
            "problem": f"Number {n}? A)x, B)y",
            "solution": "<answer> B </answer>",
        }
        for n in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "Images" / "MIAS"
    images.mkdir(parents=True)
    for n in range(3):
        Image.new("L", (4, 4), n).save(images / f"{n} %20#.png")
    write(tmp_path, records(6))
    return tmp_path


def write(folder: Path, value: Any) -> None:
    (folder / "X-Ray_test.json").write_text(json.dumps(value))


def job(folder: Path, **change: Any) -> ConvertSettings:
    return ConvertSettings(**({"path": folder / "X-Ray_test.json", "out": folder / "out"} | change))


def test_a_converted_folder_has_everything(folder: Path):
    calls = []
    summary = convert(job(folder), lambda done, total: calls.append((done, total)))
    assert calls == [(n, 6) for n in range(1, 7)]
    samples = list(read_samples(folder / "out"))
    assert [(SOURCES["med-r1"].write_back or str)(sample) for sample in samples] == records(6)
    assert [ref.path for sample in samples[:3] for ref in sample.images] == [f"{n} %20#.png" for n in range(3)]
    assert samples[1].images[0].data == (folder / "Images/MIAS/1 %20#.png").read_bytes()
    expected = {
        "source": "med-r1",
        "n": 6,
        "num_groups": 3,
        "by_modality": {"X-Ray": 6},
        "by_task": {"unknown": 6},
        "by_num_options": {"2": 6},
        "by_source": {"MIAS": 6},
        "by_answer_type": {"choice": 6},
        "data_hash": data_hash(samples),
        "missing_images": 0,
        "left_out": {"withheld": 0, "bad": 0, "first_bad": []},
    }
    assert summary.written() == expected
    manifest = read_json(folder / "out" / "manifest.json")
    assert manifest.items() >= expected.items()
    assert manifest["arguments"]["path"] == "X-Ray_test.json"
    assert manifest["command"] == "data convert"
    assert manifest["state"] == "done"
    assert list(files(folder / "out")) == ["data-00000.parquet", "manifest.json"]


def test_the_limit_draws_at_random_and_repeatably(folder: Path):
    samples = [
        choice_sample(source="s", image_names=[f"{n}"], question="?", options=["a", "b"], answer_index=0)
        for n in range(1000)
    ]
    drawn = choose(samples, 100, seed=1)
    positions = [samples.index(sample) for sample in drawn]
    assert positions == sorted(set(positions))
    assert len(positions) == 100
    assert 400 < sum(positions) / 100 < 600, "the middle of a uniform draw, four standard errors around it"
    assert choose(samples, 100, seed=1) == drawn != choose(samples, 100, seed=2)
    assert choose(samples, 1000, seed=1) == choose(samples, None, seed=1) == samples
    assert convert(job(folder, limit=2, seed=5)).n == 2
    with pytest.raises(ConfigError, match="limit"):
        convert(job(folder, limit=0, out=folder / "none"))


def change_first(**change: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        first, *others = records(6)
        write(folder, [*others, first | change])

    return spoil


BAD_INPUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing image": (
        lambda folder: (folder / "Images/MIAS/2 %20#.png").unlink(),
        r"2 %20#\.png does not exist.*--image-root",
    ),
    "corrupt image": (
        lambda folder: (folder / "Images/MIAS/2 %20#.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        r"2 %20#\.png",
    ),
    "empty image": (lambda folder: (folder / "Images/MIAS/2 %20#.png").write_bytes(b""), r"2 %20#\.png is empty"),
    "JSON not a list": (lambda folder: write(folder, {"a": 1}), "not a list"),
    "empty list": (lambda folder: write(folder, []), "no records"),
    "letter outside the options": (change_first(solution="<answer> C </answer>"), "record 6: the gold letter C"),
    "empty question": (change_first(problem="  A)x, B)y"), "record 6: the question is empty"),
    "duplicate": (lambda folder: write(folder, records(6) + records(1)), "record 7: repeats the question of record 1"),
    "path that leads out": (change_first(image="Images/MIAS/../../../x.png"), "'..'"),
    "absolute path": (change_first(image="/etc/passwd"), "'/etc/passwd'"),
    "no source": (lambda folder: write(folder, [{"text": 1}]), "fields text"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "overwrite"])
def test_bad_input_ends_in_one_clear_error_and_leaves_nothing(folder: Path, name: str, existing: bool):
    spoil, message = BAD_INPUTS[name]
    if existing:
        convert(job(folder))
    spoil(folder)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(DataError, match=message):
        convert(job(folder, overwrite=True))
    assert sorted(path.name for path in folder.iterdir()) == before
    if existing:
        assert len(list(read_samples(folder / "out"))) == 6


SKIPPED = {
    "missing image": 2,
    "corrupt image": 2,
    "empty image": 2,
    "letter outside the options": 1,
    "empty question": 1,
    "duplicate": 1,
    "path that leads out": 1,
    "absolute path": 1,
}
"""How many records each bad input costs; what is not here spoils the file as a whole."""


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_records_are_skipped_and_named_where_asked_for(folder: Path, name: str):
    spoil, message = BAD_INPUTS[name]
    spoil(folder)
    total = 7 if name == "duplicate" else 6
    if name not in SKIPPED:
        with pytest.raises(DataError, match=message):
            convert(job(folder, skip_bad=True))
        return
    summary = convert(job(folder, skip_bad=True))
    left_out = summary.left_out
    assert (left_out.bad, left_out.withheld) == (SKIPPED[name], 0)
    assert summary.n == len(list(read_samples(folder / "out"))) == total - SKIPPED[name]
    assert len(left_out.first_bad) == SKIPPED[name]
    assert all(re.search(message, line) for line in left_out.first_bad)
    assert str(folder) not in as_json(left_out), "a manifest holds no folder of this machine"
    manifest = read_json(folder / "out" / "manifest.json")
    assert manifest["left_out"] == left_out.written()
    assert manifest["arguments"]["skip_bad"] is True


def test_many_bad_records_are_counted_and_the_first_named(folder: Path):
    rows = [row | {"solution": "?"} if n % 2 else row for n, row in enumerate(records(40))]
    write(folder, rows)
    left_out = convert(job(folder, skip_bad=True, limit=3)).left_out
    assert left_out.bad == 20, "of the whole file, each once"
    assert [line.split(":")[0] for line in left_out.first_bad] == [
        f"X-Ray_test.json record {number}" for number in (2, 4, 6, 8, 10)
    ]


def test_the_images_are_found_by_the_first_good_record(folder: Path):
    first, *others = records(6)
    (folder / "imgs").mkdir()
    (folder / "Images").rename(folder / "imgs" / "Images")
    rows = [first | {"solution": "?"}, *others]
    slake = [
        {"img_name": row["image"], "question": row["problem"], "answer": "" if n == 0 else "lung", "q_lang": "en"}
        | {"modality": "CT"}
        for n, row in enumerate(rows)
    ]
    write(folder, slake)
    assert convert(job(folder, skip_bad=True)).n == 5


def test_nothing_is_written_where_nothing_can_be_used(folder: Path):
    write(folder, [row | {"solution": "?"} for row in records(6)])
    with pytest.raises(
        DataError, match=r"nothing but 6 bad records, the first: .*X-Ray_test\.json record 1: the answer '\?' is not"
    ):
        convert(job(folder, skip_bad=True))
    write(folder, records(6))
    with pytest.raises(DataError, match=r"nothing but 2 bad records, the first: image .* --image-root"):
        convert(job(folder, skip_bad=True, image_root=folder / "none", limit=2))
    assert not (folder / "out").exists()


def test_a_bad_image_inside_a_record_is_found_by_its_question(tmp_path: Path):
    row = {"category": "x", "question_zh": "?", "data_id": 1, "answer": "B"}
    rows = [
        {**row, "question_en": f"Which {n}?", "image": {"bytes": data, "path": None}}
        for n, data in enumerate((png_bytes(Image.new("L", (2, 2))), b"no picture"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"question 'Which 1\?': image .* is none of PNG"):
        convert(ConvertSettings(path=tmp_path, out=tmp_path / "out"))


def huatuo(answers: str) -> Records:
    options = {"question": "Which?", "options": ["a", "b"], "subset": "CT"}
    return [
        {"image": [row["image"]], "answer": answer, "dataset": "MMMU" if answer == "?" else "VQA", **options}
        for row, answer in zip(records(len(answers)), answers, strict=True)
    ]


def test_withheld_answers_are_counted(folder: Path):
    write(folder, huatuo("a??b"))
    summary = convert(job(folder))
    assert (summary.n, summary.left_out) == (2, LeftOutCounts(withheld=2, bad=0, first_bad=[]))
    assert convert(job(folder, where=("dataset=VQA",), overwrite=True)).left_out.withheld == 0, "what was not asked for"
    write(folder, huatuo("???"))
    with pytest.raises(DataError, match=r"X-Ray_test\.json tells no answer, its publisher keeps all 3"):
        convert(job(folder, overwrite=True))


def test_text_only_work_keeps_the_names_of_missing_images(folder: Path):
    (folder / "Images/MIAS/2 %20#.png").unlink()
    summary = convert(job(folder, allow_missing_images=True))
    assert summary.missing_images == 2
    refs = [sample.images[0] for sample in read_samples(folder / "out")]
    assert [ref.data is None for ref in refs] == [False, False, True] * 2
    assert refs[2].path == str(folder / "out" / "Images/MIAS/2 %20#.png")


def test_missing_images_do_not_excuse_names_that_lead_out(folder: Path):
    change_first(image="../secret.png")(folder)
    with pytest.raises(DataError, match="secret"):
        convert(job(folder, allow_missing_images=True))


def test_the_image_root_may_be_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    write(other, records(2))
    assert convert(job(other, image_root=folder)).n == 2


def test_the_twelve_published_examples(real_data: Path, tmp_path: Path):
    summary = convert(ConvertSettings(path=real_data / "medvlm_r1/cases.json", out=tmp_path / "cases"))
    assert summary.by_modality == {"CT": 2, "MRI": 8, "X-Ray": 2}
    assert summary.missing_images == 0
    assert all(sample.images[0].data for sample in read_samples(tmp_path / "cases"))
