"""Studies in place of pictures: a question's image is a series or a volume, and a slice plan makes pictures of it.

A study is a folder with one DICOM series, the number of a series (SeriesInstanceUID) somewhere under the image folder,
a DICOM file of several frames, or a NIfTI file. Plan and hashes of the files stay with the sample, so that the same
pictures can be made again; names, numbers and dates of the study do not.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from medr1.data.dicom import read_frames
from medr1.data.dicom_header import is_dicom
from medr1.data.images import (
    Embedded,
    embedded,
    open_image,
    png_bytes,
    with_pictures,
)
from medr1.data.nifti import is_nifti, read_nifti
from medr1.data.series import read_series, series_of
from medr1.data.slices import SlicePlan, cut
from medr1.data.typed import NAMES
from medr1.data.volume import Volume
from medr1.doors import Most, clean, read_file, resolve_inside
from medr1.errors import DataError
from medr1.records import file_hash, short_hash
from medr1.records.hashes import MISSING, file_hashes
from medr1.types import ImageRef, Sample

STUDIES = "studies"
"""Key of `Sample.extra` with a `Recipe` for each study of a sample, as JSON."""
MASK = "mask"
"""Column of a table that names the mask of a study."""
_SERIES = re.compile(r"\d+(\.\d+)+")
_KEPT = 8
"""Studies whose pictures are kept in memory for further questions about them."""


class Recipe(BaseModel):
    """What the pictures of a study are made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: SlicePlan
    files: tuple[str, ...]
    """SHA-256 of each file, in no order: where a slice lies is in the files."""
    mask: tuple[str, ...] = ()
    """The same of the mask's, where the plan needs one."""
    first: int
    """Place of the study's first picture among those of the sample."""
    pictures: int
    """How many there are."""


_RECIPES = TypeAdapter(tuple[Recipe, ...])


def recipes_of(sample: Sample) -> tuple[Recipe, ...]:
    """The recipes of a sample's studies; none where it shows pictures alone."""
    try:
        return _RECIPES.validate_json(sample.extra.get(STUDIES, "[]"))
    except ValidationError as error:
        raise DataError(f"sample {sample.id}: what it was made from cannot be read; convert the study again") from error


def open_study(files: Sequence[Path], name: str, volume: int | None) -> Volume:
    """The volume of a study's files. Raises `DataError`."""
    data = read_file(files[0])
    if is_dicom(data):
        return read_series(files, name, volume)
    return replace(read_nifti(data, name, volume), files=(file_hash(files[0]),))


@dataclass(frozen=True, slots=True)
class _Shown:
    """A study as it is stored."""

    pictures: tuple[Embedded, ...]
    recipe: Recipe
    notes: tuple[str, ...]


@dataclass
class Studies:
    """The studies under a folder, as a plan shows them."""

    root: Path
    plan: SlicePlan
    notes: list[str] = field(default_factory=list)
    """What was odd about studies, once for each."""
    _known: OrderedDict[tuple[str, str | None], _Shown] = field(default_factory=OrderedDict)

    @cached_property
    def _series(self) -> dict[str, list[Path]]:
        """Files under the folder by the number of their series."""
        return series_of(_files_under(self.root))

    def files(self, name: str) -> list[Path]:
        """Files of the study of that name; none where it is the name of a picture. Raises `DataError`."""
        path = resolve_inside(self.root, name)
        if not path.exists() and _SERIES.fullmatch(name):
            if name not in self._series:
                raise DataError(f"there is no DICOM series {clean(name)} under {self.root}; check --image-root")
            return self._series[name]
        if path.is_dir():
            found = series_of(_files_under(path))
            if len(found) != 1:
                sizes = ", ".join(str(len(files)) for files in found.values())
                what = f"{len(found)} DICOM series (of {sizes} files)" if found else "no DICOM series"
                raise DataError(f"{path} holds {what}; name a folder with one, or the series by its SeriesInstanceUID")
            return next(iter(found.values()))
        return [path] if path.is_file() and (is_nifti(path) or _has_frames(path)) else []

    def contents(self, names: Iterable[str]) -> dict[str, Path]:
        """The files of the studies among these names, each under a name; what is wrong is said when its turn comes."""
        found: dict[str, Path] = {}
        for name in names:
            with suppress(DataError):
                found |= {f"{name} {number}": file for number, file in enumerate(self.files(name))}
        return found

    def embed(self, sample: Sample, *, allow_missing: bool, owners: dict[bytes, str]) -> Sample:
        """The sample with the pictures of its studies inside, and what they were made from; see `embed_images`."""
        images: list[Embedded] = []
        recipes: list[Recipe] = []
        for ref in sample.images:
            shown = None if ref.path is None or ref.data is not None else self._shown(ref.path, sample.extra.get(MASK))
            if shown is None:
                images.append(embedded(ref, self.root, allow_missing))
            else:
                recipes.append(shown.recipe.model_copy(update={"first": len(images)}))
                images.extend(shown.pictures)
        if not recipes:
            return with_pictures(sample, images, owners)
        kept = {name: value for name, value in sample.extra.items() if name not in (NAMES, MASK)}
        stored = {**kept, STUDIES: _RECIPES.dump_json(tuple(recipes)).decode()}
        found = with_pictures(sample, images, owners, own_group=short_hash([one.files for one in recipes]))
        return replace(found, extra={**stored, **{k: v for k, v in found.extra.items() if k not in sample.extra}})

    def _shown(self, name: str, mask: str | None) -> _Shown | None:
        key = (name, mask if self.plan.slicing.needs_mask else None)
        if key not in self._known:
            files = self.files(name)
            if not files:
                return None
            shown = self._cut(files, name, None if key[1] is None else self.files(key[1]), key[1])
            self.notes += [f"study {short_hash(shown.recipe.files)}: {note}" for note in shown.notes]
            self._known[key] = shown
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def _cut(
        self, files: Sequence[Path], name: str, mask_files: Sequence[Path] | None, mask_name: str | None
    ) -> _Shown:
        volume = open_study(files, clean(name), self.plan.volume)
        mask = open_study(mask_files, clean(mask_name or ""), None) if mask_files else None
        sliced = cut(volume, self.plan, mask)
        key = short_hash(volume.files)
        pictures = tuple(
            Embedded(
                ImageRef(path=f"{key}-{label}.png", data=png_bytes(picture)),
                size=picture.size,
                burned_in=volume.burned_in,
                owner=volume.owner or key.encode(),
            )
            for picture, label in zip(sliced.pictures, sliced.names, strict=True)
        )
        recipe = Recipe(
            plan=self.plan,
            files=volume.files,
            mask=mask.files if mask is not None else (),
            first=0,
            pictures=len(pictures),
        )
        return _Shown(pictures, recipe, sliced.notes)


def _files_under(folder: Path) -> Iterator[Path]:
    """Ordinary files in a folder and its folders, none of which lies elsewhere; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield resolve_inside(folder, str(name))


def _has_frames(path: Path) -> bool:
    data = read_file(path)
    return is_dicom(data) and len(read_frames(data, path.name, max_pixels=Most.PIXELS)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """What making the pictures of a data set again showed."""

    checked: int
    """Pictures that were made again."""
    differing: list[str]
    missing: list[str]
    """Studies whose files are not there."""


def remake(samples: Iterable[Sample], folder: Path) -> Remade:
    """Make the pictures of studies again from their files in a folder, which are known by content, not by name."""
    files = list(_files_under(folder))
    by_hash = {found: file for found, file in zip(file_hashes(files), files, strict=True) if found != MISSING}
    checked, differing, missing = 0, list[str](), list[str]()
    for sample, recipe in ((one, recipe) for one in samples for recipe in recipes_of(one)):
        wanted = (*recipe.files, *recipe.mask)
        if away := [one for one in wanted if one not in by_hash]:
            missing.append(f"sample {sample.id}: {len(away)} of the {len(wanted)} files of its study")
            continue
        volume = open_study([by_hash[one] for one in recipe.files], "the study", recipe.plan.volume)
        mask = open_study([by_hash[one] for one in recipe.mask], "the mask", None) if recipe.mask else None
        again = cut(volume, recipe.plan, mask).pictures
        stored = sample.images[recipe.first : recipe.first + recipe.pictures]
        checked += len(stored)
        if len(again) != len(stored):
            differing.append(f"sample {sample.id}: {len(stored)} pictures are stored, its study gives {len(again)}")
        differing += [
            f"sample {sample.id}, picture {recipe.first + at + 1}: other pixels than its study gives"
            for at, (picture, ref) in enumerate(zip(again, stored, strict=False))
            if picture.convert("RGB").tobytes() != open_image(ref).tobytes() or picture.size != open_image(ref).size
        ]
    if not checked and not missing:
        raise DataError("these samples show no studies, only pictures; there is nothing to make again")
    return Remade(checked=checked, differing=differing, missing=missing)
