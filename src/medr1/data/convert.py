"""Conversion of a published or own data set to the parquet folder that everything else reads."""

import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from medr1.data import find_source
from medr1.data.images import BURNED_IN, UNFIT, embed_images
from medr1.data.options import options_refer
from medr1.data.settings import ConvertSettings
from medr1.data.source import NAMED, LeftOut, Source
from medr1.data.studies import MASK, STUDIES, Studies
from medr1.doors import resolve_inside
from medr1.errors import DataError
from medr1.records import DataHash, checked, sample_hash, short_hash, write_shards
from medr1.records.manifest import MANIFEST
from medr1.results import ABSENT, Record
from medr1.results.audited import Counts
from medr1.runs import Run
from medr1.types import Sample

SHARDS = ("data-*.parquet",)
"""What is written beside the manifest."""
NOTICED = ("burned_in_text", "unfit_pictures", "text_only", "options_that_refer", "studies")
"""Fields of `Converted` that are told where there is any."""

Progress = Callable[[int, int], None]
"""Called with the number of samples done and of all samples."""
Some = Annotated[int | None, ABSENT]
"""A count that is told where there is any."""


class LeftOutCounts(Record):
    """See `LeftOut`; without the folders of this machine, which a manifest does not hold."""

    withheld: int
    bad: int
    first_bad: list[str]


class Converted(Counts):
    """What the manifest says of a conversion."""

    source: str
    missing_images: int
    left_out: LeftOutCounts
    burned_in_text: Some = None
    """Pictures with names in their pixels, perhaps."""
    unfit_pictures: Some = None
    """Pictures that no Qwen-VL takes."""
    text_only: Some = None
    options_that_refer: Some = None
    """Questions of which an option speaks of others."""
    first_unfit: Annotated[list[str] | None, ABSENT] = None
    studies: Some = None
    """Questions about studies."""
    study_notes: Annotated[list[str] | None, ABSENT] = None
    """What is odd about studies, once for each."""


def convert(settings: ConvertSettings, progress: Progress = lambda done, total: None) -> Converted:
    """Write `settings.out` with shards and `manifest.json`, whole or not at all, and return what the latter counts.

    The records are read twice: once to count, check and hash them all, before any image is decoded, and once to write
    them as they stream by. Every image is decoded once before its bytes are embedded; see `embed_images` for what is
    stored. Called again, it changes nothing; other records or pictures are refused unless `settings.overwrite`.
    """
    choice = settings.choice
    source = find_source(settings.path, settings.source, choice)
    survey = _Survey.of(source, settings)
    asked = {"where": {name: sorted(v) for name, v in choice.where.items()}, "columns": choice.columns}
    decisive = {name: getattr(settings, name) for name in ("limit", "allow_missing_images", "skip_bad")}
    decisive |= {"allow_text_only": True} if settings.allow_text_only else {}  # older folders do not name it
    decisive |= settings.plan.dump() if settings.plan else {}
    with Run(
        settings.out,
        command="data convert",
        arguments={**settings.dump(), **asked},
        identity={"source": source.name, **asked, **decisive, **survey.identity},
        seed=settings.seed,
        owns=SHARDS,
        overwrite=settings.overwrite,
    ) as run:
        if run.done and "left_out" in run.facts and run.has("data-00000.parquet"):
            return checked(run.facts, Converted, settings.out / MANIFEST)
        with run.everything() as staged:
            summary = _write(staged, source, settings, survey, progress)
        run.reach("done", **summary.written())
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What a first reading of the records tells; none of them is kept."""

    total: int
    """Records that are asked for and can be used."""
    chosen: Collection[int] | None
    """Positions of those that are drawn; None for all."""
    root: Path
    """Folder of the images."""
    studies: Studies | None
    """Where images may be studies."""
    left_out: LeftOut
    identity: dict[str, str]
    """Hashes of the records, and of the pictures of those that are drawn."""

    @classmethod
    def of(cls, source: Source, settings: ConvertSettings) -> "_Survey":
        """Read all records. Raises `DataError` for the first that cannot be used, where such are not to be skipped."""
        left_out = LeftOut(skip_bad=settings.skip_bad, text_only=settings.allow_text_only)
        content = DataHash()
        total, shown, masks = 0, [], dict[str, None]()
        for sample in content.watch(source.read(settings.path, choice=settings.choice, left_out=left_out)):
            total += 1
            if settings.limit is not None:
                shown.append([ref.path for ref in sample.images if ref.data is None and ref.path])
            if settings.plan is not None and MASK in sample.extra:
                masks[sample.extra[MASK]] = None
        chosen = _drawn(total, settings.limit, settings.seed)
        root = settings.image_root or source.image_root(settings.path, settings.choice, skip_bad=settings.skip_bad)
        names = content.files if chosen is None else (name for position in sorted(chosen) for name in shown[position])
        pictures = {name: root / name for name in names if _is_inside(root, name)}
        studies = None if settings.plan is None else Studies(root, settings.plan)
        if studies is not None:
            pictures |= studies.contents([*pictures, *masks])
        identity = content.identity(pictures)
        return cls(total=total, chosen=chosen, root=root, studies=studies, left_out=left_out, identity=identity)


def _is_inside(root: Path, name: str) -> bool:
    """Whether the name of an image stays in its folder; the others are refused when their turn comes."""
    try:
        resolve_inside(root, name)
    except DataError:
        return False
    return True


def _write(folder: Path, source: Source, settings: ConvertSettings, survey: _Survey, progress: Progress) -> Converted:
    """Write the shards, and return what is said of them."""
    again = source.read(
        settings.path,
        choice=settings.choice,
        left_out=LeftOut(skip_bad=settings.skip_bad, text_only=settings.allow_text_only),
    )
    samples = (s for n, s in enumerate(again) if survey.chosen is None or n in survey.chosen)
    written = _Embedding(
        root=survey.root,
        studies=survey.studies,
        allow_missing=settings.allow_missing_images,
        left_out=survey.left_out,
        total=survey.total if survey.chosen is None else len(survey.chosen),
        progress=progress,
    )
    counts = _Counts()
    if not write_shards(folder, counts.watch(written.embedded(samples)), embed_images=False):
        raise survey.left_out.no_sample(settings.path, settings.choice)
    return counts.summary().extended(
        Converted,
        source=source.name,
        missing_images=written.missing,
        left_out=_counted(survey.left_out, settings.path, written.root),
        **{name: count or None for name, count in written.noticed.items()},
        first_unfit=written.first_unfit or None,
        study_notes=(survey.studies and survey.studies.notes) or None,
    )


def _counted(left_out: LeftOut, path: Path, root: Path) -> LeftOutCounts:
    first_bad = left_out.first_bad
    for folder in (root, path if path.is_dir() else path.parent):
        if folder.is_absolute():
            first_bad = [m.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name) for m in first_bad]
    return LeftOutCounts(withheld=left_out.withheld, bad=left_out.bad, first_bad=first_bad)


def choose(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` samples, drawn without replacement under the seed and left in their order."""
    chosen = _drawn(len(samples), limit, seed)
    return samples if chosen is None else [samples[index] for index in sorted(chosen)]


def _drawn(total: int, limit: int | None, seed: int) -> frozenset[int] | None:
    """Positions of `limit` of `total`; None for all."""
    if limit is None or limit >= total:
        return None
    return frozenset(random.Random(seed).sample(range(total), limit))


def summarise(samples: Iterable[Sample]) -> Counts:
    """Counts that describe a set of samples, and its hash."""
    counts = _Counts()
    for _ in counts.watch(samples):
        pass
    return counts.summary()


class _Counts:
    """Counts of samples that stream by: none of them is kept, only group names and 16 characters for the hash."""

    def __init__(self) -> None:
        self.columns = {name: Counter[str]() for name in ("modality", "task", "num_options", "source", "answer_type")}
        self.groups: set[str] = set()
        self.hashes: list[str] = []

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples, counted as they pass."""
        for sample in samples:
            values = (
                sample.modality,
                sample.task,
                str(sum(map(bool, sample.options))),
                sample.source,
                sample.answer_type,
            )
            for column, value in zip(self.columns.values(), values, strict=True):
                column[value] += 1
            self.groups.add(sample.group)
            self.hashes.append(sample_hash(sample))
            yield sample

    def summary(self) -> Counts:
        """The counts by value, the number of groups and the hash of the set."""
        counts = {f"by_{name}": dict(sorted(column.items())) for name, column in self.columns.items()}
        n, data_hash = len(self.hashes), short_hash(sorted(self.hashes))
        return Counts(n=n, num_groups=len(self.groups), data_hash=data_hash, **counts)


@dataclass(slots=True, kw_only=True)
class _Embedding:
    """Puts the images into samples that stream by, and counts what was noticed."""

    root: Path
    studies: Studies | None
    allow_missing: bool
    left_out: LeftOut
    total: int
    progress: Progress
    owners: dict[bytes, str] = field(default_factory=dict)
    missing: int = 0
    noticed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NOTICED, 0))
    first_unfit: list[str] = field(default_factory=list)
    """The pictures that no Qwen-VL takes, as many as a summary names."""

    def embedded(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples with their images inside."""
        for done, sample in enumerate(samples, start=1):
            try:
                embedded = self._embed(sample)
            except DataError as error:
                # An image inside a record has no file name to be found by.
                is_inside = any(ref.data is not None for ref in sample.images)
                place = f"question {sample.question[:60]!r}: " if is_inside else ""
                self.left_out.add_bad(DataError(f"{place}{error}"))
                continue
            self.missing += sum(ref.data is None for ref in embedded.images)
            unfit = embedded.extra.get(UNFIT)
            if unfit is not None and len(self.first_unfit) < NAMED:
                self.first_unfit.append(unfit)
            found = (
                *(BURNED_IN in embedded.extra, unfit is not None, not embedded.images, options_refer(embedded)),
                STUDIES in embedded.extra,
            )
            for name, is_so in zip(NOTICED, found, strict=True):
                self.noticed[name] += is_so
            yield embedded
            self.progress(done, self.total)

    def _embed(self, sample: Sample) -> Sample:
        if self.studies is not None:
            return self.studies.embed(sample, allow_missing=self.allow_missing, owners=self.owners)
        return embed_images(sample, self.root, allow_missing=self.allow_missing, owners=self.owners)
