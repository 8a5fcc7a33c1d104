"""Data: readers of the published formats, image files, and what is measured on or done to sets of questions."""

from collections.abc import Iterator
from pathlib import Path

from medr1.data import huatuo, med_r1, medvlm_r1, table
from medr1.data.source import Source, data_files, load_records
from medr1.errors import ConfigError, DataError
from medr1.types import Sample

SOURCES: dict[str, Source] = {
    source.name: source for source in (med_r1.SOURCE, medvlm_r1.SOURCE, huatuo.SOURCE, table.JSONL, table.CSV)
}
"""Source formats by name, the most particular first: detection takes the first that fits."""


def find_source(path: Path, name: str | None = None) -> Source:
    """The source of that name, or else the one whose fields the first record under `path` has.

    `ConfigError` for a name that is not in `SOURCES`, `DataError` when no source fits.
    """
    if name is not None:
        if name not in SOURCES:
            raise ConfigError(f"there is no source {name!r}; use one of {', '.join(SOURCES)}")
        return SOURCES[name]
    suffixes = {suffix for source in SOURCES.values() for suffix in source.suffixes}
    file = data_files(path, sorted(suffixes))[0]
    record = load_records(file)[0]
    for source in SOURCES.values():
        if file.name.lower().endswith(source.suffixes) and source.sniff(record):
            return source
    raise DataError(
        f"{file} has the fields {', '.join(record)}, which no source has; rename them to those of a source "
        f"({', '.join(SOURCES)}; `medr1 data sources` describes them)"
    )


def read_source(path: Path, name: str | None = None, image_root: Path | None = None) -> Iterator[Sample]:
    """Samples under `path` in the format `name`, or in the one that fits; see `Source.read`."""
    return find_source(path, name).read(path, image_root)
