"""Rows of Medical_Multimodal_Evaluation_Data (HuatuoGPT-Vision), the training data of MedVLM-R1.

A row is `{"question", "image": ["images/…"], "options": [...], "answer": "<option text>", "dataset", "subset"}`; for
OmniMedVQA the subset is the modality. One file holds six published sets. Where the publisher keeps an answer, as for
MMMU's test questions, it is `?`; the authors' own scorer counts such a row as wrong, here it is left out.
"""

from pathlib import Path
from typing import Any

from medr1.data.names import modality_of
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import (
    Download,
    Source,
    choice_sample,
    option_index,
    restored_record,
    text,
    texts,
    with_record,
)
from medr1.types import Sample

WITHHELD = "?"


def _sniff(record: Record) -> bool:
    lists = isinstance(record.get("image"), list) and isinstance(record.get("options"), list)
    return lists and "dataset" in record and "answer" in record and "problem" not in record


def _parse(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    options = texts(record, "options")
    sample = choice_sample(
        source=text(record, "dataset"),
        image_names=texts(record, "image"),
        question=text(record, "question"),
        options=options,
        answer_index=option_index(text(record, "answer"), options),
        modality=modality_of(text(record, "subset")) if record.get("subset") else "unknown",
    )
    return with_record(sample, record, _rebuilt(sample))


def _rebuilt(sample: Sample) -> dict[str, Any]:
    assert sample.answer_index is not None, "every question of this source has a right option"
    return {
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.options[sample.answer_index],
        "dataset": sample.source,
    }


def write_back(sample: Sample) -> dict[str, Any]:
    """The row of a sample read from this source."""
    return restored_record(sample, _rebuilt(sample))


SOURCE = Source(
    name="huatuo",
    description="Medical_Multimodal_Evaluation_Data rows: image and option lists, answer text, subset",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    write_back=write_back,
    keeps_repeats=True,
    withheld=lambda record: record.get("answer") == WITHHELD,
    download=Download(
        repo="FreedomIntelligence/Medical_Multimodal_Evaluation_Data",
        files=("*.json", "images.zip", "README.md"),
        archives={"images.zip": ""},
    ),
)
