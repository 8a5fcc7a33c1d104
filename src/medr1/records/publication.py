"""Where something becomes visible to a reader: every such place names itself, so that tests can end a process there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
