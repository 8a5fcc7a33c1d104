"""Identity of questions, of sets of samples and of runs."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

import medr1
from medr1.errors import DataError
from medr1.records.json_files import read_json, read_record
from medr1.results import Record
from medr1.types import Sample

MANIFEST = "manifest.json"
State = Literal["started", "whole", "done"]
"""How far a run is. `whole`: all that is dear to compute is there; `done`: and all that is made from it."""
STATES: tuple[State, ...] = ("started", "whole", "done")
HASH = re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}")
OURS = ("medr1", "arguments")
"""Fields by one of which a manifest of medr1, of any version, is told from other programs' files of that name."""
PARTS_DEPTH = 4
"""Folders from a file of a run up to its manifest, at most: `modality/CT/train/data-00000.parquet`."""

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "deepspeed",
    "flash-attn",
    "numpy",
    "peft",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "vllm",
)
"""Packages whose version may change a result; the manifest names those that are installed."""


_sorted = json.JSONEncoder(sort_keys=True).encode
"""`json.dumps` makes an encoder at every call, and every sample is hashed several times."""


def short_hash(value: Any) -> str:
    """First 16 hex characters of the SHA-256 of a JSON value."""
    return hashlib.sha256(_sorted(value).encode()).hexdigest()[:16]


def sample_id(source: str, image_names: Sequence[str], question: str, options: Sequence[str]) -> str:
    """Identity of a question, assigned once at conversion: 16 hex characters.

    `image_names` are the names that the source uses, not the paths of one machine.
    """
    return short_hash([source, list(image_names), question, list(options)])


def sample_hash(sample: Sample) -> str:
    """What `data_hash` knows of one sample: its id, variant, options and answers."""
    gold = sample.gold or ""
    return short_hash([sample.id, sample.variant, list(sample.options), gold, list(sample.answers)])


def data_hash(samples: Iterable[Sample]) -> str:
    """Identity of a set of samples whatever their order: 16 hex characters over their `sample_hash`."""
    return short_hash(sorted(map(sample_hash, samples)))


class Manifest(Record):
    """`manifest.json`; what is there beside these fields are facts that the command noted.

    The fields up to `started` are what is needed to repeat a run. Versions before this one lack some.
    """

    model_config = ConfigDict(extra="allow")

    arguments: dict[str, object] = Field(default_factory=dict)
    seed: int | None = None
    medr1: str | None = None
    git_commit: str | None = None
    python: str | None = None
    platform: str | None = None
    cpu_count: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    started: str | None = None
    command: str | None = None
    state: State | None = None
    identity: dict[str, object] | None = None

    def written(self) -> dict[str, object]:
        """The fields that it was made with."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the command noted, and in `seconds` how long it has taken."""
        return self.model_extra or {}

    def noting(self, **fields: object) -> "Manifest":
        """The same with other or further fields."""
        return self.model_copy(update=fields)


def manifest(arguments: Mapping[str, object], seed: int | None) -> Manifest:
    """What is needed to repeat a run: arguments, versions, commit, hardware and start time.

    Holds no user name, host name or absolute path: a path outside the working folder is kept by its last part.
    """
    return Manifest(
        arguments=_without_absolute_paths(arguments),
        seed=seed,
        medr1=medr1.__version__,
        git_commit=_git_commit(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu_count=os.cpu_count(),
        packages=_installed_versions(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def is_manifest(file: Path) -> bool:
    """Whether a file is a manifest of medr1, of any version: other programs have files of that name."""
    if not f".{file.name}".endswith(f".{MANIFEST}"):
        return False
    try:
        value = read_json(file)
    except DataError:
        return False
    return isinstance(value, dict) and any(name in value for name in OURS)


def stored_manifest(folder: Path, name: str = MANIFEST) -> Manifest | None:
    """The manifest of a folder; None where there is none. Raises `DataError` where it is none of ours."""
    path = folder / name
    if not path.exists():
        return None
    if not is_manifest(path):
        raise DataError(f"{path} is no manifest of medr1; choose another folder")
    return read_record(path, Manifest)


def check_finished(path: Path, above: int = PARTS_DEPTH) -> None:
    """Raise `DataError` where a file or folder belongs to a run that is not done; the nearest manifest tells.

    It is looked for in `path` and so many folders above. Folders of version 0.1, whose manifests have no state, and
    those of other programs count as finished.
    """
    for place in (path, *path.absolute().parents[:above]):
        try:
            stored = stored_manifest(place)
        except DataError:  # another program's
            continue
        if stored is None:
            continue
        if stored.state not in ("done", None):
            raise DataError(
                f"{place} is not finished (its `medr1 {stored.command or 'run'}` was stopped or still runs); "
                "repeat the command that writes it"
            )
        return


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What differs between two identities, in words; of hashes, only that it does.

    >>> differences({"seed": 0, "weights": "0123456789abcdef"}, {"seed": 1, "weights": "fedcba9876543210"})
    ['seed was 0, now 1', 'other weights']
    """
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [_difference(name.replace("_", " "), before.get(name), now.get(name)) for name in names]


def _difference(words: str, before: Any, now: Any) -> str:
    if HASH.fullmatch(str(before)) or HASH.fullmatch(str(now)):
        return f"other {words}"
    if isinstance(before, dict) and isinstance(now, dict):
        return ", ".join(differences(before, now))
    return f"{words} was {before!r}, now {now!r}"


def _without_absolute_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_absolute_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_absolute_paths(item) for item in value]
    if isinstance(value, (str, Path)) and Path(value).is_absolute():
        path = Path(value)
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
    return str(value) if isinstance(value, Path) else value


def _installed_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """Commit of the source tree, where medr1 runs from a checkout that git can read."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
