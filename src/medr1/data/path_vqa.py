"""PathVQA (arXiv:2003.10286): open and yes/no questions about figures of pathology books.

A row on the Hugging Face hub is `{"image", "question", "answer"}` with the image inside; the split is the file's name.
"""

from pathlib import Path

from medr1.data.record_files import ROW_SUFFIXES, Record
from medr1.data.source import Download, Source, text
from medr1.data.typed import image_refs, other_fields, split_of_file, typed_sample
from medr1.types import Sample


def _sniff(record: Record) -> bool:
    del record  # image, question and answer are the fields of many data sets: this one must be asked for by name
    return False


def _parse(record: Record, file: Path) -> Sample:
    return typed_sample(
        source="PathVQA",
        images=image_refs(record, "image"),
        question=text(record, "question"),
        answers=[text(record, "answer")],
        modality="Microscopy",
        extra=split_of_file(file) | other_fields(record, {"image", "question", "answer"}),
    )


SOURCE = Source(
    name="path-vqa",
    description="PathVQA, the hub's rows: image, question, answer",
    suffixes=ROW_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    download=Download(repo="flaviagiammarino/path-vqa", files=("data/*.parquet", "*.md")),
    note="name the format (--source path-vqa): its rows look like any other's",
)
