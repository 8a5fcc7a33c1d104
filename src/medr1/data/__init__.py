"""Data: readers of the published formats, image files, and what is measured on or done to sets of questions."""

from collections.abc import Iterator
from pathlib import Path

from medr1.data.formats import SOURCES
from medr1.data.record_files import Record, data_files, is_data
from medr1.data.source import EVERYTHING, Choice, Source, located
from medr1.errors import ConfigError, DataError
from medr1.records import check_finished
from medr1.records.samples import ARCHIVES
from medr1.types import Sample


def find_source(path: Path, name: str | None = None, choice: Choice = EVERYTHING) -> Source:
    """The source of that name, or else the one whose fields the first record under `path` has.

    `ConfigError` for a name that is not in `SOURCES`, `DataError` when no source fits and for a download that was
    stopped or still runs.
    """
    check_finished(path)
    if name is not None:
        if name not in SOURCES:
            raise ConfigError(f"there is no source {name!r}; use one of {', '.join(SOURCES)}")
        return SOURCES[name]
    suffixes = sorted({suffix for source in SOURCES.values() for suffix in source.suffixes})
    try:
        file = data_files(path, suffixes)[0]
    except DataError:
        if path.is_dir() and any(path.iterdir()):
            return SOURCES["class-folders"]
        raise
    if file.suffix.lower() in ARCHIVES and not is_data(file, suffixes):
        raise DataError(f"{file} is an archive; unpack it and give the folder")
    fitting = [source for source in SOURCES.values() if is_data(file, source.suffixes)]
    if not fitting:
        raise DataError(f"{file} is no data file that a source reads; give one of {', '.join(suffixes)}")
    record = next(fitting[0].records(file))
    with located(file, 1):
        record = choice.rename(record)
    for source in fitting:
        if source.sniff(record):
            return source
    raise DataError(f"{file} {_what_is_missing(record)}")


def _what_is_missing(record: Record) -> str:
    """Why no source fits a record."""
    has = f"has the fields {', '.join(map(str, record))}"
    map_it = "call it so, or map it with --column"
    answers = ("answer", "answer_index")
    if "question" in record and not any(name in record for name in answers):
        return f"{has}, but no `answer`; {map_it} answer=NAME"
    if any(name in record for name in answers) and "question" not in record:
        return f"{has}, but no `question`; {map_it} question=NAME"
    return (
        f"{has}, which no source has; rename them to those of a source ({', '.join(SOURCES)}; `medr1 data sources` "
        "describes them), or map them with --column"
    )


def read_source(
    path: Path, name: str | None = None, image_root: Path | None = None, choice: Choice = EVERYTHING
) -> Iterator[Sample]:
    """Samples under `path` in the format `name`, or in the one that fits; see `Source.read`."""
    return find_source(path, name, choice).read(path, image_root, choice)
