"""MM-IQ (arXiv:2502.00698): 2,710 puzzles of abstract visual reasoning, for what medical training does to it.

A row on the Hugging Face hub is `{"category", "question", "question_en", "question_zh", "image", "MD5", "data_id",
"answer": "B", "split"}` with the image inside. The four options are drawn in the image, so their texts are the letters
alone. The English question is asked.
"""

from pathlib import Path

from medr1.data.record_files import ROW_SUFFIXES, Record
from medr1.data.source import Download, Source, gold_index, text
from medr1.data.typed import image_refs, other_fields, split_of_file, typed_sample
from medr1.types import LETTERS, Sample

OPTIONS = tuple(LETTERS[:4])


def _sniff(record: Record) -> bool:
    return {"question_en", "question_zh", "image", "answer", "data_id", "category"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    answer = text(record, "answer")
    return typed_sample(
        source="MM-IQ",
        images=image_refs(record, "image"),
        question=text(record, "question_en"),
        options=OPTIONS,
        answers=[answer],
        answer_index=gold_index(answer, len(OPTIONS)),
        modality="other",
        task="other",
        extra=split_of_file(file) | other_fields(record, {"image", "question_en", "answer"}),
    )


SOURCE = Source(
    name="mm-iq",
    description="MM-IQ, the hub's rows: question_en, image with the options in it, answer, category, data_id",
    suffixes=ROW_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    download=Download(repo="huanqia/MM-IQ", files=("*.parquet", "*.md")),
    note="no medical data: what training on medical images does to reasoning about shapes",
)
