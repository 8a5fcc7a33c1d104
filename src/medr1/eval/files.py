"""What `results.json` and `manifest.json` of an evaluation hold, for those who read them back.

Further fields are kept; these are the ones that our own readers rely on.
"""

from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from medr1.records import checked, read_json

FURTHER = ConfigDict(extra="allow")
Interval = tuple[float, float] | list[float] | None


@with_config(FURTHER)
class Share(TypedDict):
    """An accuracy with its interval."""

    accuracy: NotRequired[float | None]
    ci95: NotRequired[Interval]


@with_config(FURTHER)
class Blind(TypedDict):
    """What is reached without looking."""

    text_prior: float | None
    format_rule: float | None
    longest_option: float | None
    blank_image: float | None
    swapped_image: float | None


@with_config(FURTHER)
class ResultsFile(TypedDict):
    """`results.json`."""

    n: int
    accuracy: float | None
    ci95: Interval
    ci_method: str
    n_groups: int
    failed: int
    chance: float
    majority_letter: float
    blind: Blind
    parse: dict[str, int]
    protocols: dict[str, Share]
    by_modality: dict[str, Share]
    by_task: dict[str, Share]
    by_source: dict[str, Share]
    controls: dict[str, dict[str, Any]]
    image_reliance: dict[str, Any] | None
    option_order: dict[str, Any] | None


@with_config(FURTHER)
class Arguments(TypedDict):
    """Of the manifest: what was asked for."""

    prompt: str
    protocol: str
    sampling: dict[str, int | float]
    data_hash: str
    model: NotRequired[str | None]
    data: NotRequired[str | None]
    limit: NotRequired[int | None]


@with_config(FURTHER)
class ManifestFile(TypedDict):
    """`manifest.json` of an evaluation."""

    arguments: Arguments
    seed: int
    controls: NotRequired[list[str]]
    train_data_hash: NotRequired[str | None]
    batch_size: NotRequired[int]


def read_results(folder: Path) -> dict[str, Any]:
    """`results.json` of a folder. Raises `DataError` where it is none."""
    path = folder / "results.json"
    value = read_json(path)
    checked(value, ResultsFile, path)
    return value


def read_manifest(folder: Path) -> dict[str, Any]:
    """`manifest.json` of an evaluation. Raises `DataError` where it is none."""
    path = folder / "manifest.json"
    value = read_json(path)
    checked(value, ManifestFile, path)
    return value
