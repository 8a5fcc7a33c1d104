"""Every command that writes: a disk full at any publication, a folder in use, a file where the folder should be."""

# ruff: noqa: F811 - arguments named as imported fixtures

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from every_command import COMMANDS, arguments_of, inputs, run  # noqa: F401 - fixtures
from medr1.records.locks import Lock
from run_faults import Event, Killed, Moment, assert_same, files, watching

MOST = {"attack": 6, "rewards fuzz": 2, "corrupt": 12, "data audit": 8, "train grpo": 8, "train sft": 8}
"""Moments that are tried, evenly chosen, where a call takes long; `test_killed_*` try all of them, call by call."""
SELDOM = {"demo"}
"""Takes minutes: `test_killed_demos` ends it."""
TIMED = {
    "attack": ("*.json", "*.jsonl", "attack.html"),
    "data audit": ("audit.html",),
    "rescore": ("rescore.json",),
    "rewards fuzz": ("*.json",),
    "train grpo": ("*.bin", "*.json", "*.jsonl", "*.pt", "*.md"),
    "train sft": ("*.bin", "*.json", "*.jsonl", "*.pt", "*.md"),
}
"""Files with times of their own: of those `test_killed_*` look into what is no time."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of one file."""

    def fetch(*, local_dir: Path, **_: Any) -> None:
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / "test.json").write_text("[]")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)


def one_sentence(code: int, said: str) -> str:
    assert code == 1, said
    assert "Traceback" not in said, said
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("medr1: ")] == lines[-1:], said
    return lines[-1]


def chosen(command: str, seen: list[Moment]) -> list[Moment]:
    """Moments of a call, the first and the last among them."""
    possible = [moment for moment in seen if moment.point != "removal"]  # taking away needs no room
    most = min(MOST.get(command, len(possible)), len(possible))
    return [possible[index * (len(possible) - 1) // max(1, most - 1)] for index in range(most)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["full disk", "killed"])
@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - SELDOM))
def test_an_end_at_any_publication(
    run: Callable[..., tuple[int, str]], inputs: Path, tmp_path: Path, command: str, way: str
) -> None:
    whole, seen = tmp_path / "whole" / "out", []
    whole.parent.mkdir()
    with watching(lambda event: seen.append(Moment(event.number, event.side, event.point, event.path.name))):
        code, said = run(*arguments_of(command, inputs=inputs, out=whole))
    assert code == 0, said
    assert seen
    for moment in chosen(command, seen):
        out = tmp_path / f"{moment.number}-{moment.side}" / "out"
        out.parent.mkdir()
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if way == "full disk" else Killed("here")
        came: list[Event] = []

        def end(event: Event, moment: Moment = moment, error: BaseException = error, came: list[Event] = came) -> None:
            late = way == "full disk" and event.number > moment.number and event.point != "removal"
            if event.is_at(moment) or late:
                came.append(event)
                raise error

        with watching(end):
            if way == "full disk":
                sentence = one_sentence(*run(*arguments_of(command, inputs=inputs, out=out)))
                assert "the disk is full" in sentence, moment
            else:
                with pytest.raises(Killed):
                    run(*arguments_of(command, inputs=inputs, out=out))
        assert came, f"nothing happened at {moment}"
        code, said = run(*arguments_of(command, inputs=inputs, out=out))
        assert code == 0, f"again after {moment}: {said}"
        timed = [name for name in files(whole) if any(Path(name).match(one) for one in TIMED.get(command, ()))]
        assert_same(out, whole, but=tuple(timed))


@pytest.mark.parametrize("command", COMMANDS)
def test_two_at_once(run: Callable[..., tuple[int, str]], inputs: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lock = Lock(out)
    lock.acquire()
    try:
        sentence = one_sentence(*run(*arguments_of(command, inputs=inputs, out=out)))
    finally:
        lock.release()
    assert sentence == "medr1: another command is writing out; wait for it, or choose another folder"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_where_the_folder_should_be(
    run: Callable[..., tuple[int, str]], inputs: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    out.write_text("something else")
    for place in (out, out / "below"):
        assert str(out) in one_sentence(*run(*arguments_of(command, inputs=inputs, out=place)))
    assert out.read_text() == "something else"
