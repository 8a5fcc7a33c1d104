"""Identity of questions, of sets of samples and of runs."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medr1
from medr1.types import Sample

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


def short_hash(value: Any) -> str:
    """First 16 hex characters of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


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


def manifest(arguments: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """What is needed to repeat a run: arguments, versions, commit, hardware and start time.

    Holds no user name, host name or absolute path: a path outside the working folder is kept by its last part.
    """
    return {
        "arguments": _without_absolute_paths(arguments),
        "seed": seed,
        "medr1": medr1.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "packages": _installed_versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
