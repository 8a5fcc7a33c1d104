"""A run's folder: what is its own, how an old one makes room, and what is left of one that published nothing."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medr1 import streams
from medr1.errors import ConfigError, DataError
from medr1.records import check_finished, is_manifest, locks
from medr1.runs import LOCK, STAGING, Run, stored_manifest
from medr1.streams import choices, numbered, stream, stream_bytes
from run_faults import files, moments, refusal, small_files, stamps, stopped


def start(folder: Path, **settings: Any) -> Run:
    return Run(folder, **({"command": "x", "arguments": {}, "identity": {}, "seed": 0, "owns": ("a*", "b")} | settings))


def write(folder: Path, text: str = "1", **settings: Any) -> None:
    """A command that makes everything at once."""
    with start(folder, **settings) as run:
        if run.done and run.has("a.txt"):
            return
        with run.everything() as staged:
            (staged / "a.txt").write_text(text)
            (staged / "b").mkdir()
            (staged / "b" / "c.txt").write_text(text)
        run.reach("done", text=text)


def fail(folder: Path, **settings: Any) -> None:
    """The same, with an error in the middle."""
    with start(folder, **settings) as run, run.everything() as staged:
        assert not run.has("a.txt"), "what is there belongs to an old one"
        (staged / "a.txt").write_text("half")
        raise KeyError


def test_nothing_is_there_before_everything_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start(out) as run, run.everything() as staged:
        (staged / "a.txt").touch()
        assert files(out).keys() == {str(path.relative_to(out)) for path in staged.iterdir()}, "no manifest yet"
    assert files(out).keys() == {"a.txt", "manifest.json"}


def test_an_old_run_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    (out / "notes.txt").write_text("mine")
    before = stamps(out)
    with pytest.raises(KeyError):
        fail(out, overwrite=True, seed=1)
    assert {name: value[0] for name, value in stamps(out).items()} == {name: value[0] for name, value in before.items()}
    write(out, "new", overwrite=True, seed=1)
    assert (out / "a.txt").read_text() == (out / "b" / "c.txt").read_text() == "new"
    assert (out / "notes.txt").read_text() == "mine"


def test_a_kill_while_an_old_run_makes_room(tmp_path: Path) -> None:
    write(tmp_path / "whole", "old")
    every = moments(lambda: write(tmp_path / "whole", "new", overwrite=True, seed=1))
    assert [m.point for m in every if m.side == "after"] == [
        *("folder", "manifest", "removal", "removal", "manifest", "file", "tree", "manifest")
    ]
    for moment in every:
        out = tmp_path / f"{moment.number}-{moment.side}"
        write(out, "old")
        assert stopped(lambda out=out: write(out, "new", overwrite=True, seed=1), moment)
        texts = {path.read_text() for name, path in files(out).items() if name != "manifest.json"}
        assert len(texts) < 2, "never both"
        stored = stored_manifest(out)
        assert stored is not None
        assert stored.state != "done" or (stored.facts["text"],) == tuple(texts)
        write(out, "new", overwrite=True, seed=1)
        assert (out / "b" / "c.txt").read_text() == "new"


def test_a_run_that_published_nothing_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyError):
            fail(tmp_path / name)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    with start(tmp_path / "new") as run:
        run.write_json("a.json", 1)
        run.discard()
    assert not (tmp_path / "new").exists()


def test_a_start_that_was_killed_before_its_manifest_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / f"{STAGING}x").mkdir()
    (tmp_path / f"{STAGING}x" / "a.txt").touch()
    (tmp_path / LOCK).touch()
    write(tmp_path)
    assert files(tmp_path).keys() == {"a.txt", "b/c.txt", "manifest.json"}


def test_a_lock_that_has_lost_its_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves a folder empty takes the lock away; who waited for it would not keep a third one out."""
    lock = locks.fcntl.lockf

    def late(file: Any, how: int) -> None:
        os.unlink(tmp_path / LOCK)
        lock(file, how)

    monkeypatch.setattr(locks.fcntl, "lockf", late)
    with pytest.raises(ConfigError, match="another command is writing"):
        write(tmp_path)
    monkeypatch.undo()
    write(tmp_path)


@pytest.mark.parametrize("text", ['{"name": "a web page"}', "[1]", "no JSON", ""])
def test_a_manifest_of_another_program_is_a_stranger(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    for overwrite in (False, True):
        said = refusal(lambda overwrite=overwrite: write(tmp_path, overwrite=overwrite), tmp_path)
        assert "manifest.json is no manifest of medr1" in said
    assert not is_manifest(tmp_path / "manifest.json")
    check_finished(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_the_nearest_manifest_says_whether_something_is_finished(tmp_path: Path) -> None:
    with start(tmp_path / "outer", command="outer") as outer:
        outer.start()
        inside = tmp_path / "outer" / "data"
        write(inside)
        check_finished(inside / "b" / "c.txt")
        with start(tmp_path / "outer" / "data", seed=1, overwrite=True) as run:
            run.start()
            for path in (inside, inside / "b", inside / "b" / "deep" / "c.txt"):
                with pytest.raises(DataError, match=r"data is not finished \(its `medr1 x` was stopped"):
                    check_finished(path)
        (inside / "manifest.json").unlink()
        with pytest.raises(DataError, match=r"outer is not finished"):
            check_finished(inside)
    manifest = json.loads((tmp_path / "outer" / "manifest.json").read_text())
    del manifest["state"]
    (tmp_path / "outer" / "manifest.json").write_text(json.dumps(manifest))
    check_finished(inside)


def test_a_guest_has_a_manifest_of_its_own(tmp_path: Path) -> None:
    write(tmp_path)
    host = stamps(tmp_path)
    settings: dict[str, Any] = {"command": "guest", "owns": ("g.json",), "guest": True}
    for seed in (0, 1):
        with start(tmp_path, **settings, seed=seed, overwrite=seed == 1) as run:
            run.write_json("g.json", seed)
            run.reach("done")
    assert host.items() - {(".", host["."])} <= stamps(tmp_path).items()
    assert files(tmp_path).keys() == {"a.txt", "b/c.txt", "manifest.json", "g.json", "guest.manifest.json"}
    assert "seed was 1, now 2" in refusal(lambda: start(tmp_path, **settings, seed=2).__enter__(), tmp_path)
    with start(tmp_path, **settings, seed=2, overwrite=True) as run:
        run.start()
        run.discard()
    assert files(tmp_path).keys() == {"a.txt", "b/c.txt", "manifest.json"}


def test_a_full_disk_while_everything_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with small_files(10), pytest.raises(OSError, match="File too large"):
        write(out, "x" * 100)
    assert not out.exists()
    write(out, "x" * 100)


def test_another_process_is_refused_until_the_first_one_ends_however_it_ends(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from medr1.runs import Run\n"
        f"settings = dict(command='x', arguments={{}}, identity={{}}, seed=0, owns=('a*', 'b'))\n"
        f"with Run(Path({str(tmp_path)!r}), **settings) as run:\n"
        "    run.start(); print('started', flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        for overwrite in (False, True):
            said = refusal(lambda overwrite=overwrite: write(tmp_path, overwrite=overwrite), tmp_path)
            assert said == f"another command is writing {tmp_path.name}; wait for it, or choose another folder"
        first.kill()
    write(tmp_path)
    assert files(tmp_path).keys() == {"a.txt", "b/c.txt", "manifest.json"}


def test_random_streams_are_those_under_which_results_are_stored() -> None:
    assert stream_bytes(3, "pgd", 8) == hashlib.sha256(b"3/pgd/8").digest()
    key = int.from_bytes(hashlib.sha256(b"3/pgd/8").digest()[:16], "little")
    assert stream(3, "pgd", 8).random(4).tolist() == np.random.Generator(np.random.Philox(key=key)).random(4).tolist()
    assert choices(3, "swapped", "id").random() == random.Random("3:swapped:id").random()
    assert numbered(3, 0, 7).random() == np.random.default_rng([3, 0, 7]).random()


def test_no_stream_is_derived_elsewhere() -> None:
    derived = re.compile(r"Random\(f|default_rng\([\[(]|sha256\(f\"\{seed|SeedSequence\(")
    sources = Path(streams.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if derived.search(path.read_text())] == []
