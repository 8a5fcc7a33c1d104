"""Which questions show the same image, series or patient, as far as names and pixels tell.

Published medical question sets carry no patient numbers, but many of their file names do, and two data sets may hold
copies of the same films. `RULES` is what the names of the public data sets tell; a name that no rule knows stands for
itself. Questions that share a key, or pixels, must not be divided between train and test.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from medr1.data.questions import QuestionSet, telling
from medr1.types import Sample

NAME_FIELDS = ("image", "images", "image_path", "image_name")
"""Fields of a source's record, kept in `Sample.extra` as JSON, that hold the image names with their folders."""

SERIES_GAP = 10
"""Slices of one RadImageNet series have neighbouring numbers; two numbers that differ by more are two series."""
SERIES_MAX = 50
"""Most images of one series: a longer run of numbers is cut at its widest gap, so that no group swallows a split."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """What the file names of one data set tell about its patients."""

    source: str
    """Data set, as a sample's `source` or as a folder in the image's path."""
    pattern: str
    """Searched in the path; the joined groups are the key."""
    unit: str
    """What shares a key."""
    reason: str
    space: str | None = None
    """Name under which several data sets share keys because they hold the same images."""
    key: Callable[[str], str] = str
    """From the joined groups to the key."""


_KERMANY = "the chest films and OCT scans of Kermany et al. (2018), which several data sets reuse under the same names"
_ARCHIVE = "number in the ISIC archive, from which all ISIC challenges draw"

RULES: tuple[NameRule, ...] = (
    NameRule("Mura", r"patient(\d+)", "patient", "the folder is the patient's; studies and views lie inside"),
    NameRule("Chest CT Scan", r"/([^/ .]+)[^/]*$", "base name", "`000139 (2)` and `6 - Copy` continue one name"),
    NameRule("OLIVES", r"Prime_FULL_(\d\d-\d{3})_", "patient", "trial PRIME: site and patient, then week and eye"),
    NameRule("OLIVES", r"TREX[^/]*?_(\d{4})[A-Z]+_V\d", "patient", "trial TREX-DME: patient, then arm, visit and eye"),
    NameRule("Diabetic Retinopathy", r"/(\d+)_(?:left|right)", "patient", "both eyes of one patient"),
    NameRule("DeepDRiD", r"/(\d+)_[lr]\d", "patient", "both eyes of one patient, two views each"),
    NameRule("Knee Osteoarthritis", r"/(\d+)[LR]\b", "patient", "both knees of one patient"),
    NameRule("PAD-UFES-20", r"PAT_(\d+)_", "patient", "patient, lesion and image number"),
    NameRule("MIAS", r"mdb(\d+)", "patient", "left and right breast have an odd number and the next even one",
             key=lambda number: str((int(number) + 1) // 2)),
    NameRule("BreakHis", r"SOB_[BM]_[A-Z]+-\d+-([0-9A-Z]+)-", "patient", "the slide's number, then magnification"),
    NameRule("MAlig Lymph", r"/(sj-\d+-\d+)", "slide", "the slide's number, then region and crop"),
    NameRule("NLM- Malaria Data", r"/C\d+A?P(\d+)", "patient", "`P` and the patient's number"),
    NameRule("NLM- Malaria Data", r"/(C\d+)[Tt]hin", "slide", "names without a patient have the slide's number"),
    NameRule("BioMediTech", r"/(\d+_\d+)_", "culture image", "crops of one image of a cell culture"),
    NameRule("Blood Cell", r"/([A-Z]+/_\d+)_", "cell image", "augmented copies of one image of a cell class"),
    NameRule("Covid CT", r"CT_COVID/(.+?)[-_]p\d+", "article", "figures of one article, mostly of one patient"),
    NameRule("Covid CT", r"CT_COVID/(PIIS\w+?)_", "article", "figures of one article, mostly of one patient"),
    NameRule("Covid CT", r"CT_NonCOVID/(\d+)", "figure", "`51%3` is one panel of figure 51"),
    NameRule("COVIDx CXR-4", r"MIDRC-RICORD-1C-(\w+-\d+)-", "patient", "site and patient of the RICORD collection"),
    NameRule("Chest X-Ray PA", r"/(\d{8})_\d{3}\.", "patient", "patient and follow-up number of NIH ChestX-ray14"),
    *(NameRule(source, pattern, "patient", _KERMANY, space="Kermany")
      for source in ("CoronaHack", "Chest X-Ray PA", "OCT & X-Ray 2017")
      for pattern in (r"/(person\d+)_", r"\b((?:NORMAL2-)?IM-\d+)-", r"/(?:CNV|DME|DRUSEN|NORMAL)-(\d+)-\d+\.")),
    *(NameRule(source, r"(ISIC_\d+)", "image", _ARCHIVE, space="ISIC archive")
      for source in ("ISBI2016", "ISIC2018", "ISIC2019", "ISIC2020")),
)  # fmt: skip
"""What the names tell, by data set; the first rule whose pattern is found counts."""

SERIES_SOURCE = "RadImageNet"
SERIES_NAME = re.compile(r"([^/]*?)(\d+)\.\w+$")
"""`knee080829.png`: the numbers of one prefix run through its studies, whatever the class folder."""

_RULES_OF: dict[str, list[tuple[NameRule, re.Pattern[str]]]] = defaultdict(list)
for _rule in RULES:
    _RULES_OF[_rule.source].append((_rule, re.compile(_rule.pattern)))


def image_names(sample: Sample) -> tuple[str, ...]:
    """Names of the images as the source gives them, folders included where they were kept."""
    for field in NAME_FIELDS:
        if field in sample.extra:
            value = _json_or_text(sample.extra[field])
            names = [value] if isinstance(value, str) else value
            if isinstance(names, list) and len(names) == len(sample.images) and all(isinstance(n, str) for n in names):
                return tuple(names)
    return tuple(ref.path for ref in sample.images if ref.path is not None)


def _json_or_text(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def source_of(sample: Sample, name: str) -> str:
    """Data set of an image: the sample's source, or else the folder in its path that a rule knows."""
    if sample.source in _RULES_OF or sample.source == SERIES_SOURCE:
        return sample.source
    folders = PurePath(name).parts[:-1]
    return next((part for part in folders if part in _RULES_OF or part == SERIES_SOURCE), sample.source)


def patient_key(source: str, name: str) -> tuple[str, str, str] | None:
    """Unit, name space and key that the first fitting rule finds in an image's name; None where no rule fits.

    >>> patient_key("Mura", "Images/Mura/valid/XR_WRIST/patient11228/study1_positive/image1.png")
    ('patient', 'Mura', '11228')
    """
    for rule, pattern in _RULES_OF.get(source, ()):
        found = pattern.search(f"/{name}")
        if found is not None:
            return rule.unit, rule.space or rule.source, rule.key("_".join(found.groups()))
    return None


def series(numbers: Iterable[int], gap: int = SERIES_GAP, largest: int = SERIES_MAX) -> list[list[int]]:
    """Runs of numbers whose neighbours differ by at most `gap`; a run of more than `largest` is cut at its widest gap.

    Of equally wide gaps the one nearest to the middle is cut.

    >>> series([1, 2, 5, 30, 31, 33], gap=10, largest=2)
    [[1, 2], [5], [30, 31], [33]]
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number - runs[-1][-1] <= gap:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [part for run in runs for part in _cut(run, largest)]


def _cut(run: list[int], largest: int) -> list[list[int]]:
    if len(run) <= largest:
        return [run]
    at = max(range(1, len(run)), key=lambda i: (run[i] - run[i - 1], -abs(2 * i - len(run))))
    return _cut(run[:at], largest) + _cut(run[at:], largest)


class UnionFind:
    """Sets that are joined one pair at a time; each is named by its first member."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def find(self, item: Hashable) -> Hashable:
        """Representative of the set that holds `item`."""
        root = self._parent.setdefault(item, item)
        while root != self._parent[root]:
            root = self._parent[root]
        while item != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, one: Hashable, other: Hashable) -> None:
        """Make the sets of both one set."""
        self._parent[self.find(other)] = self.find(one)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which questions belong together, and why."""

    group_of: Mapping[tuple[str, str], str]
    """Group of a sample by its id and variant."""
    rules: Mapping[str, int]
    """Images by the rule that gave their key, `image` for those that stand for themselves."""


def group_questions(
    questions: QuestionSet, *, gap: int = SERIES_GAP, largest: int = SERIES_MAX, patients: bool = True
) -> Grouping:
    """Groups of questions that share an image, pixels, a series or a patient, directly or through others.

    The sample's own `group` is a key too, so that what a source tells about its patients counts. `largest` bounds the
    images of one numbered series; a patient is never cut. Without `patients` only the image and the series count:
    what shows the same thing, not what must not be divided.
    """
    samples = questions.samples
    joined, rules = UnionFind(), Counter[str]()
    series_of = _series_keys(samples, gap, largest)
    seen: set[tuple[str, str]] = set()
    for sample, images in zip(samples, questions.images, strict=True):
        own = ("sample", sample.id, sample.variant)
        if sample.group and patients:
            joined.join(("group", sample.source, sample.group), own)
        for name in image_names(sample):
            source = source_of(sample, name)
            rule, keys = _keys(source, name, series_of)
            for key in keys:
                if patients or key[0] != "patient":
                    joined.join(key, own)
            rules[rule] += (source, name) not in seen
            seen.add((source, name))
        for value in (value for image in telling(images) for value in (image.file_hash, image.pixel_hash)):
            if value is not None:
                joined.join(value, own)
    return Grouping(_named(samples, joined), dict(sorted(rules.items())))


def _keys(source: str, name: str, series_of: Mapping[tuple[str, int], int]) -> tuple[str, list[tuple[Hashable, ...]]]:
    """The rule that knows the name, and all keys of the image."""
    keys: list[tuple[Hashable, ...]] = [("image", source, name)]
    slice_ = series_slice(source, name)
    if slice_ is not None:
        return f"{SERIES_SOURCE}: series", [*keys, ("series", slice_[0], series_of[slice_])]
    found = patient_key(source, name)
    if found is None:
        return "image", keys
    unit, space, key = found
    return f"{space}: {unit}", [*keys, ("patient", space, key)]


def series_slice(source: str, name: str) -> tuple[str, int] | None:
    """Prefix and number of an image that is a numbered slice."""
    found = SERIES_NAME.search(name) if source == SERIES_SOURCE else None
    return None if found is None else (found[1], int(found[2]))


def _series_keys(samples: Sequence[Sample], gap: int, largest: int) -> dict[tuple[str, int], int]:
    """First number of the series of each numbered slice."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        for name in image_names(sample):
            slice_ = series_slice(source_of(sample, name), name)
            if slice_ is not None:
                numbers[slice_[0]].add(slice_[1])
    return {
        (prefix, number): run[0]
        for prefix, values in numbers.items()
        for run in series(values, gap, largest)
        for number in run
    }


def _named(samples: Sequence[Sample], joined: UnionFind) -> dict[tuple[str, str], str]:
    """Name of each sample's group: a hash of its first member's identity, whatever the order of the samples."""
    members: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for sample in samples:
        members[joined.find(("sample", sample.id, sample.variant))].append((sample.id, sample.variant))
    names: dict[tuple[str, str], str] = {}
    for ids in members.values():
        name = hashlib.sha256("\n".join(min(ids)).encode()).hexdigest()[:16]
        names.update(dict.fromkeys(ids, name))
    return names
