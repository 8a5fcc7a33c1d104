"""What went into a run, as hashes of contents: files, questions, answers and pictures.

A file is read once: its hash is kept by path, size, inode and times of the last change of content and of the file
itself, in a small database in the user's cache folder. Another file under the same name has another inode or time.
"""

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from medr1.records.manifest import short_hash
from medr1.types import ImageRef, Sample

BATCH = 1000
"""Files that are looked up and kept together: the database is opened and brought to the disk once for them."""
MISSING = "missing"
"""Stands for the content of a file that is not there, or that cannot be read."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, read again only where the file has changed. Raises `OSError`."""
    (found,) = file_hashes([path])
    if found == MISSING:
        path.open("rb").close()  # says why
        raise FileNotFoundError(f"{path} is no ordinary file")
    return found


def file_hashes(paths: Iterable[Path | str]) -> Iterator[str]:
    """The same of many files, one after the other; `MISSING` for those that cannot be read."""
    paths = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(paths, BATCH)):
            keys = [_key(path) for path in batch]
            known = _remembered([key for key in keys if key is not None])
            new = {key: path for key, path in zip(keys, batch, strict=True) if key is not None and key not in known}
            read = dict(zip(new, pool.map(_digest, new.values()), strict=True))
            _remember({key: found for key, found in read.items() if found != MISSING})
            known = {**known, **read}
            yield from (MISSING if key is None else known[key] for key in keys)


def files_hash(paths: Iterable[Path], root: Path) -> str:
    """Hash over the names, seen from `root`, and contents of files, whatever their order; 16 hex characters.

    Raises `OSError` for one that cannot be read.
    """
    return short_hash(sorted([path.relative_to(root).as_posix(), file_hash(path)] for path in paths))


def content_hashes(samples: Iterable[Sample]) -> dict[str, str]:
    """Hashes of a set of samples, whatever their order, apart by what may differ: questions, gold and pictures."""
    questions, gold, shown = [], [], []
    for sample in samples:
        key = (sample.id, sample.variant)
        questions.append([*key, sample.question, *sample.options])
        gold.append([*key, str(sample.gold), *sample.answers])
        shown.append((key, sample.images))
    files = {ref.path: "" for _, refs in shown for ref in refs if ref.data is None and ref.path is not None}
    hashes = dict(zip(files, file_hashes(files), strict=True))
    pictures = [[*key, *(_picture_hash(ref, hashes) for ref in refs)] for key, refs in shown]
    parts = {"questions": questions, "gold_answers": gold, "pictures": pictures}
    return {name: short_hash(sorted(lines)) for name, lines in parts.items()}


def labels_hash(sample: Sample) -> str:
    """Hash of what a sample holds beside question, answer and pictures."""
    extra = dict(sample.extra)
    return short_hash(
        [sample.answer_type, sample.modality, sample.task, sample.source, sample.group, sample.rationale, extra]
    )


def image_hash(ref: ImageRef) -> str:
    """SHA-256 of an encoded picture; of one that cannot be read, a word that says so."""
    return _picture_hash(ref, dict(zip([ref.path], file_hashes([ref.path or ""]), strict=True)))


def _picture_hash(ref: ImageRef, files: Mapping[str | None, str]) -> str:
    return files.get(ref.path, MISSING) if ref.data is None else hashlib.sha256(ref.data).hexdigest()


class DataHash:
    """Hashes of samples that stream by, in their order, apart by what may differ; none of the samples is kept.

    Unlike `content_hashes` it knows every field, and the order: what a data set is made from.
    """

    def __init__(self, root: Path | None = None) -> None:
        """`root` is the folder that the names of pictures leave out: moved data are the same data."""
        self._prefix = "" if root is None else f"{root}{os.sep}"
        self._parts = {name: hashlib.sha256() for name in ("questions", "gold_answers", "labels", "pictures")}
        self.files: dict[str, str] = {}
        """Names of the pictures that are files, each once, and where those are."""

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples, hashed as they pass."""
        for sample in samples:
            self._add("questions", sample.id, sample.variant, sample.question, sample.options)
            self._add("gold_answers", sample.answer_index, sample.answers)
            self._add("labels", labels_hash(sample))
            self._add("pictures", *map(self._picture, sample.images))
            yield sample

    def _add(self, part: str, *values: Any) -> None:
        self._parts[part].update(f"{json.dumps(values)}\n".encode())

    def _picture(self, ref: ImageRef) -> Sequence[str]:
        name = (ref.path or "").removeprefix(self._prefix)
        if ref.data is None:
            self.files[name] = ref.path or ""
            return (name,)
        return (name, hashlib.sha256(ref.data).hexdigest())

    def identity(self, files: Mapping[str, Path | str] | None = None) -> dict[str, str]:
        """The hashes by name; `files` tells where pictures are (default: where the samples say)."""
        files = self.files if files is None else files
        found = zip(files, file_hashes(files.values()), strict=True)
        self._add("pictures", *(pair for pair in found if pair[1] != MISSING))
        return {name: part.hexdigest()[:16] for name, part in self._parts.items()}


def _digest(path: Path | str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return MISSING


def _key(path: Path | str) -> str | None:
    """What changes with the content of a file; None where there is no ordinary file (others may have no end)."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    known_by = (status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return "\0".join((os.path.abspath(path), *map(str, known_by)))


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "medr1" / "hashes.sqlite"


def _remembered(keys: Iterable[str]) -> dict[str, str]:
    """The hashes that are kept under keys; none where the cache cannot be read."""
    found: dict[str, str] = {}
    try:
        with closing(_open()) as known:
            for key in keys:
                row = known.execute("SELECT hash FROM hashes WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = row[0]
    except (OSError, sqlite3.Error):
        return {}
    return found


def _remember(found: Mapping[str, str]) -> None:
    """Keep hashes; without a cache the files are read again next time."""
    if not found:
        return
    try:
        with closing(_open()) as known, known:
            known.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", found.items())
    except (OSError, sqlite3.Error):
        return


def _open() -> sqlite3.Connection:
    file = _cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    known = sqlite3.connect(file, timeout=5)
    known.execute("CREATE TABLE IF NOT EXISTS hashes (key TEXT PRIMARY KEY, hash TEXT NOT NULL)")
    return known
