"""`medr1 attack`, killed or without room anywhere, ends as if nothing had happened but for seconds."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest

from attacked_runs import SAMPLES, attacked, without_seconds
from medr1.cli.failures import explanation
from medr1.errors import ConfigError
from medr1.runs import MANIFEST, stored_manifest
from run_faults import (
    Call,
    Forks,
    Moment,
    contents,
    full_disk,
    moments,
    only_published,
    small_files,
    stamps,
    stopped,
    watching,
)


class Whole:
    """A run that was left alone, and its moments."""

    def __init__(self, folder: Path, *, single: bool) -> None:
        self.out, self.call = folder / "out", partial(attacked, single=single)
        with only_published(folder):
            every = moments(lambda: self.call(self.out))
        self.contents = without_seconds(contents(self.out))
        self.chosen = [
            moment
            for group in self._alike(every)
            for moment in dict.fromkeys((group[0], group[len(group) // 2], group[-1]))
        ]
        lines = [moment for moment in every if moment.name == "manifest.jsonl" and moment.side == "after"]
        self.in_a_batch = lines[1 if single else len(SAMPLES) + 1]
        """After the first line of a batch of two; the line before it is that of the wrong answer, which is copied."""
        self.last_picture = [moment for moment in every if moment.name.endswith(".png") and moment.side == "before"][-1]

    @staticmethod
    def _alike(every: list[Moment]) -> list[list[Moment]]:
        """Moments one after the other at points of one kind: pictures and their lines, the lines of an evaluation."""

        def kind(moment: Moment) -> str:
            return "pictures" if moment.name.endswith(".png") or moment.name == "manifest.jsonl" else moment.name

        return [list(group) for _, group in groupby(every, key=kind)]


@pytest.fixture(scope="module", params=[False, True], ids=["grid", "single"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), single=request.param)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks("attacked_runs", "pyarrow.parquet", "medr1.report.attack", "matplotlib.figure") as forks:
        yield forks


def heals(whole: Whole, folder: Path, end: Callable[[Call, Moment], bool], some: list[Moment]) -> None:
    """End a run at moments of its own, call it again, and compare."""
    for moment in some:
        out = folder / f"{moment.number:03d}-{moment.side}" / "out"
        out.parent.mkdir()
        assert end(partial(whole.call, out), moment), f"nothing happened at {moment}"
        if (out / MANIFEST).exists() and (stored := stored_manifest(out)) and stored.state == "done":
            assert without_seconds(contents(out)) == whole.contents, f"not done at {moment}"
        whole.call(out)
        found = without_seconds(contents(out))
        assert found.keys() == whole.contents.keys(), f"not healed after {moment}"
        differing = [name for name in found if found[name] != whole.contents[name]]
        assert not differing, f"{differing} differ after {moment}"
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_killed(whole: Whole, forks: Forks, tmp_path: Path) -> None:
    heals(whole, tmp_path, forks.killed, [whole.in_a_batch, *whole.chosen[4::45]])


@pytest.mark.parametrize("end", [stopped, full_disk])
def test_stopped_or_without_room(whole: Whole, tmp_path: Path, end: Callable[[Call, Moment], bool]) -> None:
    heals(whole, tmp_path, end, [whole.last_picture] if end is stopped else [])
    heals(whole, tmp_path, end, whole.chosen[10 * (end is full_disk) :: 40])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_at_further_moments(whole: Whole, forks: Forks, tmp_path: Path, part: int) -> None:
    heals(whole, tmp_path, forks.killed, whole.chosen[part::17])


def test_killed_again_and_again(whole: Whole, forks: Forks, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (9, 40, 30):
        forks.killed(partial(whole.call, out), Moment(number, "after", "", ""))
    whole.call(out)
    assert without_seconds(contents(out)) == whole.contents


def test_a_finished_run_is_not_touched(whole: Whole) -> None:
    before = stamps(whole.out)
    whole.call(whole.out)
    assert stamps(whole.out) == before


def test_two_at_once(whole: Whole, tmp_path: Path) -> None:
    refused = []

    def second(moment: Moment) -> bool:
        """A second command at a moment of the first."""
        with pytest.raises(ConfigError, match="another command is writing out; wait for it") as caught:
            whole.call(tmp_path / "out")
        refused.append(caught.value)
        return False

    middle = whole.chosen[len(whole.chosen) // 2]
    with watching(lambda event: event.is_at(middle) and second(middle)):
        whole.call(tmp_path / "out")
    assert len(refused) == 1
    assert without_seconds(contents(tmp_path / "out")) == whole.contents


def test_a_full_disk_is_one_sentence_that_names_the_file(whole: Whole, tmp_path: Path) -> None:
    with small_files(1500), pytest.raises(OSError) as caught:  # noqa: PT011 - whatever a library makes of it
        whole.call(tmp_path / "out")
    assert str(tmp_path / "out") in str(explanation(caught.value))
    whole.call(tmp_path / "out")
    assert without_seconds(contents(tmp_path / "out")) == whole.contents
