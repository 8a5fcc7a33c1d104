"""The right to write a folder: it ends with the process that has it, and children do not inherit it.

A POSIX record lock; where the file system has none, a file that is touched while the process lives.

And where something becomes visible to a reader: every such place names itself, so that tests can end a process there.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medr1.errors import ConfigError

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = ".medr1.lock"
HEARTBEAT_SECONDS = 5.0
"""Between two signs of life, where the file system has no locks."""
SILENCE_SECONDS = 30.0
"""Without a sign of life after which a writer counts as dead."""

_held: set[Path] = set()
"""Folders that this process writes: locks of a process do not keep itself out."""


def writes_around(folder: Path) -> bool:
    """Whether this process writes a folder that the other one lies in."""
    return not _held.isdisjoint(folder.resolve().parents)


class Lock:
    """The right to write one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder.resolve(), folder / LOCK
        self._file: Any = None
        self._beating: threading.Event | None = None

    def acquire(self) -> None:
        """Take it. Raises `ConfigError` where another process, or this one, writes the folder."""
        refusal = ConfigError(f"another command is writing {self.folder.name}; wait for it, or choose another folder")
        if self.folder in _held:
            raise refusal
        # Opened without truncating: the file may be another's sign of life.
        self._file = open(self.path, "a+b")  # noqa: SIM115 - held until release
        try:
            if fcntl is None:
                raise OSError("no record locks here")
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._file.close()
            raise refusal from None
        except OSError as error:
            self._beat(refusal, error)
        if not self._is_in_place():
            self._file.close()
            raise refusal
        _held.add(self.folder)

    def _is_in_place(self) -> bool:
        """Whether the locked file still has its name: who leaves a folder empty takes its lock away."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _beat(self, refusal: ConfigError, reason: OSError) -> None:
        """The way without locks."""
        marked = self.path.stat().st_size > 0
        if marked and time.time() - self.path.stat().st_mtime < SILENCE_SECONDS:
            self._file.close()
            raise refusal
        logger.warning(
            "%s is on a file system without locks (%s); a second command here is noticed by a sign of life every "
            "%.0f seconds only.", self.folder, reason.strerror or reason, HEARTBEAT_SECONDS,
        )  # fmt: skip
        if not marked:
            self._file.write(b"alive\n")
            self._file.flush()
        os.utime(self.path)
        stop = self._beating = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                os.utime(self.path)

        threading.Thread(target=beat, daemon=True).start()

    def release(self, *, remove: bool = False) -> None:
        """Give it back; with `remove` nothing tells that it was there."""
        if self._beating is not None:
            self._beating.set()
            os.truncate(self.path, 0)
        if remove:
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()
        _held.discard(self.folder)


POINTS = ("folder", "manifest", "file", "tree", "line", "removal")
"""What becomes visible: the run's folder, its manifest, a file, a tree of files, an appended line, and what is taken
away."""


class Publication:
    """Where something becomes visible; tests replace `before` and `after`."""

    before: Callable[[str, Path], None] = staticmethod(lambda point, path: None)
    after: Callable[[str, Path], None] = staticmethod(lambda point, path: None)


@contextmanager
def publication(point: str, path: Path) -> Iterator[None]:
    """A block that makes `path` visible, or takes it away."""
    assert point in POINTS, f"{point} is no publication point"
    Publication.before(point, path)
    with naming(path):
        yield
    Publication.after(point, path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A block whose failures name the file: a disk that is full does not tell what was being written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync(path: Path) -> None:
    """Bring a finished file, or those of a folder, to the disk, so that a name never stands before its content."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
