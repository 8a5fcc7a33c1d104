"""Folders of images, one a class, as ISIC-2017 is handed around; the images may be DICOM.

`train/melanoma/ISIC_0000002.jpg` or, without splits, `melanoma/ISIC_0000002.jpg`. Every image becomes one question
whose options are the names of all classes in alphabetical order. The three classes of ISIC-2017 get MedVLM-R1's
question about them. The folder names are the diagnosis: they are options, never shown as paths.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medr1.data.options import given_options
from medr1.data.record_files import Record
from medr1.data.source import Source, text
from medr1.data.typed import SPLIT_NAMES, image_refs, typed_sample
from medr1.errors import DataError
from medr1.types import LETTERS, Sample

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")
ISIC_2017 = ("melanoma", "nevus", "seborrheic keratosis")


def class_folders(path: Path) -> Iterator[Record]:
    """One record an image under the class folders of `path`; `DataError` unless there are two to 26 classes."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; name the folder that holds one folder for each class")
    names = sorted(str(file.relative_to(path).as_posix()) for file in path.rglob("*") if _is_image(file, path))
    classes = sorted({PurePosixPath(name).parent.name for name in names})
    if not 2 <= len(classes) <= len(LETTERS):
        raise DataError(
            f"{path} has {len(classes)} folders with images; give it one for each of 2 to {len(LETTERS)} classes"
        )
    shown = [label.replace("_", " ").casefold() for label in classes]
    if len(set(shown)) < len(shown):
        twice = next(label for label, as_shown in zip(classes, shown, strict=True) if shown.count(as_shown) > 1)
        raise DataError(f"{path} has two folders that read alike ({twice!r} is one of them); put their images together")
    for name in names:
        yield {"image": name, "classes": classes}


def _is_image(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts
    fits = file.name.lower().endswith(IMAGE_SUFFIXES) and not any(part.startswith(".") for part in parts)
    return fits and file.is_file() and (len(parts) == 2 or (len(parts) == 3 and parts[0].lower() in SPLIT_NAMES))


def _sniff(record: Record) -> bool:
    return set(record) == {"image", "classes"}


def _parse(record: Record, file: Path) -> Sample:
    name = PurePosixPath(text(record, "image"))
    classes = list(record["classes"])
    options = [label.replace("_", " ") for label in classes]
    is_isic = tuple(option.lower() for option in options) == ISIC_2017
    return typed_sample(
        source="ISIC-2017" if is_isic else file.name or "class folders",
        images=image_refs(record, "image"),
        question="Which type of skin cancer is it?" if is_isic else "Which class does this image belong to?",
        options=given_options(options),
        answers=[options[classes.index(name.parent.name)]],
        answer_index=classes.index(name.parent.name),
        modality="Dermoscopy" if is_isic else "unknown",
        task="Disease Diagnosis" if is_isic else "unknown",
        extra={"split": SPLIT_NAMES[name.parts[0].lower()]} if len(name.parts) == 3 else {},
    )


SOURCE = Source(
    name="class-folders",
    description="a folder of images (DICOM too) for each class, as ISIC-2017: melanoma/, nevus/, seborrheic_keratosis/",
    suffixes=(),
    sniff=_sniff,
    parse=_parse,
    records=class_folders,
    note="ISIC-2017: challenge.isic-archive.com/data; sort the images into class folders by its ground-truth table",
)
