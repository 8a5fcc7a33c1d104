"""VQA-RAD (doi:10.1038/sdata.2018.251): open and yes/no questions of clinicians about 315 radiology images.

Two forms are read: the rows on the Hugging Face hub, `{"image", "question", "answer"}` with the image inside, and the
authors' file, `{"qid", "image_name", "image_organ", "question", "answer", "answer_type": "OPEN" | "CLOSED",
"question_type", "phrase_type", …}`, whose test questions are those with a `phrase_type` that starts with `test`.
"""

from pathlib import Path

from medr1.data.record_files import ROW_SUFFIXES, Record
from medr1.data.source import Download, Source, text
from medr1.data.typed import as_text, image_refs, other_fields, split_of, split_of_file, typed_sample
from medr1.types import Sample


def _sniff(record: Record) -> bool:
    return {"image_name", "image_organ", "question", "answer", "phrase_type"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    image = "image_name" if "image_name" in record else "image"
    phrase = record.get("phrase_type")
    split = split_of(phrase) if isinstance(phrase, str) else split_of_file(file)
    if isinstance(phrase, str) and not split:
        split = {"split": "train"}
    # Counts and sizes are numbers in the authors' file.
    answer = record.get("answer")
    number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
    return typed_sample(
        source="VQA-RAD",
        images=image_refs(record, image),
        question=text(record, "question"),
        answers=[as_text(answer, "answer") if number else text(record, "answer")],
        extra=split | other_fields(record, {image, "question", "answer"}),
    )


SOURCE = Source(
    name="vqa-rad",
    description="VQA-RAD: the hub's rows (image, question, answer) or the authors' JSON file (image_name, image_organ)",
    suffixes=(*ROW_SUFFIXES, ".json"),
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    image_folders=("", "VQA_RAD Image Folder", "images"),
    download=Download(repo="flaviagiammarino/vqa-rad", files=("data/*.parquet", "*.md")),
    note="name the format (--source vqa-rad): the hub's rows look like any other's",
)
