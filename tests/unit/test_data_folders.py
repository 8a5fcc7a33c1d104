"""The folders of `split`, `harden`, `resize`, `phantom`, `audit` and `stats`: other input is refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_commands import make_sources, question
from medr1.data import resize as resizing
from medr1.data.harden import harden
from medr1.data.phantom import write_phantoms
from medr1.data.resize import resize
from medr1.data.settings import (
    AuditSettings,
    HardenSettings,
    PhantomSettings,
    ResizeSettings,
    SplitSettings,
    StatsSettings,
)
from medr1.data.splits import GroupedSplit, split
from medr1.flows.audit import run_audit, run_stats
from medr1.records import read_samples, write_samples
from run_faults import assert_same, files, moments, refusal, stamps, stopped

Change = dict[str, Any] | Callable[[Path], object]
"""Other settings, or what is done to the data."""


def rewritten(name: str, **change: Any) -> Callable[[Path], object]:
    """Another value in the first sample of a data set."""

    def rewrite(folder: Path) -> None:
        first, *others = read_samples(folder / name)
        write_samples(folder / name, [replace(first, **change), *others], embed_images=False, overwrite=True)

    return rewrite


def reordered(name: str) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        samples = list(read_samples(folder / name))
        write_samples(folder / name, samples[::-1], embed_images=False, overwrite=True)

    return rewrite


def another_picture(folder: Path) -> None:
    first, *others = read_samples(folder / "data")
    (ref,) = others[0].images
    write_samples(folder / "data", [replace(first, images=(replace(ref, path="0.png"),)), *others], overwrite=True)


def phantoms(**settings: Any) -> int:
    return write_phantoms(PhantomSettings(**({"split": "train", "count": 2, "side": 28} | settings)))


def made(folder: Path, name: str, **settings: Any) -> object:
    """Run a command of this name with changed settings."""
    text, train = folder / "text", folder / "train"
    match name:
        case "split":
            return split(SplitSettings(data=text, out=folder / "out", **settings))
        case "harden":
            return harden(HardenSettings(**{"data": text, "out": folder / "out", "train": train, **settings}))
        case "resize":
            return resize(ResizeSettings(**{"path": folder / "data", "out": folder / "out", "size": 6, **settings}))
        case "audit":
            return run_audit(AuditSettings(train=train, test=text, out=folder / "out", **settings))
        case "stats":
            return run_stats(StatsSettings(path=text, out=folder / "out", **settings))
    return phantoms(out=folder / "out", **settings)


CASES: list[tuple[str, Change, str]] = [
    ("split", {"by": "modality"}, "by was 'none', now 'modality'"),
    ("split", {"test_share": 0.5}, "test share was 0.2, now 0.5"),
    ("split", {"series_gap": 3}, "series gap was 10, now 3"),
    ("split", {"series_max": 3}, "series max was 50, now 3"),
    ("split", {"seed": 1}, "seed was 0, now 1"),
    ("split", rewritten("text", question="Other?"), "other questions"),
    ("split", rewritten("text", answer_index=3), "other gold answers"),
    ("split", rewritten("text", modality="MRI"), "other labels"),
    ("split", reordered("text"), "other gold answers; other labels; other pictures; other questions"),
    ("harden", {"options": 3}, "options was 4, now 3"),
    ("harden", {"seed": 1}, "seed was 0, now 1"),
    ("harden", rewritten("text", answer_index=3), "other gold answers"),
    ("harden", rewritten("train", question="Other?"), "other train questions"),
    ("harden", {"train": None}, "other train gold answers; other train labels"),
    ("resize", {"size": 7}, "size was 6, now 7"),
    ("resize", {"longest_side": True}, "longest side was False, now True"),
    ("resize", another_picture, "other pictures"),
    ("resize", rewritten("data", extra={"a": "b"}), "other labels"),
    ("phantom", {"split": "test"}, "split was 'train', now 'test'"),
    ("phantom", {"count": 3}, "count was 2, now 3"),
    ("phantom", {"side": 29}, "side was 28, now 29"),
    ("phantom", {"seed": 1}, "seed was 0, now 1"),
    ("phantom", {"masks": True}, "masks was False, now True"),
    ("audit", {"seed": 1}, "seed was 0, now 1"),
    ("audit", {"text_only": True}, "with images was True, now False"),
    ("audit", rewritten("train", question="Other?"), "other train questions"),
    ("audit", rewritten("text", answer_index=3), "other test gold answers"),
    ("stats", {"seed": 1}, "seed was 0, now 1"),
    ("stats", rewritten("text", modality="MRI"), "other labels"),
]


@pytest.mark.parametrize(("name", "change", "named"), CASES)
def test_other_input_is_refused_by_name_and_may_replace(tmp_path: Path, name: str, change: Change, named: str) -> None:
    make_sources(tmp_path)
    made(tmp_path, name)
    settings = change if isinstance(change, dict) else {}
    if not isinstance(change, dict):
        change(tmp_path)
    said = refusal(partial(made, tmp_path, name, **settings), tmp_path)
    assert f"out holds another run ({named}" in said
    made(tmp_path, name, **settings, overwrite=True)
    (tmp_path / "out").rename(tmp_path / "replaced")
    made(tmp_path, name, **settings)
    assert_same(tmp_path / "replaced", tmp_path / "out", but=("manifest.json", "audit.html"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("split", {}), ("harden", {}), ("resize", {"threads": 2}), ("phantom", {"processes": 2}), ("stats", {})],
)
def test_what_does_not_change_the_result_does_not_matter(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    folder = make_sources(tmp_path / "first")
    first = made(folder, name)
    moved = folder.rename(tmp_path / "moved")
    before = stamps(moved)
    assert made(moved, name, **settings) == first
    assert stamps(moved) == before


@pytest.mark.parametrize("name", ["split", "harden", "resize", "phantom", "audit", "stats"])
def test_a_place_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    make_sources(tmp_path)
    (tmp_path / "out").write_text("mine")
    assert "out is a file" in refusal(partial(made, tmp_path, name), tmp_path)
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for settings in ({}, {"overwrite": True}):
        assert "(thesis.txt is there)" in refusal(partial(made, tmp_path, name, **settings), tmp_path)
    shutil.rmtree(tmp_path / "out")
    phantoms(out=tmp_path / "out", count=1) if name != "phantom" else made(tmp_path, "stats")
    holds = "data stats" if name == "phantom" else "data phantom"
    for settings in ({}, {"overwrite": True}):
        assert f"holds a run of `medr1 {holds}`" in refusal(partial(made, tmp_path, name, **settings), tmp_path)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("split", "train"),
        ("harden", "controlled"),
        ("harden", "harden.json"),
        ("resize", "data-00000.parquet"),
        ("phantom", "data-00000.parquet"),
        ("audit", "audit.html"),
        ("stats", "stats.json"),
    ],
)
def test_what_was_taken_away_is_made_again(tmp_path: Path, name: str, part: str) -> None:
    make_sources(tmp_path)
    made(tmp_path, name)
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    shutil.rmtree(tmp_path / "out" / part) if (tmp_path / "out" / part).is_dir() else (tmp_path / "out" / part).unlink()
    made(tmp_path, name)
    assert_same(tmp_path / "out", tmp_path / "before", but=("audit.html",))


@pytest.mark.parametrize("killed", [False, True])
def test_another_split_takes_the_parts_of_the_old_one_away(tmp_path: Path, killed: bool) -> None:
    make_sources(tmp_path)
    every = moments(lambda: made(tmp_path, "split", by="modality"))
    if killed:
        shutil.rmtree(tmp_path / "out")
        assert stopped(lambda: made(tmp_path, "split", by="modality"), every[-2])
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"CT", "MRI"}
    made(tmp_path, "split", overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"train", "test"}


def test_the_share_of_a_new_split_says_nothing_of_a_published_one(tmp_path: Path) -> None:
    samples = [replace(question(n), extra={"split": ("train", "test")[n % 2]}) for n in range(4)]
    write_samples(tmp_path / "text", samples, embed_images=False)
    first = made(tmp_path, "split", published=True)
    assert made(tmp_path, "split", published=True, test_share=0.5) == first


def test_a_shard_of_resize_may_be_larger_than_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut where a shard of `write_shards` ends, and the rest was lost."""
    make_sources(tmp_path)
    monkeypatch.setattr("medr1.records.samples.SHARD_BYTES", 10)
    monkeypatch.setattr("medr1.records.samples.ROW_GROUP_ROWS", 1)
    monkeypatch.setattr(resizing, "SHARD_SAMPLES", 5)
    made(tmp_path, "resize")
    assert [s.id for s in read_samples(tmp_path / "out")] == [s.id for s in read_samples(tmp_path / "data")]
    assert len([name for name in files(tmp_path / "out") if name.endswith("parquet")]) == 2


def test_a_sheet_of_phantoms_stands_beside_the_folder(tmp_path: Path) -> None:
    sheet = tmp_path / "out.png"
    phantoms(out=tmp_path / "out", sheet=True)
    assert Image.open(sheet).size[0] > 100
    before = stamps(tmp_path)
    phantoms(out=tmp_path / "out", sheet=True)
    assert stamps(tmp_path) == before
    sheet.unlink()
    phantoms(out=tmp_path / "out", sheet=True)
    assert stamps(tmp_path)["out.png"][0] == before["out.png"][0], "of a finished folder, too"
    sheet.write_text("mine")
    again = partial(phantoms, out=tmp_path / "out", sheet=True)
    assert "out.png is there and is another file" in refusal(again, tmp_path)
    phantoms(out=tmp_path / "out", sheet=True, overwrite=True)
    assert sheet.read_bytes() == before["out.png"][0]


def test_manifests_hold_what_they_held(tmp_path: Path) -> None:
    make_sources(tmp_path)
    summary = made(tmp_path, "split")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert isinstance(summary, GroupedSplit)
    assert manifest.items() >= summary.written().items()
    assert manifest["arguments"].keys() == SplitSettings.model_fields.keys() - {"out", "overwrite"}
    assert (manifest["command"], manifest["state"], manifest["seed"]) == ("data split", "done", 0)


def test_data_that_are_written_again_are_the_same_data(tmp_path: Path) -> None:
    make_sources(tmp_path)
    made(tmp_path, "stats")
    samples = [replace(s, images=question(int(s.id[1:])).images) for s in read_samples(tmp_path / "text")]
    shutil.rmtree(tmp_path / "text")
    write_samples(tmp_path / "text", samples, embed_images=False)
    before = stamps(tmp_path / "out")
    made(tmp_path, "stats")
    assert stamps(tmp_path / "out") == before
