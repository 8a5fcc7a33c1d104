"""Faults of commands that write a run: a process that ends, or a disk that is full, at any publication.

A *moment* is before or after the n-th publication of a call. `moments` tells those of a call that is left alone; the
other functions end a call there: `stopped` by an exception that nothing expects, so that `finally` blocks run;
`full_disk` by the error of a full disk, at that publication and at all after it; `Forks` by SIGKILL in a fork, after
which nothing runs. `heals` goes through all of them and compares what a second call makes of it with a whole run.

As a program it imports the modules that it is given and ends calls in forks of itself: see `Forks`.
"""

import errno
import importlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medr1 import runs
from medr1.errors import MedR1Error
from medr1.runs import LOCK, MANIFEST, STAGING, Publication

Call = Callable[[], object]


class Killed(BaseException):
    """Stands for the end of the process, where `finally` blocks still run."""


class Moment(NamedTuple):
    """Before or after the n-th publication of a call, counted from 1."""

    number: int
    side: str
    point: str
    """What becomes visible there: one of `medr1.runs.POINTS`."""
    name: str
    """Last part of its path."""


class Event(NamedTuple):
    """A publication that is about to happen or has happened."""

    number: int
    side: str
    point: str
    path: Path

    def is_at(self, moment: Moment) -> bool:
        return (self.number, self.side) == (moment.number, moment.side)


@contextmanager
def watching(on_event: Callable[[Event], None]) -> Iterator[None]:
    """Calls `on_event` before and after every publication of this process; several watch at once."""
    count = 0
    old = Publication.before, Publication.after

    def before(point: str, path: Path) -> None:
        nonlocal count
        count += 1
        old[0](point, path)
        on_event(Event(count, "before", point, path))

    def after(point: str, path: Path) -> None:
        old[1](point, path)
        on_event(Event(count, "after", point, path))

    Publication.before, Publication.after = staticmethod(before), staticmethod(after)
    try:
        yield
    finally:
        Publication.before, Publication.after = (staticmethod(hook) for hook in old)


def moments(call: Call) -> list[Moment]:
    """Every moment of a call that is left alone."""
    seen: list[Moment] = []
    with watching(lambda event: seen.append(Moment(event.number, event.side, event.point, event.path.name))):
        call()
    return seen


def stopped(call: Call, moment: Moment) -> bool:
    """End the call by `Killed` at a moment; whether it came to that."""
    return _raised(call, Killed("here"), lambda event: event.is_at(moment))


def full_disk(call: Call, moment: Moment) -> bool:
    """From a moment on nothing can be published, only taken away; whether it came to that."""

    def is_full(event: Event) -> bool:
        late = event.number > moment.number or event.is_at(moment)
        return late and event.point != "removal"

    return _raised(call, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), is_full)


def _raised(call: Call, error: BaseException, when: Callable[[Event], bool]) -> bool:
    came = False

    def on_event(event: Event) -> None:
        nonlocal came
        if when(event):
            came = True
            raise error

    with watching(on_event):
        try:
            call()
        except BaseException as caught:
            if not came or error not in _causes(caught):
                raise
    return came


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def small_files(num_bytes: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: writing fails in the middle, in whatever library (POSIX only)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- What a folder holds ------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, Path]:
    """All files, hidden ones too, but the lock."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.name != LOCK and path.is_file()
    }


TIME_FIELDS = ("started", "seconds")
"""Fields of a manifest in which two equal runs differ."""


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its name: bytes; of manifests the values but those of time."""
    return {
        name: _manifest(path) if path.name == MANIFEST else path.read_bytes() for name, path in files(folder).items()
    }


def _manifest(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    return {name: part for name, part in value.items() if name not in TIME_FIELDS}


def stamps(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and times of everything, folders too: equal where nothing was touched."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in (folder, *sorted(folder.rglob("*")))
    }


def assert_same(folder: Path, whole: Path, *, but: tuple[str, ...] = ()) -> None:
    """Both folders hold the same, no staging among it; files named in `but` need only be there."""
    found, wanted = contents(folder), contents(whole)
    assert found.keys() == wanted.keys()
    different = [name for name in wanted if name not in but and found[name] != wanted[name]]
    assert not different, f"{different[0]} differs" + (
        f": {found[different[0]]} instead of {wanted[different[0]]}" if different[0].endswith(".json") else ""
    )


def refusal(call: Call, folder: Path) -> str:
    """What a call is refused with; fails where it is not, or where anything under `folder` is touched."""
    before = stamps(folder)
    try:
        call()
    except MedR1Error as error:
        assert stamps(folder) == before
        return str(error)
    raise AssertionError("it was not refused")


@contextmanager
def only_published(folder: Path) -> Iterator[None]:
    """Fails where something visible under `folder` changes otherwise than by a publication of what changes."""
    seen = _visible(folder)

    def on_event(event: Event) -> None:
        nonlocal seen
        now = _visible(folder)
        changed = sorted(name for name in seen.keys() | now.keys() if seen.get(name) != now.get(name))
        if event.side == "before":
            assert not changed, f"{changed[0]} changed before the {event.point} {event.path.name} was published"
        else:
            place = event.path.resolve()
            beside = [name for name in changed if not (folder / name).resolve().is_relative_to(place)]
            assert not beside, f"{beside[0]} changed while the {event.point} {event.path.name} was published"
        seen = now

    with watching(on_event):
        yield
    assert _visible(folder) == seen, "something changed after the last publication"


def _visible(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the files that a reader sees; a file of lines that has none yet is nothing."""
    return {
        name: (path.stat().st_size, path.stat().st_mtime_ns)
        for name, path in files(folder).items()
        if not any(part.startswith(STAGING) for part in path.parts)
        and not (path.suffix == ".jsonl" and path.stat().st_size == 0)
    }


def heals(
    call: Callable[[Path], object],
    folder: Path,
    end: Callable[[Call, Moment], bool] = stopped,
    *,
    but: tuple[str, ...] = (),
    name: str = "out",
) -> list[Moment]:
    """End `call(out)` at every moment, each time in a folder of its own, and call it again.

    Fails where that ends otherwise than a call that is left alone, where something stays behind, also beside `out`, and
    where `out` says that it is done before it is. Returns the moments.
    """
    whole = folder / "whole" / name
    whole.parent.mkdir(parents=True)
    with only_published(whole.parent):
        every = moments(lambda: call(whole))
    for moment in every:
        out = folder / f"{moment.number:03d}-{moment.side}" / name
        out.parent.mkdir()
        assert end(partial(call, out), moment), f"nothing happened at {moment}"
        assert [path.name for path in out.parent.iterdir()] in ([], [name]), f"left beside at {moment}"
        if _says_done(out):
            assert_same(out, whole, but=but)
        call(out)
        try:
            assert_same(out, whole, but=but)
        except AssertionError as error:
            raise AssertionError(f"not healed after {moment}: {error}") from error
        assert [path.name for path in out.parent.iterdir()] == [name], f"left beside after {moment}"
    return every


def _says_done(out: Path) -> bool:
    return (out / MANIFEST).exists() and runs.stored_manifest(out).state == "done"  # pyright: ignore[reportOptionalMemberAccess]


# --- Forks --------------------------------------------------------------------------------------------------------


class Forks:
    """A process without PyTorch, whose threads survive no fork; it runs calls in forks and kills them at a moment.

    Calls travel by pickle: a function of a module that can be imported from `tests` or `src`, or a `partial` of one.
    Naming that module in `modules` spares every fork the imports.

    >>> with Forks("json") as forks:
    ...     forks.killed(partial(json.dumps, [1]), None)
    False
    """

    def __init__(self, *modules: str) -> None:
        self.modules = modules

    def __enter__(self) -> "Forks":
        command = [sys.executable, str(Path(__file__).resolve()), *self.modules]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def killed(self, call: Call, moment: Moment | None) -> bool:
        """Make the call in a fork, and kill it at a moment; whether it came to that. Fails where the call fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pickle.dumps((call, moment)))
        self.process.stdin.flush()
        code = pickle.load(self.process.stdout)
        assert code in (0, -signal.SIGKILL), f"the fork ended with {code}; its traceback is in the error output"
        return code != 0


def _serve(modules: list[str]) -> None:
    """Answer requests from standard input until it ends; nothing else may write to what the answers go to."""
    for module in modules:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            call, moment = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            os._exit(_run(call, moment))
        _, status = os.waitpid(child, 0)
        answers.write(pickle.dumps(os.waitstatus_to_exitcode(status)))
        answers.flush()


def _run(call: Call, moment: Moment | None) -> int:
    def on_event(event: Event) -> None:
        if moment is not None and event.is_at(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with watching(on_event):
            call()
    except BaseException:  # noqa: BLE001 - told in full, and told apart from a kill by the exit code
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1:])
