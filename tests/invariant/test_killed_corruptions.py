"""`medr1 corrupt` and `medr1 robustness`, killed or without room at any publication, end as if nothing had happened."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from corrupted_runs import PICTURES, corrupted, make_data
from evaluated import evaluate
from medr1.data.settings import CorruptSettings
from medr1.engines.engine import SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError
from medr1.eval.corruption import compare_corrupted as _compare_corrupted
from medr1.records import read_samples
from medr1.variants.corruptions.write import write_corrupted
from run_faults import Forks, assert_same, full_disk, heals, small_files, stamps, stopped
from written import as_written

compare_corrupted = as_written(_compare_corrupted)

POINTS = ["folder", "manifest", *["file", "line"] * PICTURES, "manifest", "file", "file", "manifest"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "test")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("corrupted_runs", "pyarrow.parquet", "email.parser") as forks:
        yield forks


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_every_publication(data: Path, forks: Forks, tmp_path: Path, processes: int) -> None:
    every = heals(partial(corrupted, data, processes=processes), tmp_path, forks.killed)
    assert [moment.point for moment in every if moment.side == "before"] == POINTS


@pytest.mark.parametrize("end", [stopped, full_disk])
def test_stopped_or_without_room_at_every_publication(data: Path, tmp_path: Path, end) -> None:
    heals(partial(corrupted, data), tmp_path, end)


@pytest.mark.parametrize("processes", [1, 2])
def test_without_room_inside_of_a_file(data: Path, tmp_path: Path, processes: int) -> None:
    corrupted(data, tmp_path / "whole" / "out")
    for room in (0, 100, 1500, 3000):
        out = tmp_path / str(room) / "out"
        with small_files(room), pytest.raises(OSError):  # noqa: PT011 - whatever a library makes of it
            corrupted(data, out, processes=processes)
        corrupted(data, out, processes=processes)
        assert_same(out, tmp_path / "whole" / "out")
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_finished_folder_is_not_touched(data: Path, tmp_path: Path) -> None:
    first = corrupted(data, tmp_path / "out")
    before = stamps(tmp_path)
    assert corrupted(data, tmp_path / "out", processes=2) == first
    assert stamps(tmp_path) == before


def test_further_severities_are_further_work(data: Path, tmp_path: Path) -> None:
    corrupted(data, tmp_path / "both")
    corrupted(data, tmp_path / "one", severities=(1,))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one" / "images").rglob("*.png")}
    summary = corrupted(data, tmp_path / "one", severities=(1, 5))
    assert summary.variants.keys() == {"jpeg/1", "jpeg/5"}
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert len(list(read_samples(tmp_path / "one"))) == PICTURES
    # Fewer are asked for in another data set from the same pictures.
    assert corrupted(data, tmp_path / "one", severities=(5,)).variants.keys() == {"jpeg/5"}
    assert {one.variant for one in read_samples(tmp_path / "one")} == {"jpeg/5"}


def test_two_at_once(data: Path, tmp_path: Path) -> None:
    refused = []

    def second(done: int, total: int) -> None:
        with pytest.raises(ConfigError, match="another command is writing out; wait for it") as caught:
            corrupted(data, tmp_path / "out")
        refused.append(caught.value)

    job = CorruptSettings(data=data, out=tmp_path / "out", corruptions=("jpeg",), severities=(1, 5))
    write_corrupted(job, second)
    assert len(refused) == 3
    corrupted(data, tmp_path / "whole" / "out")
    assert_same(tmp_path / "out", tmp_path / "whole" / "out")


# --- medr1 robustness ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluations(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the clean data, of corrupted copies, and of both by a model that answers otherwise."""
    folder = tmp_path_factory.mktemp("evaluations")
    corrupted(data, folder / "data")
    for name, answer in (("clean", "A"), ("bad", "A"), ("other", "B")):
        evaluate(
            list(read_samples(folder / "data" if name == "bad" else data)),
            ScriptedEngine(lambda request, draw, answer=answer: f"<think>It is.</think><answer>{answer}</answer>"),
            out=folder / name,
            params=SamplingParams(),
            batch_size=4,
            seed=0,
        )
    return folder


def compared(evaluations: Path, out: Path, clean: str = "clean", overwrite: bool = False) -> dict:
    return compare_corrupted(evaluations / clean, evaluations / "bad", out=out, overwrite=overwrite)


@pytest.mark.parametrize("end", [stopped, full_disk])
def test_a_comparison_heals(evaluations: Path, tmp_path: Path, end) -> None:
    every = heals(partial(compared, evaluations), tmp_path, end)
    assert [moment.point for moment in every if moment.side == "before"] == ["folder", "manifest", "file", "manifest"]


def test_a_comparison_is_of_its_two_evaluations(evaluations: Path, tmp_path: Path) -> None:
    first = compared(evaluations, tmp_path / "out")
    before = stamps(tmp_path)
    assert compared(evaluations, tmp_path / "out") == first
    with pytest.raises(ConfigError, match=r"holds another run \(other clean predictions\)"):
        compared(evaluations, tmp_path / "out", "other")
    with pytest.raises(ConfigError, match="holds a run of `medr1 eval`"):
        compared(evaluations, evaluations / "clean")
    assert stamps(tmp_path) == before
    assert compared(evaluations, tmp_path / "out", "other", overwrite=True) != first
