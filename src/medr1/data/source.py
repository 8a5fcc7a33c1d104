"""What the readers of all source formats share: reading a source, naming the record in an error, building a sample."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Required, TypedDict, Unpack

from medr1.data.options import absent, without_places
from medr1.data.record_files import Record, data_files, read_records
from medr1.doors import resolve_inside
from medr1.errors import ConfigError, DataError
from medr1.records import sample_id, short_hash
from medr1.types import LETTERS, RECORD_FIELDS, AnswerType, ImageRef, Modality, Sample, Task

Parse = Callable[[Record, Path], Sample]

SPLITS = "splits"
"""Key of `Sample.extra` with the published splits that hold the record, where folder names tell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Where the Hugging Face hub has a data set."""

    repo: str
    files: tuple[str, ...] = ()
    """Patterns of the files to fetch; empty for all."""
    archives: Mapping[str, str] = field(default_factory=dict)
    """Folder (relative to the download) that the zip files of a pattern are unpacked into."""
    flat: bool = False
    """Leave out the folders inside the archives, as the publisher's own instructions do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which records of a source to read, and what its fields are called."""

    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Values that a field may have; of several fields, all must fit."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The source's name of each field, for data whose names are other than the format's."""

    def rename(self, record: Record) -> Record:
        """The record with the field names of the format; `ConfigError` for a name that it does not have."""
        for theirs in self.columns.values():
            if theirs not in record:
                raise ConfigError(f"there is no field {theirs!r} in the data; it has {', '.join(map(str, record))}")
        renamed = {theirs: ours for ours, theirs in self.columns.items()}
        return {renamed.get(name, name): value for name, value in record.items()} if renamed else record

    def fits(self, record: Record) -> bool:
        """Whether the record is asked for; `DataError` when it lacks a field that is asked about."""
        for name in self.where:
            if name not in record:
                raise DataError(f"has no field {name!r} to choose by; it has {', '.join(map(str, record))}")
        return all(str(record[name]) in values for name, values in self.where.items())


EVERYTHING = Choice()

NAMED = 5
"""Bad records that a summary names; the others are only counted."""


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """What a reading leaves out of what was asked for, counted as it goes."""

    skip_bad: bool = False
    """Go on after a record that cannot be used, where reading stops there otherwise."""
    text_only: bool = False
    """Keep questions without a picture, which are left out otherwise, and an error unless bad records are skipped."""
    without_picture: int = 0
    """Records left out for that."""
    first_without_picture: str = ""
    withheld: int = 0
    """Records whose answer the publisher keeps."""
    bad: int = 0
    first_bad: list[str] = field(default_factory=list)
    """What is wrong with the first of them."""

    def add_bad(self, error: DataError) -> None:
        """Count a record that cannot be used; raises the error where such records are not to be skipped."""
        if not self.skip_bad:
            raise error
        self.bad += 1
        if self.bad <= NAMED:
            self.first_bad.append(str(error))

    def lacks_picture(self, sample: Sample, file: Path, number: int) -> bool:
        """Whether a sample is left out because it shows nothing; counted here, and an error at the end of reading."""
        if sample.images or self.text_only:
            return False
        if self.skip_bad:
            self.add_bad(DataError(f"{file} record {number}: has no picture"))
        else:
            self.without_picture += 1
            self.first_without_picture = self.first_without_picture or f"{file} record {number}: has no picture"
        return True

    def check_pictures(self) -> None:
        """Raise a `DataError` with the number of records that have no picture."""
        if self.without_picture:
            others = f" (as {self.without_picture - 1:,} more)" if self.without_picture > 1 else ""
            raise DataError(
                f"{self.first_without_picture}{others}; name one, or pass --allow-text-only to ask them without"
            )

    def no_sample(self, path: Path, choice: Choice) -> DataError:
        """Why reading `path` gave nothing at all."""
        if self.bad:
            return DataError(f"{path} holds nothing but {self.bad} bad records, the first: {self.first_bad[0]}")
        if self.withheld:
            return DataError(
                f"{path} tells no answer, its publisher keeps all {self.withheld}; give another part of it"
            )
        where = " and ".join(f"{name} is {' or '.join(values)}" for name, values in choice.where.items())
        return DataError(f"{path} has no record where {where}; check the names and values")


@dataclass(frozen=True, slots=True)
class Source:
    """One published or generic format of questions."""

    name: str
    description: str
    suffixes: tuple[str, ...]
    """Ends of the names of its files; empty where the folder itself is the data."""
    sniff: Callable[[Record], bool]
    """Whether a record has this format's fields."""
    parse: Parse
    """One record, and the file it is from, to a sample whose images are the names that the record gives, or none."""
    write_back: Callable[[Sample], dict[str, object]] | None = None
    """The source's own record of a sample that `read` returned, equal as a JSON value."""
    records: Callable[[Path], Iterator[Record]] = read_records
    """The records of one file (or of the folder)."""
    keeps_repeats: bool = False
    """The published files ask some questions twice about one image. Each is kept: the repetition gets another id."""
    withheld: Callable[[Record], bool] = lambda record: False
    """Whether the publisher keeps the answer of a record: it is left out, since nothing could be scored."""
    image_folders: tuple[str, ...] = ("",)
    """Where the images may lie, relative to the folder of the data; the first that holds the first image counts."""
    download: Download | None = None
    note: str = ""
    """Where to get the data if `download` cannot, or what else to know."""

    def files(self, path: Path) -> list[Path]:
        """The files of this format under `path`; `DataError` when there are none."""
        return data_files(path, self.suffixes) if self.suffixes else [path]

    def read(
        self,
        path: Path,
        image_root: Path | None = None,
        choice: Choice = EVERYTHING,
        left_out: LeftOut | None = None,
    ) -> Iterator[Sample]:
        """Samples of a file, or of all files under a folder; `DataError` names file and record.

        Images stay the names in the records (enough for work on text); with `image_root` they are paths under it.
        One file must not hold a question twice. A question that several files hold is one sample with what each file
        knows: this is how Med-R1's modality and question-type files are joined. Sources that keep repeats stream
        instead: nothing is joined and only ids are held in memory.

        `left_out` counts what is left out, and says whether a bad record is. A file whose records cannot be told apart
        (broken JSON or CSV) and files that disagree are errors in any case.
        """
        left_out = left_out or LeftOut()
        parsed = [self._parsed(file, choice, left_out) for file in self.files(path)]
        if self.keeps_repeats:
            samples = _numbered(parsed)
        else:
            alone = (_without_repeats(file, left_out) for file in parsed)
            samples = next(alone) if len(parsed) == 1 else merged(alone)
        empty = True
        for sample in samples:
            empty = False
            yield sample if image_root is None else _with_paths(sample, image_root)
        left_out.check_pictures()
        if empty:
            raise left_out.no_sample(path, choice)

    def image_root(self, path: Path, choice: Choice = EVERYTHING, *, skip_bad: bool = False) -> Path:
        """The folder that image names are relative to when no other is named."""
        folder = path if path.is_dir() else path.parent
        parsed = self._parsed(self.files(path)[0], choice, LeftOut(skip_bad=skip_bad))
        _, _, first = next(parsed, (None, None, None))
        names = [ref.path for ref in first.images if ref.data is None and ref.path is not None] if first else []
        candidates = [folder / name for name in self.image_folders]
        return next((root for root in candidates if all(_exists(root, name) for name in names)), candidates[0])

    def _parsed(self, file: Path, choice: Choice, left_out: LeftOut) -> Iterator[tuple[Path, int, Sample]]:
        for number, record in enumerate(self.records(file), start=1):
            try:
                with located(file, number):
                    renamed = choice.rename(record)
                    if not choice.fits(renamed):
                        continue
                    if self.withheld(renamed):
                        left_out.withheld += 1
                        continue
                    sample = self.parse(renamed, file)
            except DataError as error:
                left_out.add_bad(error)
            else:
                if not left_out.lacks_picture(sample, file, number):
                    yield file, number, sample


def _without_repeats(parsed: Iterable[tuple[Path, int, Sample]], left_out: LeftOut) -> Iterator[Sample]:
    first_seen: dict[str, int] = {}
    for file, number, sample in parsed:
        if sample.id in first_seen:
            repeat = f"repeats the question of record {first_seen[sample.id]}; remove one of them"
            left_out.add_bad(DataError(f"{file} record {number}: {repeat}"))
            continue
        first_seen[sample.id] = number
        yield sample


def _numbered(parsed: Iterable[Iterable[tuple[Path, int, Sample]]]) -> Iterator[Sample]:
    times = Counter[str]()
    for file in parsed:
        for _, _, sample in file:
            times[sample.id] += 1
            repeat = times[sample.id]
            yield sample if repeat == 1 else replace(sample, id=short_hash([sample.id, repeat]))


def _exists(root: Path, name: str) -> bool:
    try:
        return resolve_inside(root, name).is_file()
    except DataError:
        return False


@contextmanager
def located(file: Path, number: int) -> Iterator[None]:
    """Put file and record number (counted from 1) before the message of a `DataError`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file} record {number}: {error}") from error


def _with_paths(sample: Sample, root: Path) -> Sample:
    return replace(sample, images=tuple(_with_path(ref, root) for ref in sample.images))


def _with_path(ref: ImageRef, root: Path) -> ImageRef:
    if ref.data is not None or ref.path is None:
        return ref
    return ImageRef(path=str(resolve_inside(root, ref.path, "image path")))


# --- From a record to a sample --------------------------------------------------------------------------------------


def text(record: Record, name: str) -> str:
    """The text in a field of a record; `DataError` when it is missing, empty or something else."""
    value = record.get(name)
    if not isinstance(value, str) or absent(value):
        raise DataError(f"{name} is missing, empty or not a text; fill it in or remove the record")
    return storable(value, name)


def texts(record: Record, name: str) -> tuple[str, ...]:
    """The non-empty list of texts in a field of a record; `DataError` when it is missing or something else."""
    value = record.get(name)
    if not isinstance(value, list) or not value or any(not isinstance(item, str) or absent(item) for item in value):
        raise DataError(f"{name} is missing, empty or not a list of texts; fill it in or remove the record")
    return tuple(storable(item, name) for item in value)


def storable(value: str, name: str) -> str:
    """The text itself; `DataError` when it cannot be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} has half of a surrogate pair, which is no character; mend the text") from error
    return value


class Facts(TypedDict, total=False):
    """What is known of a question beside its words, answer and pictures."""

    source: Required[str]
    modality: Modality
    task: Task
    group: str | None
    """What must not be split; by default the images, whose names are hashed as they contain the diagnosis."""
    rationale: str | None


def group_hash(group: str | None, image_names: Sequence[str], question: str) -> str:
    """`Sample.group` of a group that a source names, or of the images, or of the question where there is none."""
    return short_hash(group if group is not None else list(image_names) or [question])


def choice_sample(
    *,
    image_names: Sequence[str],
    question: str,
    options: Sequence[str],
    answer_index: int,
    images: Sequence[ImageRef] | None = None,
    answer_type: AnswerType = "choice",
    extra: Mapping[str, str] | None = None,
    **facts: Unpack[Facts],
) -> Sample:
    """A sample with options and its identity; outer white space of question and options is dropped.

    `options` are as `given_options` returns them. `images` are the files called `image_names` unless they are given.
    """
    question = without_places(question, len(image_names))
    options = tuple(without_places(option, len(image_names)) for option in options)
    if not question:
        raise DataError("the question is empty; fill it in or remove the record")
    if sum(map(bool, options)) < 2 or len(options) > len(LETTERS):
        raise DataError(f"the question has {sum(map(bool, options))} options; give it 2 to {len(LETTERS)}")
    if not options[answer_index]:
        raise DataError(f"option {LETTERS[answer_index]}, the right one, is empty; fill it in or remove the record")
    return Sample(
        id=sample_id(facts["source"], image_names, question, options),
        images=tuple(ImageRef(path=name) for name in image_names) if images is None else tuple(images),
        question=question,
        options=options,
        answer_index=answer_index,
        answer_type=answer_type,
        extra=extra or {},
        **{**facts, "group": group_hash(facts.get("group"), image_names, question)},
    )


def with_record(sample: Sample, record: Record, rebuilt: Record) -> Sample:
    """The sample with what `restored_record` needs: the field names, and the fields that `rebuilt` does not equal."""
    for name in (RECORD_FIELDS, SPLITS):
        if name in record:
            raise DataError(f"the field name {name} is reserved; rename the field")
    extra = {name: json.dumps(value) for name, value in record.items() if name not in rebuilt or rebuilt[name] != value}
    return replace(sample, extra={**extra, RECORD_FIELDS: json.dumps(list(record))})


def restored_record(sample: Sample, rebuilt: Record) -> dict[str, object]:
    """The record that `with_record` was given; `rebuilt` are the fields that follow from the sample."""
    if RECORD_FIELDS not in sample.extra:
        raise DataError(f"sample {sample.id} was not read from this format; there is no record to write back")
    names = json.loads(sample.extra[RECORD_FIELDS])
    return {name: json.loads(sample.extra[name]) if name in sample.extra else rebuilt[name] for name in names}


# --- Joining files ------------------------------------------------------------------------------------------------


def merged(files: Iterable[Iterable[Sample]]) -> Iterator[Sample]:
    """Samples of several files in order of their first appearance, one for each id, with what every file knows."""
    samples: dict[str, Sample] = {}
    for file in files:
        for sample in file:
            known = samples.get(sample.id)
            samples[sample.id] = sample if known is None else _merge(known, sample)
    yield from samples.values()


def _merge(one: Sample, other: Sample) -> Sample:
    for name in ("answer_index", "modality", "task"):
        values = {getattr(one, name), getattr(other, name)} - {"unknown"}
        if len(values) > 1:
            raise DataError(
                f"two files disagree about the {name} of the question {one.question[:80]!r} (sample {one.id}): "
                f"{' and '.join(map(str, values))}; correct one of them"
            )
    splits = " ".join(filter(None, (one.extra.get(SPLITS), other.extra.get(SPLITS))))
    return replace(
        one,
        modality=other.modality if one.modality == "unknown" else one.modality,
        task=other.task if one.task == "unknown" else one.task,
        extra={**one.extra, **({SPLITS: splits} if splits else {})},
    )
