"""SLAKE (arXiv:2102.09542): English and Chinese questions about 642 CT, MRI and X-ray images.

A record is `{"img_id", "img_name": "xmlab0/source.jpg", "question", "answer", "q_lang": "en" | "zh", "location",
"modality", "answer_type": "OPEN" | "CLOSED", "base_type", "content_type", "triple", "qid"}`; the images lie in `imgs/`.
One language or modality is chosen with `--where q_lang=en` and `--where modality=CT`. A CLOSED question is not always
yes or no, so the type follows from the answer.
"""

from pathlib import Path

from medr1.data.names import modality_of
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import Download, Source, text
from medr1.data.typed import image_refs, other_fields, split_of_file, typed_sample
from medr1.types import Sample


def _sniff(record: Record) -> bool:
    return {"img_name", "q_lang", "question", "answer"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    answer = text(record, "answer")
    return typed_sample(
        source="SLAKE",
        images=image_refs(record, "img_name"),
        question=text(record, "question"),
        answers=[answer],
        answer_type="text" if len(answer.strip()) == 1 and answer.strip().isalpha() else None,
        modality=modality_of(text(record, "modality")),
        extra=split_of_file(file) | other_fields(record, {"img_name", "question", "answer", "modality"}),
    )


SOURCE = Source(
    name="slake",
    description="SLAKE: img_name, question, answer, q_lang, modality, answer_type, content_type",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    image_folders=("imgs", ""),
    download=Download(
        repo="BoKelvin/SLAKE",
        files=("train.json", "validation.json", "test.json", "imgs.zip"),
        archives={"imgs.zip": ""},
    ),
    note="choose a language with --where q_lang=en",
)
