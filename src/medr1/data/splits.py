"""New train/test splits that do not leak, and the published ones as they are.

A split is one assignment of whole groups (image, series, patient; see `medr1.data.groups`) to train or test. The axis,
modality, task or source, only says how the two halves are cut into folders, so a question that is tested on one axis
is never trained on another.
"""

import hashlib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from medr1.answers.wording import plain_words
from medr1.data.groups import Grouping, group_questions, image_names, series_slice, source_of
from medr1.data.questions import QuestionSet, content_of, read_questions, samples_with_images, telling
from medr1.data.settings import SplitSettings
from medr1.data.source import SPLITS
from medr1.errors import DataError
from medr1.records import checked, data_hash, write_shards
from medr1.records.manifest import MANIFEST
from medr1.results import Record
from medr1.runs import Run, stored_manifest
from medr1.types import Sample

Axis = Literal["modality", "task", "source", "none"]
Part = Literal["train", "test"]
SPLIT = "split"
"""Key of `Sample.extra` with the published split of a source that has only one axis."""
Key = tuple[str, str]
"""Id and variant of a sample."""
Progress = Callable[[str, int], None]
"""Called with the name of the step and the number of samples done in it."""
Overlaps = dict[str, int | None]
"""Test questions whose image name, file, pixels or group are in any train part; None where it cannot be known."""


class SplitCounts(Record):
    """What the manifest says of any split."""

    n: int
    data_hash: str
    overlaps: Overlaps
    parts: dict[str, int]
    """Questions by the name of the folder."""


class PublishedSplit(SplitCounts):
    """Of one that the samples carry."""

    kind: Literal["published"] = "published"
    overlaps_by_axis: dict[str, Overlaps]


class Extremes(Record):
    """Of the shares of large enough strata; None where there are none."""

    min: float | None
    max: float | None


class GroupedSplit(SplitCounts):
    """Of a new one, in whole groups."""

    kind: Literal["grouped"] = "grouped"
    by: Axis
    assignment: str
    """Hash of what went where."""
    num_groups: int
    largest_group: int
    group_rules: dict[str, int]
    """By what groups were found, and how many samples that joined."""
    series_rule: str
    series_neighbours: int
    """Test slices next to a train slice."""
    test_share: float
    test_share_by_stratum: Extremes


def split(settings: SplitSettings, progress: Progress = lambda step, done: None) -> PublishedSplit | GroupedSplit:
    """Write one parquet folder a part and `manifest.json`, whole or not at all; return the summary.

    Called again, it changes nothing. `DataError` when there is nothing to split, and with `published` when no sample
    carries a published split.
    """
    names = () if settings.published else ("by", "test_share", "series_gap", "series_max")
    chosen = {name: getattr(settings, name) for name in names}
    with Run(
        settings.out,
        command="data split",
        arguments=settings.dump(),
        identity={"published": settings.published, **chosen, **content_of(settings.data)},
        seed=settings.seed,
        owns=_parts_in(settings.out),
        overwrite=settings.overwrite,
    ) as run:
        if run.done and run.has(*run.facts.get("parts", ())):
            return checked(run.facts, PublishedSplit | GroupedSplit, settings.out / MANIFEST)
        questions, parts, grouping, summary = _assigned(settings, progress)
        with run.everything() as staged:
            for name, members in parts.items():
                progress(name, len(members))
                folder = staged / name
                folder.mkdir(parents=True)
                write_shards(folder, _members(settings.data, questions, members, grouping), embed_images=False)
            run.start(parts=summary.parts)
        run.reach("done", **summary.written())
    return summary


def _parts_in(out: Path) -> tuple[str, ...]:
    """Folders of the split that is there, as its manifest names them from the moment at which they appear."""
    stored = stored_manifest(out) if out.is_dir() else None
    parts = stored and stored.facts.get("parts")
    return tuple({name.split("/")[0] for name in parts}) if isinstance(parts, dict) else ()


def _assigned(
    settings: SplitSettings, progress: Progress
) -> tuple[QuestionSet, dict[str, set[Key]], Grouping | None, PublishedSplit | GroupedSplit]:
    """The questions, the members of each part, the groups of a new split, and what the manifest says of it."""
    questions = read_questions(settings.data, progress=lambda done: progress("reading", done))
    samples = questions.samples
    if settings.published:
        grouping, assigned, parts = None, {}, published_parts(samples)
    else:
        grouping = group_questions(questions, gap=settings.series_gap, largest=settings.series_max)
        assigned = assign(samples, grouping.group_of, settings.test_share, settings.seed)
        parts = axis_parts(samples, assigned, settings.by)
    counted = SplitCounts(
        n=len(samples),
        data_hash=data_hash(samples),
        overlaps=overlaps(questions, parts, grouping),
        parts={name: len(members) for name, members in parts.items()},
    )
    if grouping is not None:
        return questions, parts, grouping, _described(counted, samples, grouping, assigned, settings)
    axes = sorted({name.split("/")[0] for name in parts if "/" in name})
    by_axis = {axis: overlaps(questions, _of_axis(parts, axis), None) for axis in axes}
    return questions, parts, None, counted.extended(PublishedSplit, overlaps_by_axis=by_axis)


def assign(
    samples: Sequence[Sample], group_of: Mapping[Key, str], test_share: float = 0.2, seed: int = 0
) -> dict[Key, Part]:
    """Train or test for every sample: whole groups in a random order, each to the side that keeps all strata closest.

    A stratum is a data set × modality × task, and each of its answers. After each group the number of test questions of
    a stratum is compared with `test_share` of those seen, and the side with the smaller sum of squared differences,
    each divided by the size of its stratum, is taken. The order of the samples does not matter.
    """
    strata_of: dict[str, Counter[str]] = defaultdict(Counter)
    members: dict[str, list[Key]] = defaultdict(list)
    for sample in samples:
        group = group_of[sample.id, sample.variant]
        members[group].append((sample.id, sample.variant))
        strata_of[group].update(strata(sample))
    sizes = sum(strata_of.values(), Counter[str]())
    order = sorted(members)
    random.Random(seed).shuffle(order)
    seen, tested = Counter[str](), Counter[str]()
    part_of: dict[Key, Part] = {}
    for group in order:
        counts = strata_of[group]
        seen.update(counts)
        # (t + n - e)² - (t - e)² = n (n + 2 (t - e)): what putting the n questions into test adds to the difference
        added = math.fsum(n * (n + 2 * (tested[s] - test_share * seen[s])) / sizes[s] for s, n in counts.items())
        part: Part = "test" if added < 0 else "train"
        if part == "test":
            tested.update(counts)
        part_of.update(dict.fromkeys(members[group], part))
    return part_of


def strata(sample: Sample) -> tuple[str, str]:
    """What a split keeps in proportion: the kind of question, and its answer."""
    kind = f"{sample.source} / {sample.modality} / {sample.task}"
    answer = sample.options[sample.answer_index] if sample.answer_index is not None else " ".join(sample.answers)
    return kind, f"{kind} / {plain_words(answer)}"


def axis_parts(samples: Sequence[Sample], assigned: Mapping[Key, Part], by: Axis) -> dict[str, set[Key]]:
    """Members of each folder, `train` and `test` or `CT/train` and so on, in order of the names."""
    parts: dict[str, set[Key]] = defaultdict(set)
    for sample in samples:
        key = (sample.id, sample.variant)
        value = "" if by == "none" else folder_name(getattr(sample, by)) + "/"
        parts[value + assigned[key]].add(key)
    return dict(sorted(parts.items()))


def published_parts(samples: Sequence[Sample]) -> dict[str, set[Key]]:
    """Members of the published splits that samples carry: `modality/CT/train`, or `test` where there is one axis."""
    parts: dict[str, set[Key]] = defaultdict(set)
    for sample in samples:
        key = (sample.id, sample.variant)
        if SPLIT in sample.extra:
            parts[folder_name(sample.extra[SPLIT])].add(key)
        for published in sample.extra.get(SPLITS, "").split():
            axis, part = published.rsplit("/", 1)
            value = sample.modality if axis == "modality" else sample.task
            parts[f"{axis}/{folder_name(value)}/{part}"].add(key)
    if not parts:
        raise DataError("no sample carries a published split; convert the folder that holds the published split files")
    return dict(sorted(parts.items()))


def _of_axis(parts: Mapping[str, set[Key]], axis: str) -> dict[str, set[Key]]:
    return {name: members for name, members in parts.items() if name.startswith(f"{axis}/")}


def folder_name(value: str) -> str:
    """The value as a name that every file system takes.

    >>> folder_name("OCT & X-Ray 2017")
    'OCT_X-Ray_2017'
    """
    kept = "".join(c if c.isalnum() or c in "-." else " " for c in value)
    return "_".join(kept.split()).strip(".") or "unnamed"


def overlaps(questions: QuestionSet, parts: Mapping[str, set[Key]], grouping: Grouping | None) -> Overlaps:
    """What the parts share; see `Overlaps`."""
    identities = {
        "path": [[f"{s.source}\n{name}" for name in image_names(s)] for s in questions.samples],
        "file": [[image.file_hash for image in telling(images) if image.file_hash] for images in questions.images],
        "pixels": [[image.pixel_hash for image in telling(images) if image.pixel_hash] for images in questions.images],
        "group": [[grouping.group_of[s.id, s.variant]] if grouping else [] for s in questions.samples],
    }
    sides: dict[str, set[Key]] = defaultdict(set)
    for name, members in parts.items():
        sides[name.rsplit("/", 1)[-1]] |= members
    counts: Overlaps = {}
    for name, values in identities.items():
        rows = [((s.id, s.variant), found) for s, found in zip(questions.samples, values, strict=True)]
        train = {value for key, found in rows if key in sides["train"] for value in found}
        shared = sum(not train.isdisjoint(found) for key, found in rows if key in sides["test"])
        counts[name] = shared if any(values) else None
    return counts


def stratification(samples: Sequence[Sample], assigned: Mapping[Key, Part]) -> tuple[float, Extremes]:
    """Share of test questions overall, and of the kinds of questions with at least 50 the smallest and the largest."""
    seen, tested = Counter[str](), Counter[str]()
    for sample in samples:
        kind, _ = strata(sample)
        seen[kind] += 1
        tested[kind] += assigned[sample.id, sample.variant] == "test"
    shares = [tested[kind] / n for kind, n in seen.items() if n >= 50]
    return tested.total() / len(samples), Extremes(min=min(shares, default=None), max=max(shares, default=None))


def _described(
    counted: SplitCounts,
    samples: Sequence[Sample],
    grouping: Grouping,
    assigned: Mapping[Key, Part],
    settings: SplitSettings,
) -> GroupedSplit:
    sizes = Counter(grouping.group_of.values())
    assignment = "\n".join(f"{id_} {variant} {part}" for (id_, variant), part in sorted(assigned.items()))
    share, by_stratum = stratification(samples, assigned)
    return counted.extended(
        GroupedSplit,
        by=settings.by,
        assignment=hashlib.sha256(assignment.encode()).hexdigest()[:16],
        num_groups=len(sizes),
        largest_group=max(sizes.values()),
        group_rules=grouping.rules,
        series_rule=f"numbers at most {settings.series_gap} apart, at most {settings.series_max} images, cut at "
        "the widest gap",
        series_neighbours=_neighbours(samples, assigned, settings.series_gap),
        test_share=share,
        test_share_by_stratum=by_stratum,
    )


def _neighbours(samples: Sequence[Sample], assigned: Mapping[Key, Part], gap: int) -> int:
    """Test slices with a train slice within the gap: those at the cuts that the bound on a series makes."""
    numbers: dict[Part, dict[str, set[int]]] = {"train": defaultdict(set), "test": defaultdict(set)}
    for sample in samples:
        for name in image_names(sample):
            slice_ = series_slice(source_of(sample, name), name)
            if slice_ is not None:
                numbers[assigned[sample.id, sample.variant]][slice_[0]].add(slice_[1])
    return sum(
        any(near in numbers["train"][prefix] for near in range(number - gap, number + gap + 1))
        for prefix, test in numbers["test"].items()
        for number in test
    )


def _members(data: Path, questions: QuestionSet, members: set[Key], grouping: Grouping | None) -> Iterator[Sample]:
    for sample in samples_with_images(data, questions):
        key = (sample.id, sample.variant)
        if key in members:
            yield sample if grouping is None else replace(sample, group=grouping.group_of[key])
