import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data import SOURCES
from medr1.data.images import open_image
from medr1.errors import ConfigError, DataError
from medr1.records import read_samples

RECORD = {"image": "a.png", "question": "Which?", "options": ["CT", "MRI"], "answer": "B", "modality": "CT"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(RECORD | {"question": f"Number {n}?"}) + "\n" for n in range(5)))
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sources_are_listed():
    listed = run("sources")
    assert all(name in listed for name in SOURCES)


def test_convert_prints_json_that_stats_repeats(data: Path):
    out = data.parent / "out"
    printed = json.loads(
        run("convert", data, "--out", out, "--limit", 3, "--seed", 1, "--allow-missing-images", "--json")
    )
    assert (printed["n"], printed["missing_images"], printed["source"]) == (3, 3, "jsonl")
    assert len(list(read_samples(out))) == 3
    counts = json.loads(run("stats", out, "--json"))
    repeated = {"n", "num_groups", "by_modality", "by_task", "by_num_options", "by_source", "data_hash"}
    assert {name: counts[name] for name in repeated} == {name: printed[name] for name in repeated}


def test_convert_prints_a_table(data: Path):
    table = run("convert", data, "--out", data.parent / "out", "--source", "jsonl", "--allow-missing-images")
    assert "5 questions" in table
    assert "images missing" in table
    assert "CT" in table


def test_errors_reach_the_caller_and_leave_no_folder(data: Path):
    with pytest.raises(DataError, match=r"a\.png"):
        run("convert", data, "--out", data.parent / "out")
    assert [path.name for path in data.parent.iterdir()] == ["own.jsonl"]


def test_bad_records_are_skipped_with_a_line_for_the_first(data: Path):
    rows = [RECORD | {"question": f"Number {n}?", "answer": "?" if n < 7 else "B"} for n in range(9)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--skip-bad", "--allow-missing-images")
    printed = run("convert", data, "--out", data.parent / "out", *flags)
    assert "2 questions" in printed
    assert re.search(r"left out .* cannot be used .* 7 ", printed)
    named = [line for line in printed.splitlines() if line.startswith("left out: ")]
    assert len(named) == 6
    assert named[0].startswith("left out: own.jsonl record 1: the answer '?' is not among the options")
    assert named[5] == "left out: and 2 more"
    assert "left out" not in run("convert", data, "--out", data.parent / "good", *flags, "--where", "answer=B")


def test_pictures_that_no_qwen_vl_takes_are_counted_and_named(data: Path):
    for number in range(7):
        Image.new("L", (2500, 10) if number < 6 else (100, 100), number).save(data.parent / f"{number}.png")
    rows = [RECORD | {"question": f"Number {n}?", "image": f"{n}.png"} for n in range(7)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = run("convert", data, "--out", data.parent / "out")
    assert re.search(r"pictures unfit .* 6 ", printed)
    named = [line for line in printed.splitlines() if line.startswith("unfit for Qwen-VL: ")]
    assert len(named) == 6
    assert named[0].startswith("unfit for Qwen-VL: 0.png: 2500 × 10 pixels: one side is more than 200 times the other")
    assert named[5] == "unfit for Qwen-VL: and 1 more"
    again = json.loads(run("convert", data, "--out", data.parent / "out", "--json"))
    assert (again["unfit_pictures"], len(again["first_unfit"])) == (6, 5)
    assert len(list(read_samples(data.parent / "out"))) == 7
    data.write_text(json.dumps(rows[6]) + "\n")
    assert "unfit" not in run("convert", data, "--out", data.parent / "good")


def test_records_are_chosen_and_columns_mapped(data: Path):
    out = data.parent / "out"
    flags = ("--where", "question=Number 1?", "--where", "question=Number 3?", "--column", "rationale=modality")
    assert json.loads(run("convert", data, "--out", out, *flags, "--allow-missing-images", "--json"))["n"] == 2
    assert [(sample.question, sample.rationale) for sample in read_samples(out)] == [
        ("Number 1?", "CT"),
        ("Number 3?", "CT"),
    ]
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        run("convert", data, "--out", data.parent / "other", "--where", "question")


def test_resize_writes_the_size_that_was_asked_for(data: Path):
    Image.new("L", (10, 20), 9).save(data.parent / "a.png")
    run("convert", data, "--out", data.parent / "out")
    assert "5 questions" in run(
        "resize", data.parent / "out", "--out", data.parent / "small", "--size", 4, "--longest-side"
    )
    assert {open_image(sample.images[0]).size for sample in read_samples(data.parent / "small")} == {(2, 4)}


def test_download_says_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda **arguments: None)
    told = CliRunner().invoke(app, ["download", "slake", "--out", str(tmp_path)], catch_exceptions=False).stderr
    assert f"Next: medr1 data convert {tmp_path} --source slake --out DIR" in told
    with pytest.raises(ConfigError, match=r"med-r1 has no download: .*github"):
        run("download", "med-r1", "--out", tmp_path)


def test_questions_without_a_picture_and_options_that_refer_are_told(tmp_path: Path) -> None:
    rows = [
        {"question": "Which?", "options": ["Right", "Left", "Both A and B"], "answer": "c"},
        {"question": "Where?", "options": ["A. Right", "B. Left"], "answer": "B"},
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["convert", str(tmp_path / "own.jsonl"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, arguments)
    assert "record 1: has no picture (as 1 more)" in str(refused.exception)
    told = CliRunner().invoke(app, [*arguments, "--allow-text-only"], catch_exceptions=False).output
    assert "asked as text alone" in told
    assert "options speak of others" in told
    assert "Next: medr1 data stats" in told
    assert [sample.gold for sample in read_samples(tmp_path / "out")] == ["C", "B"]
