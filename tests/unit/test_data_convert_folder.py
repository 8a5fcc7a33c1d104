"""The folder that `convert` writes: refused for other input, not touched when it is done, never anybody else's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_commands import make_sources, small_shards
from medr1.data.convert import convert
from medr1.data.settings import ConvertSettings
from medr1.errors import ConfigError
from medr1.records import read_json, read_samples
from run_faults import assert_same, files, moments, refusal, stamps, stopped


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return make_sources(tmp_path / "own") / "own.jsonl"


def changed_row(**change: Any) -> Callable[[Path], object]:
    def spoil(own: Path) -> None:
        first, *others = own.read_text().splitlines()
        own.write_text("\n".join([json.dumps(json.loads(first) | change), *others]) + "\n")

    return spoil


def other_picture(own: Path) -> None:
    Image.new("RGB", (12, 10), (1, 1, 1)).save(own.parent / "pictures" / "0.png")


OTHER_INPUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "question": (changed_row(question="Other?"), "other questions"),
    "answer": (changed_row(answer="B"), "other gold answers"),
    "modality": (changed_row(modality="X-Ray"), "other labels"),
    "picture": (other_picture, "other pictures"),
    "name of a picture": (changed_row(image="pictures/1.png"), "other labels; other pictures; other questions"),
}
OTHER_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "limit": ({"limit": 3}, "limit was None, now 3; other pictures"),
    "seed": ({"seed": 1}, "seed was 0, now 1"),
    "skip_bad": ({"skip_bad": True}, "skip bad was False, now True"),
    "allow_missing": ({"allow_missing_images": True}, "allow missing images was False, now True"),
    "choice": (
        {"where": ("modality=CT",)},
        "other gold answers; other labels; other pictures; other questions; mod",
    ),
}


@pytest.mark.parametrize("name", [*OTHER_INPUTS, *OTHER_SETTINGS])
def test_other_input_is_refused_by_name_and_may_replace(own: Path, name: str):
    out = own.parent / "out"
    whole = ConvertSettings(path=own, out=out)
    convert(whole)
    change, settings = (lambda path: None), {}
    if name in OTHER_INPUTS:
        change, named = OTHER_INPUTS[name]
    else:
        settings, named = OTHER_SETTINGS[name]
    change(own)
    other = whole.model_copy(update=settings)
    said = refusal(lambda: convert(other), own.parent)
    assert f"out holds another run ({named}" in said
    assert said.endswith("choose another folder, or start anew with --overwrite")
    convert(other.model_copy(update={"overwrite": True}))
    convert(other.model_copy(update={"out": own.parent / "fresh"}))
    assert_same(out, own.parent / "fresh", but=("manifest.json",))


def test_what_does_not_change_the_result_does_not_matter(own: Path):
    first = convert(ConvertSettings(path=own, out=own.parent / "out"))
    moved = own.parent.rename(own.parent.with_name("moved"))
    Image.new("L", (3, 3)).save(moved / "pictures" / "unasked.png")
    before = stamps(moved)
    job = ConvertSettings(path=moved / "own.jsonl", out=moved / "out", source="jsonl", image_root=moved)
    assert convert(job) == first
    assert stamps(moved) == before


def test_a_limit_asks_for_the_pictures_that_are_drawn(own: Path):
    job = ConvertSettings(path=own, out=own.parent / "out", limit=3)
    convert(job)
    drawn = {sample.images[0].path for sample in read_samples(job.out)}
    for n in range(8):
        if f"{n}.png" not in drawn:
            (own.parent / "pictures" / f"{n}.png").unlink()
    before = stamps(own.parent)
    convert(job)
    assert stamps(own.parent) == before


def test_shards_that_were_taken_away_are_made_again(own: Path):
    job = ConvertSettings(path=own, out=own.parent / "out")
    first = convert(job)
    (job.out / "data-00000.parquet").unlink()
    assert convert(job) == first
    assert len(list(read_samples(job.out))) == 8


def test_shards_of_an_unfinished_call_do_not_stay(own: Path):
    whole, job = (ConvertSettings(path=own, out=own.parent / name) for name in ("whole", "out"))
    with small_shards():
        before_done = moments(lambda: convert(whole))[-2]
        assert stopped(lambda: convert(job), before_done)
    assert len(files(job.out)) == 5
    convert(job)
    assert list(files(job.out)) == ["data-00000.parquet", "manifest.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_that_is_not_its_own_is_left_alone(own: Path, overwrite: bool):
    taken = own.parent / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    (own.parent / "file").write_text("mine")
    (own.parent / "web").mkdir()
    (own.parent / "web" / "manifest.json").write_text('{"name": "a web page"}')
    for name, said in (
        ("taken", "is not empty and holds no run (thesis.txt is there)"),
        ("file", "is a file; name a folder"),
        ("web", "is no manifest of medr1"),
        ("pictures", "is not empty and holds no run (0.png is there)"),
    ):
        job = ConvertSettings(path=own, out=own.parent / name, overwrite=overwrite)
        assert said in refusal(lambda job=job: convert(job), own.parent)


def test_two_at_once_are_one_too_many(own: Path):
    job = ConvertSettings(path=own, out=own.parent / "out")
    said: list[str] = []

    def second(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(ConfigError) as caught:
                convert(job)
            said.append(str(caught.value))

    convert(job, second)
    assert said == ["another command is writing out; wait for it, or choose another folder"]


def test_a_folder_of_version_0_1_is_read_and_not_taken_for_the_same(own: Path):
    job = ConvertSettings(path=own, out=own.parent / "out")
    convert(job)
    manifest = read_json(job.out / "manifest.json")
    for name in ("command", "state", "identity"):
        del manifest[name]
    (job.out / "manifest.json").write_text(json.dumps(manifest))
    assert len(list(read_samples(job.out))) == 8
    assert "was written by version 0.1.0, which did not note what went in" in refusal(lambda: convert(job), own.parent)
    (job.out / "notes.txt").write_text("mine")
    anew = job.model_copy(update={"overwrite": True})
    assert "also holds notes.txt, which `medr1 data convert` does not write" in refusal(
        lambda: convert(anew), own.parent
    )
    (job.out / "notes.txt").unlink()
    assert convert(anew).n == 8
