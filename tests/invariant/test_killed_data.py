"""A command on data that is killed, or finds the disk full, and is called again ends as if nothing had happened."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from data_commands import COMMANDS, MODULES, make_audit, make_sources, make_stats
from medr1.errors import DataError
from medr1.records import read_samples
from run_faults import Forks, assert_same, full_disk, heals, moments, small_files, stamps, stopped


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(*MODULES) as forks:
        yield forks


POINTS = {
    "convert": ["folder", "manifest", *["file"] * 4, "manifest"],
    "split": ["folder", "manifest", "tree", "tree", "manifest"],
    "harden": ["folder", "manifest", "tree", "file", "tree", "file", "manifest"],
    "resize": ["folder", "manifest", *["file"] * 3, "manifest"],
    "phantom": ["folder", "manifest", "file", "file", "manifest"],
}
"""What a command publishes."""


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_publication(sources: Path, forks: Forks, tmp_path: Path, name: str) -> None:
    every = heals(partial(COMMANDS[name], sources), tmp_path, forks.killed)
    assert sorted(moment.point for moment in every if moment.side == "before") == sorted(POINTS[name])


@pytest.mark.parametrize("end", [stopped, full_disk])
@pytest.mark.parametrize("name", COMMANDS)
def test_stopped_or_without_room_at_every_publication(sources: Path, tmp_path: Path, name: str, end) -> None:
    heals(partial(COMMANDS[name], sources), tmp_path, end)


@pytest.mark.parametrize("name", COMMANDS)
def test_without_room_inside_of_a_file(sources: Path, tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole" / "out"
    COMMANDS[name](sources, whole)
    for room in (0, 100, 1500):
        out = tmp_path / str(room) / "out"
        with small_files(room), pytest.raises(OSError):  # noqa: PT011 - whatever a library makes of it
            COMMANDS[name](sources, out)
        COMMANDS[name](sources, out)
        assert_same(out, whole)
        assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_finished_folder_is_not_touched(sources: Path, tmp_path: Path, name: str) -> None:
    first = COMMANDS[name](sources, tmp_path / "out")
    before = stamps(tmp_path)
    assert COMMANDS[name](sources, tmp_path / "out") == first
    assert stamps(tmp_path) == before


@pytest.mark.parametrize(("name", "part"), [("convert", ""), ("resize", ""), ("split", "CT/train"), ("phantom", "")])
def test_nobody_reads_what_is_not_finished(sources: Path, tmp_path: Path, name: str, part: str) -> None:
    every = moments(lambda: COMMANDS[name](sources, tmp_path / "whole"))
    for moment in every[:-1]:
        out = tmp_path / f"{moment.number}-{moment.side}"
        stopped(lambda out=out: COMMANDS[name](sources, out), moment)
        for path in (out / part, *(out / part).glob("*.parquet")):
            with pytest.raises(
                DataError, match=rf"is not finished \(its `medr1 data {name}` was|does not exist|holds no"
            ):
                list(read_samples(path))
    assert list(read_samples(tmp_path / "whole" / part))


@pytest.mark.parametrize("make", [make_stats, pytest.param(make_audit, marks=pytest.mark.slow)])
def test_what_is_said_about_data_heals_too(sources: Path, tmp_path: Path, make) -> None:
    heals(partial(make, sources), tmp_path, but=("audit.html",))
