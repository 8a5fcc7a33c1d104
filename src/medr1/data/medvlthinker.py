"""MedVLThinker rows (arXiv:2508.02669): six public medical question sets in one form.

A row is `{"images", "question", "options", "answer_label": "B", "answer", "dataset_name", "dataset_index", "reasoning",
"misc", …}`. Options are an object by letter, that object as JSON text, or lines of `A. text`; label and answer must say
the same.
"""

from pathlib import Path

from medr1.data.record_files import JSON_SUFFIXES, ROW_SUFFIXES, Record
from medr1.data.source import Download, Source, gold_index, text
from medr1.data.typed import image_refs, lettered_options, other_fields, split_of_file, typed_sample
from medr1.errors import DataError
from medr1.types import Sample

USED = {"images", "image", "question", "options", "answer_label", "answer", "dataset_name", "reasoning"}


def _sniff(record: Record) -> bool:
    return {"question", "options", "answer_label", "dataset_name"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    options = lettered_options(record, "options")
    index = gold_index(text(record, "answer_label"), len(options))
    if record.get("answer") and text(record, "answer").strip() != options[index].strip():
        raise DataError(f"the answer is not the text of option {record['answer_label']}; correct one of them")
    return typed_sample(
        source=text(record, "dataset_name"),
        images=image_refs(record, "images" if "images" in record else "image"),
        question=text(record, "question"),
        options=options,
        answers=[options[index]],
        answer_index=index,
        rationale=text(record, "reasoning") if record.get("reasoning") else None,
        extra=split_of_file(file) | other_fields(record, USED),
    )


SOURCE = Source(
    name="medvlthinker",
    description="MedVLThinker rows: images, question, options by letter, answer_label, dataset_name",
    suffixes=(*ROW_SUFFIXES, *JSON_SUFFIXES),
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    download=Download(repo="UCSC-VLAA/MedVLThinker-Eval", files=("*.parquet", "**/*.parquet", "*.md")),
    note="its training rows: medr1 data download UCSC-VLAA/MedVLThinker-pmc_vqa",
)
