"""Tables of VLMEvalKit: tab-separated, the images inside as base64.

Columns: `index`, `image` (base64) or `image_path`, either of which may be a list written as Python or JSON writes it,
`question`, optional `hint`, the options in `A`, `B`, …, `answer` (a letter; without options a text or yes or no),
`category`, `l2-category`, `split`. A cell of `image` that is no longer than an index stands for the picture of another
row; such tables must be written out first.
"""

import ast
import base64
import binascii
from pathlib import Path

from medr1.data.record_files import TSV_SUFFIXES, Record
from medr1.data.source import Source, gold_index, text
from medr1.data.typed import embedded_image, image_refs, other_fields, typed_sample
from medr1.errors import DataError
from medr1.types import LETTERS, ImageRef, Sample

LONGEST_INDEX = 64
"""A cell of at most so many characters is the index of another row (VLMEvalKit's own rule)."""


def _sniff(record: Record) -> bool:
    return {"index", "question", "answer"} <= record.keys() and ("image" in record or "image_path" in record)


def _parse(record: Record, file: Path) -> Sample:
    # Cells of absent options are empty; a table written by pandas may say nan.
    options = [record[letter] for letter in LETTERS if record.get(letter) not in (None, "", "nan")]
    answer = text(record, "answer").strip()
    hint = f"{record['hint']}\n" if record.get("hint") not in (None, "", "nan") else ""
    return typed_sample(
        source=file.name.split(".")[0],
        images=_images(record),
        question=hint + text(record, "question"),
        options=options,
        answers=[answer],
        answer_index=gold_index(answer, len(options)) if options else None,
        extra=other_fields(record, {"image", "image_path", "question", "hint", "answer", *LETTERS}),
    )


def _images(record: Record) -> tuple[ImageRef, ...]:
    if record.get("image"):
        return tuple(_image(value) for value in _cells(record, "image"))
    return image_refs({"image_path": _cells(record, "image_path")}, "image_path")


def _cells(record: Record, name: str) -> list[str]:
    cell = text(record, name)
    try:
        cells = ast.literal_eval(cell) if cell.startswith("[") and cell.endswith("]") else [cell]
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: lists in lists in lists
        cells = []
    if not cells or not all(isinstance(value, str) for value in cells):
        raise DataError(f"{name} is neither one image nor a list of texts; write the table again")
    return cells


def _image(cell: str) -> ImageRef:
    if len(cell) <= LONGEST_INDEX:
        raise DataError(f"image {cell!r} stands for the picture of another row; write every row's picture into it")
    try:
        return embedded_image(base64.b64decode(cell, validate=True))
    except (binascii.Error, ValueError) as error:
        raise DataError("image is not base64; write the table again") from error


SOURCE = Source(
    name="vlmevalkit",
    description="VLMEvalKit TSV: index, image (base64) or image_path, question, A, B, …, answer, category",
    suffixes=TSV_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    note="the tables of VLMEvalKit lie under opencompass.openxlab.space/utils; save the one you mean",
)
