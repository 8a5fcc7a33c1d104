"""PMC-VQA (arXiv:2305.10415): four-option questions about figures of papers.

The CSV files have two forms. Version 1 (`train.csv`, `test.csv`, `test_clean.csv`) is `Figure_path, Question, Answer,
Choice A … Choice D, Answer_label` with the answer's text in `Answer`; version 2 (`train_2.csv`, `test_2.csv`, figures
in `images_2.zip`) is `index, Figure_path, Caption, Question, Choice A … Choice D, Answer, split` with its letter there.
Choices begin with their own letter (` A:Axial `), which is taken off. The first uploads of version 1 spell `Answer` as
`Anwser`: `--column Answer=Anwser`.
"""

import re
from pathlib import Path

from medr1.data.record_files import CSV_SUFFIXES, Record
from medr1.data.source import Download, Source, gold_index, option_index, text
from medr1.data.typed import image_refs, other_fields, split_of_file, typed_sample
from medr1.types import LETTERS, Sample

CHOICES = tuple(f"Choice {letter}" for letter in LETTERS[:4])
USED = {"Figure_path", "Question", "Answer", "Answer_label", *CHOICES}


def _sniff(record: Record) -> bool:
    return {"Figure_path", "Question", "Answer", *CHOICES} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    options = [_choice(text(record, name), name[-1]) for name in CHOICES]
    label = record.get("Answer_label") or text(record, "Answer")
    return typed_sample(
        source="PMC-VQA",
        images=image_refs(record, "Figure_path"),
        question=text(record, "Question"),
        options=options,
        answers=[text(record, "Answer")],
        answer_index=_index(str(label).strip(), options),
        extra=split_of_file(file) | other_fields(record, USED),
    )


def _choice(choice: str, letter: str) -> str:
    return re.sub(rf"^\s*{letter}\s*[:.)]\s*", "", choice).strip()


def _index(label: str, options: list[str]) -> int:
    return gold_index(label, len(options)) if len(label) == 1 and label.isalpha() else option_index(label, options)


SOURCE = Source(
    name="pmc-vqa",
    description="PMC-VQA, both versions of the CSV: Figure_path, Question, Choice A … Choice D, Answer",
    suffixes=CSV_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    image_folders=("images", "figures", ""),
    download=Download(
        repo="RadGenome/PMC-VQA",
        files=("train.csv", "test.csv", "test_clean.csv", "train_2.csv", "test_2.csv", "images.zip", "images_2.zip"),
        archives={"images*.zip": "images"},
        flat=True,
    ),
    note="convert one file at a time: test_clean.csv is part of test.csv, and *_2.csv are version 2",
)
