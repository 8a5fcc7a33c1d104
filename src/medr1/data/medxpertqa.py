"""MedXpertQA MM (arXiv:2501.18362): 2,000 expert questions with five options and one to six images.

A line of `MM/test.jsonl` is `{"id": "MM-26", "question", "options": {"A": …, "E": …}, "label": "C", "images":
["MM-26-a.jpeg"], "medical_task", "body_system", "question_type"}`. The question ends in a copy of the options after
`Answer Choices:`, which is taken off; the images lie in `images/`. The Text part has no images and is not read.
"""

from pathlib import Path

from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import Download, Source, gold_index, text
from medr1.data.typed import image_refs, lettered_options, other_fields, split_of_file, typed_sample
from medr1.types import Sample

CHOICES = "\nAnswer Choices: (A)"


def _sniff(record: Record) -> bool:
    return {"medical_task", "body_system", "options", "label", "images"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    options = lettered_options(record, "options")
    index = gold_index(text(record, "label"), len(options))
    return typed_sample(
        source="MedXpertQA-MM",
        images=image_refs(record, "images"),
        question=text(record, "question").partition(CHOICES)[0],
        options=options,
        answers=[options[index]],
        answer_index=index,
        task="Disease Diagnosis" if record.get("medical_task") == "Diagnosis" else "other",
        extra=split_of_file(file) | other_fields(record, {"question", "options", "label", "images"}),
    )


SOURCE = Source(
    name="medxpertqa-mm",
    description="MedXpertQA MM: options by letter, label, images, medical_task, body_system, question_type",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    image_folders=("images", "../images"),
    download=Download(
        repo="TsinghuaC3I/MedXpertQA", files=("MM/*.jsonl", "images.zip", "README.md"), archives={"images.zip": ""}
    ),
)
