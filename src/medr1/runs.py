"""A folder that a command writes: one identity, one writer, every file whole, and the same command goes on.

`manifest.json` holds what was asked for, how far the run is (`started`, `whole`, `done`) and its *identity*: hashes of
what goes in and decides the result. The same command on the same folder goes on where it stopped or, when it is done,
changes nothing. A command with another identity is refused by the names of what differs.

Nothing of a run appears half written: files and trees of files are made in a staging folder inside the run's folder and
renamed, lines are appended one flushed line at a time. What a killed process left in staging is swept by the next one.
A lock says who writes; it dies with its process and is not inherited by children.

`POINTS` lists the places where something becomes visible to a reader. Tests end a process before and after each of
them, and fail where a command writes past them.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from medr1.errors import ConfigError, DataError
from medr1.records.json_files import JsonlAppender, as_json, umask
from medr1.records.locks import LOCK, POINTS, Lock, Publication, naming, publication, sync, writes_around
from medr1.records.manifest import (
    MANIFEST,
    STATES,
    Manifest,
    State,
    check_finished,
    differences,
    manifest,
    short_hash,
    stored_manifest,
)
from medr1.records.samples import write_shards
from medr1.results import Record
from medr1.types import Sample

logger = logging.getLogger(__name__)

STAGING = ".medr1.staging-"
"""Beginning of the names of staging folders."""
REMOVED = {"removed": "in part"}
"""In the identity of a run that is making room for another."""


class Run:
    """The folder of one command; a context in which the command writes.

    Args:
        folder: of the run; made where it is not there.
        command: that writes it, such as `eval`.
        arguments: for the manifest only.
        identity: by name, what decides the result: hashes and settings, as JSON values.
        seed: of the run's random numbers; part of the identity. None where there are none.
        owns: names in the folder that the command writes, `*` for any letters; `overwrite` removes nothing else.
        overwrite: start anew where the folder holds a run, which goes when the first of the new one is there.
        guest: the folder is that of another command's run, whose manifest stays; this one's is `COMMAND.manifest.json`.

    Raises:
        ConfigError: the folder holds another run, or another process writes it.
        DataError: the folder is a file, holds something else, or has a manifest that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: str,
        arguments: Mapping[str, object],
        identity: Mapping[str, object],
        seed: int | None,
        owns: tuple[str, ...],
        overwrite: bool = False,
        guest: bool = False,
    ) -> None:
        self._manifest, self._guest = f"{command}.{MANIFEST}" if guest else MANIFEST, guest
        self.folder, self.command, self.owns, self.overwrite = folder, command, owns, overwrite
        self.identity = json.loads(json.dumps({"command": command, **identity, "seed": seed}))
        made_by = manifest(arguments, seed)
        self._repeats = made_by.model_fields_set
        self.manifest = made_by.noting(command=command, state=STATES[0], identity=self.identity)
        self._replaces = False
        self._begun = self._made = False
        self._lock = Lock(self.folder)
        self._clock = 0.0

    def __enter__(self) -> Self:
        if self.folder.is_dir():
            self._stored()  # what is not ours does not even get a lock
        with publication("folder", self.folder):
            self._made = _make_folder(self.folder)
        self._lock.acquire()
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        self._clock = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        is_empty = [path.name for path in self.folder.iterdir()] == [LOCK]
        self._lock.release(remove=is_empty)
        if is_empty and self._made:
            with suppress(OSError):  # another command may have come meanwhile
                self.folder.rmdir()

    @property
    def state(self) -> State:
        """How far the run is."""
        return self.manifest.state or STATES[0]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "done"

    @property
    def facts(self) -> dict[str, Any]:
        """What `start` and `reach` noted in the manifest."""
        return {name: value for name, value in self.manifest.facts.items() if name != "seconds"}

    @property
    def made_by(self) -> Manifest:
        """What is needed to repeat the run, for a file that tells it by itself."""
        return Manifest.model_validate(self.manifest.model_dump(include=self._repeats))

    def has(self, *names: str) -> bool:
        """Whether these files and folders of the run are there; of a finished one a person may have taken some away."""
        return not self._replaces and all((self.folder / name).exists() for name in names)

    def _stored(self) -> Manifest | None:
        """The manifest of the folder; None where it is empty. Raises where it holds something else."""
        old = stored_manifest(self.folder, self._manifest)
        if old is None and not self._guest and (strange := self._strangers()):
            raise DataError(
                f"{self.folder} is not empty and holds no run ({strange} is there); choose another output folder"
            )
        if old is not None and (other := old.command or self.command) != self.command:
            raise ConfigError(f"{self.folder} holds a run of `medr1 {other}`; choose another folder")
        return old

    def _open(self) -> None:
        """Take up what is there, or start."""
        sweep(self.folder)
        old = None if self._made else self._stored()
        if old is None:
            return
        if self.overwrite:
            if old.command is None and (strange := self._strangers(MANIFEST, *self.owns)):  # of version 0.1
                raise DataError(
                    f"{self.folder} also holds {strange}, which `medr1 {self.command}` does not write; choose another "
                    "output folder"
                )
            self._replaces = True
            return
        self._check_same(old)
        _tell_versions(self.folder, old.packages, self.manifest.packages)
        spent = {name: value for name, value in old.facts.items() if name == "seconds"}
        self.manifest = (
            old if old.state == "done" else self.manifest.noting(started=old.started, state=old.state, **spent)
        )

    def _strangers(self, *known: str) -> str | None:
        """Something in the folder that has no known name and that no start, killed before its manifest, left.

        Inside of a run that this process writes, everything is that run's own.
        """
        if writes_around(self.folder):
            return None
        known = (LOCK, f"{STAGING}*", *known)
        return next((p.name for p in sorted(self.folder.iterdir()) if not any(map(p.match, known))), None)

    def _begin(self) -> None:
        """Before anything else becomes visible: an old run makes room, and a manifest says what is being made."""
        if self._replaces:
            self._replaces = False
            # Killed meanwhile, the folder is neither the old run nor the new one, and only `overwrite` leads out.
            mine = self.manifest
            self.manifest = mine.noting(identity={**REMOVED, "command": self.command})
            self.write_manifest()
            self._remove_all()
            self.manifest = mine
        if not self._begun:
            self._begun = True
            self.write_manifest()

    def _remove_all(self) -> None:
        """Take away what the command writes."""
        for path in sorted(self.folder.iterdir()):
            if path.name not in (LOCK, self._manifest) and any(path.match(name) for name in self.owns):
                self.remove(path.name)

    def _check_same(self, old: Manifest) -> None:
        """Raise `ConfigError` where the folder holds another run."""
        advice = "choose another folder, or start anew with --overwrite"
        if old.identity is None:
            raise ConfigError(
                f"{self.folder} was written by version {old.medr1}, which did not note what went in; {advice}"
            )
        if changes := differences(old.identity, self.identity):
            raise ConfigError(f"{self.folder} holds another run ({'; '.join(changes)}); {advice}")

    # Writing ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A folder that nobody reads, for files that are published later; gone at the end of the block."""
        aside = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.folder))
        aside.chmod(0o777 & ~umask())  # mkdtemp makes a folder that only its owner may read
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path to write to; at the end of the block it becomes `name`, whole."""
        with self.staged() as aside, naming(self.folder / name):
            yield aside / Path(name).name
            self.publish(aside / Path(name).name, name)

    @contextmanager
    def tree(self) -> Iterator[Path]:
        """A folder to write files and folders into; at the end of the block each of them becomes part of the run."""
        with self.staged() as aside:
            yield aside
            for made in sorted(aside.iterdir()):
                self.publish(made, made.name)

    @contextmanager
    def everything(self) -> Iterator[Path]:
        """As `tree`, of a command that makes all at once: until the end of the block an old run stays as it is."""
        self.manifest = self.manifest.noting(state=STATES[0])
        with self.tree() as aside:
            yield aside
            self._begin()
            self._remove_all()

    def publish(self, made: Path, name: str, *, durable: bool = True) -> None:
        """Give a finished file or folder its name in the run, in place of what has it.

        What is not `durable` survives the end of the process but perhaps not that of the machine: for many small files.
        """
        self._begin()
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            sync(made)
        if made.is_dir():
            self.remove(name)
        with publication("tree" if made.is_dir() else "file", target):
            os.replace(made, target)

    def discard(self) -> None:
        """Take the run away: what it has published is of no use."""
        if self._begun:
            self._remove_all()
            self.remove(self._manifest)
            self._begun = False

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file with keys in the order given."""
        with self.file(name) as path:
            path.write_text(as_json(value, indent=2) + "\n", encoding="utf-8")

    def write_jsonl(self, name: str, records: Iterable[Mapping[str, object] | Record]) -> None:
        """Write a file of JSON lines."""
        with self.file(name) as path:
            path.write_text("".join(as_json(record) + "\n" for record in records), encoding="utf-8")

    def write_dataset(self, name: str, samples: Iterable[Sample]) -> None:
        """Write samples as one parquet file that refers to their images."""
        with self.file(name) as path:
            write_shards(path.parent, samples, embed_images=False)
            (made,) = path.parent.iterdir()
            made.rename(path)

    def appending(self, name: str) -> "Appender":
        """A file of JSON lines to append to; a torn last line is cut."""
        self._begin()
        return Appender(self.folder / name)

    def remove(self, name: str) -> None:
        """Take a file or a folder away, where it is there."""
        path = self.folder / name
        if not path.exists() and not path.is_symlink():
            return
        with publication("removal", path):
            if path.is_dir() and not path.is_symlink():
                # Renamed first: a reader sees all of it, or nothing.
                aside = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.folder))
                os.replace(path, aside / "removed")
                shutil.rmtree(aside)
            else:
                path.unlink()

    def write_manifest(self) -> None:
        """Publish the manifest as it is now."""
        with self.staged() as aside:
            path, target = aside / self._manifest, self.folder / self._manifest
            path.write_text(as_json(self.manifest, indent=2) + "\n", encoding="utf-8")
            sync(path)
            with publication("manifest", target):
                os.replace(path, target)

    def holds(self, facts: Mapping[str, object]) -> bool:
        """Whether the manifest says the same; what it does not name is another."""
        noted = self.manifest.facts
        return all(name in noted and noted[name] == value for name, value in facts.items())

    def start(self, **facts: Any) -> None:
        """Note facts in the manifest, and that there is work to do, also in a run that was done for other facts."""
        self.manifest = self.manifest.noting(**facts, state=STATES[0])
        if self._begun:
            self.write_manifest()
        self._begin()

    def reach(self, state: State, **facts: Any) -> None:
        """Publish a further state, with further facts and the seconds that the run has taken in all its calls."""
        assert STATES.index(state) > STATES.index(self.state), f"a run that is {self.state} cannot become {state}"
        self._begin()
        now = time.monotonic()
        seconds = round(self.manifest.facts.get("seconds", 0.0) + now - self._clock, 1)
        self._clock = now
        self.manifest = self.manifest.noting(**facts, state=state, seconds=seconds)
        self.write_manifest()


class Appender(JsonlAppender):
    """Appends records to a run's file; each line is a publication."""

    def append(self, record: Mapping[str, object] | Record) -> None:
        """Write one line and hand it to the operating system."""
        with publication("line", self.path):
            super().append(record)


def sweep(folder: Path) -> None:
    """Remove what a process that ended left in staging; the caller holds the lock."""
    for path in folder.glob(f"{STAGING}*"):
        with publication("removal", path):
            shutil.rmtree(path, ignore_errors=True)


def _make_folder(folder: Path) -> bool:
    """Make the folder; whether it was new. Raises `DataError` where it is a file."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the output")
    if folder.is_dir():
        return False
    folder.mkdir(parents=True)
    return True


def _tell_versions(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [f"{name} {old} is now {now[name]}" for name, old in before.items() if now.get(name, old) != old]
    if changed:
        logger.warning("%s goes on with other versions: %s.", folder, ", ".join(changed))


__all__ = [
    "LOCK",
    "MANIFEST",
    "POINTS",
    "Lock",
    "Publication",
    "Run",
    "check_finished",
    "publication",
    "short_hash",
    "stored_manifest",
    "sweep",
]
