"""Samples of the sources whose questions may be open and whose images may lie inside the records.

A question with options is a choice. One without is `yes_no` when its answer is yes or no (then it has these two
options), `number` when the answer is one, and `text` otherwise. It never becomes a choice with made-up options.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

from medr1.data.options import absent, given_options, gold_index, without_places
from medr1.data.record_files import SAVED_STATE, Record
from medr1.data.source import SPLITS, Facts, choice_sample, group_hash, storable
from medr1.errors import DataError
from medr1.records import sample_id
from medr1.types import ANSWER_TYPES, LETTERS, RECORD_FIELDS, AnswerType, ImageRef, Sample

YES_NO = ("Yes", "No")

NAMES = "images"
"""Key of `Sample.extra` with image names that have folders: embedding keeps only their last part."""
SPLIT_NAMES = {"train": "train", "valid": "validation", "validate": "validation", "validation": "validation"}
SPLIT_NAMES |= {"val": "validation", "dev": "dev", "test": "test"}


_ENCODED_MAGIC = ("iVBORw0KGgo", "/9j/", "Qk", "SUkq", "TU0AK", "R0lGOD", "UklGR", "A" * 40)
"""How base64 of PNG, JPEG, BMP, TIFF, GIF, WebP and DICOM begins."""
_SHORTEST_ENCODED, _LONGEST_NAME = 64, 1024
_WEB_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def image_refs(record: Record, name: str) -> tuple[ImageRef, ...]:
    """The images in a field; none where it is empty.

    An image is a file's name, bytes, base64, a `data:` address, or the `{"bytes", "path"}` of a Hugging Face image.
    `DataError` for anything else.
    """
    value = record.get(name)
    if _is_no_picture(value):
        return ()
    return tuple(_image_ref(item, name) for item in (value if isinstance(value, list) else [value]))


def _is_no_picture(value: Any) -> bool:
    if isinstance(value, dict):
        return all(absent(value.get(part)) for part in ("bytes", "path"))
    return absent(value) or value == []


def _image_ref(value: Any, name: str) -> ImageRef:
    path = value.get("path") if isinstance(value, dict) else value
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, str):
        data = base64_bytes(data, name) if isinstance(value, dict) else _inline_bytes(data, name)
    if isinstance(data, bytes) and data:
        return embedded_image(data, path if isinstance(path, str) and path is not value else "")
    if isinstance(path, str) and not absent(path):
        if _WEB_ADDRESS.match(path):
            raise DataError(f"{name} is the web address {path[:80]!r}; fetch the picture and give its file")
        return ImageRef(path=storable(path, name))
    raise DataError(f"{name} is neither the name of an image nor an embedded one; fill it in or remove the record")


def _inline_bytes(value: str, name: str) -> bytes | None:
    """The picture that a text is; None where it is a name."""
    if value[:5].lower() == "data:":
        head, _, body = value.partition(",")
        if not head.lower().endswith(";base64"):
            raise DataError(f"{name} is a data: address without base64; write the picture as base64")
        return base64_bytes(body, name)
    if len(value) > _LONGEST_NAME or (len(value) >= _SHORTEST_ENCODED and value.lstrip().startswith(_ENCODED_MAGIC)):
        return base64_bytes(value, name)
    return None


def base64_bytes(value: str, name: str) -> bytes:
    """What base64 stands for, line breaks allowed; the `DataError` does not show the text, which is long."""
    try:
        in_lines = "\n" in value or " " in value
        return base64.b64decode("".join(value.split()) if in_lines else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{name} has {len(value)} characters and is no base64; give the name of a file, or base64"
        ) from error


def embedded_image(data: bytes, path: str = "") -> ImageRef:
    """An image inside the record. Its name is never a path of the publisher's machine."""
    name = PurePosixPath(storable(path, "path")).name if path else ""
    return ImageRef(path=name or _content_hash(data), data=data)


@lru_cache(maxsize=4)  # a picture is named, then identified
def _content_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def identity_of(ref: ImageRef) -> str:
    """What names an image in ids and groups: base names repeat, the content of an embedded image does not."""
    return ref.path or "" if ref.data is None else _content_hash(ref.data)


def kind_of_answer(answer: str) -> AnswerType:
    """Type of an answer without options.

    >>> kind_of_answer("yes"), kind_of_answer("12.5"), kind_of_answer("2 cm")
    ('yes_no', 'number', 'text')
    """
    if _yes_or_no(answer) is not None:
        return "yes_no"
    return "number" if re.fullmatch(r"[-+]?\d+([.,]\d+)?", answer.strip(), re.ASCII) else "text"


def _yes_or_no(answer: str) -> int | None:
    words = [word.casefold() for word in YES_NO]
    answer = answer.strip().rstrip(".").casefold()
    return words.index(answer) if answer in words else None


def typed_sample(
    *,
    images: Sequence[ImageRef],
    question: str,
    answers: Sequence[str],
    options: Sequence[str] = (),
    answer_index: int | None = None,
    answer_type: AnswerType | None = None,
    extra: Mapping[str, str] | None = None,
    **facts: Unpack[Facts],
) -> Sample:
    """A sample of any answer type; `DataError` when answer and options (of `given_options`) do not fit.

    With options the gold is `answer_index`, or the option that equals the only answer. Without, the type follows from
    the only answer unless `answer_type` says it; several answers need it.
    """
    names = [identity_of(ref) for ref in images]
    has_folders = any(ref.data is None and "/" in (ref.path or "") for ref in images)
    named = {NAMES: json.dumps([ref.path for ref in images])} if has_folders else {}
    extra = {**named, **(extra or {})}
    if not options:
        kind = answer_type or _kind(answers)
        if kind == "choice":
            raise DataError("the question has no options to choose from; give them or another answer_type")
        if kind != "yes_no":
            return _open_sample(images, names, question, answers, kind, extra, facts)
        options, answer_index = YES_NO, _yes_or_no(answers[0])
        if len(answers) != 1 or answer_index is None:
            raise DataError(f"the answer {answers[0][:80]!r} is not yes or no; correct it or its answer_type")
    if answer_index is None:
        answer_index = gold_index(answers[0], [without_places(option, len(images)) for option in options])
    return choice_sample(
        image_names=names,
        question=question,
        options=options,
        answer_index=answer_index,
        images=images,
        answer_type="yes_no" if {option.casefold().rstrip(".") for option in options} == {"yes", "no"} else "choice",
        extra=extra,
        **facts,
    )


def _kind(answers: Sequence[str]) -> AnswerType:
    if len(answers) != 1:
        raise DataError(
            f"the question has {len(answers)} answers and no options; say in answer_type whether each is right (text) "
            "or all together (multi)"
        )
    if re.fullmatch(r"[A-Za-j]", answers[0].strip()):
        raise DataError(
            f"the answer {answers[0]!r} is a letter, but there are no options; add them, or say answer_type text"
        )
    return kind_of_answer(answers[0])


def _open_sample(
    images: Sequence[ImageRef],
    names: Sequence[str],
    question: str,
    answers: Sequence[str],
    kind: AnswerType,
    extra: Mapping[str, str],
    facts: Facts,
) -> Sample:
    question, answers = without_places(question, len(names)), tuple(answer.strip() for answer in answers)
    if not question or not answers or any(map(absent, answers)):
        raise DataError("the question or an answer is empty; fill it in or remove the record")
    if kind == "number" and any(kind_of_answer(answer) != "number" for answer in answers):
        raise DataError(f"the answer {answers[0][:80]!r} is not a number; correct it or its answer_type")
    return Sample(
        id=sample_id(facts["source"], names, question, ()),
        images=tuple(images),
        question=question,
        answer_type=kind,
        answers=answers,
        extra=extra,
        **{**facts, "group": group_hash(facts.get("group"), names, question)},
    )


def listed_options(record: Record, name: str) -> tuple[str, ...]:
    r"""Options of a field: a list, an object from letters to texts, either as JSON text, or lines of `A. text`.

    Letters keep their places where one is missing or empty. `DataError` for anything else.
    """
    value = json_cell(record.get(name))
    if isinstance(value, str):
        lines = [re.fullmatch(r"\s*([A-Z])\s*[.:)]\s*(.+)", line) for line in value.strip().splitlines()]
        value = {found[1]: found[2] for found in lines if found} if all(lines) else value
    if isinstance(value, dict):
        by_letter = {str(letter).strip().upper(): option for letter, option in value.items()}
        if len(by_letter) < len(value) or not by_letter or by_letter.keys() - set(LETTERS):
            raise DataError(f"{name} are not texts under the letters A, B, …; write them under one letter each")
        value = [by_letter.get(letter) for letter in LETTERS]
    if not isinstance(value, list) or any(not isinstance(item, str) and not absent(item) for item in value):
        raise DataError(f'{name} is neither a list of texts nor texts under letters; write it as ["x", "y"]')
    return tuple(storable(option, name) for option in given_options(value))


def json_cell(value: Any) -> Any:
    """A JSON list or object in one cell of a table, or the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def answer_type_of(value: str | None) -> AnswerType | None:
    """The answer type that a field names; `DataError` for another word."""
    if value is None or value in ANSWER_TYPES:
        return value  # pyright: ignore[reportReturnType]
    raise DataError(f"answer_type {value[:40]!r} is unknown; use one of {', '.join(ANSWER_TYPES)}")


def other_fields(record: Record, used: Collection[str]) -> dict[str, str]:
    """The fields that a sample has no place for, as texts; bytes and empty ones are left out."""
    kept: dict[str, str] = {}
    for name, value in record.items():
        if name in used or value in (None, "") or value != value or isinstance(value, bytes):
            continue
        if name in (RECORD_FIELDS, SPLITS):
            raise DataError(f"the field name {name} is reserved; rename the field")
        kept[storable(name, "a field name")] = as_text(value, name)
    return kept


def as_text(value: Any, name: str) -> str:
    """A text as it is, anything else as JSON (dates as texts)."""
    return storable(value, name) if isinstance(value, str) else json.dumps(value, default=_without_bytes)


def _without_bytes(value: Any) -> Any:
    return None if isinstance(value, bytes) else str(value)


def split_of(file_name: str) -> dict[str, str]:
    """The published split that a file's name starts with, as an entry of `Sample.extra`.

    >>> split_of("validation-00000-of-00001.parquet"), split_of("questions.json")
    ({'split': 'validation'}, {})
    """
    split = _split_name(file_name)
    return {"split": split} if split else {}


@lru_cache(maxsize=64)  # a file has many rows
def _split_name(file_name: str) -> str | None:
    return SPLIT_NAMES.get(re.split(r"[^a-z]", file_name.lower(), maxsplit=1)[0])


def split_of_file(file: Path) -> dict[str, str]:
    """The same of a file of questions; of a `save_to_disk` folder, by the folder's name."""
    return split_of(file.parent.name if file.name == SAVED_STATE else file.name)


@lru_cache(maxsize=64)
def data_name(file: Path) -> str:
    """Name for a data set that does not tell its own: of its file, or of the folder around `train-00000.parquet`."""
    if not (split_of_file(file) or file.name == SAVED_STATE):
        return file.name.split(".")[0]
    return next((part.name for part in file.parents if part.name not in (*SPLIT_NAMES, "data", "")), "unknown")
