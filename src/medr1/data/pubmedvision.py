"""PubMedVision (HuatuoGPT-Vision, arXiv:2406.19280): 1.3 million open questions about figures of papers.

A record is `{"image": ["images/…", …], "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}],
"id", "modality", "body_part"}`. The first question and answer are the sample; later rounds stay in `extra`. The
captions behind the questions (`PubMedVision_Original_Caption.json`) have no conversations and are not fetched.
"""

import json
from pathlib import Path

from medr1.data.names import modality_of
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import Download, Source, text
from medr1.data.typed import image_refs, other_fields, typed_sample
from medr1.errors import DataError
from medr1.types import Sample

IMAGE_TOKEN = "<image>"


def _sniff(record: Record) -> bool:
    return isinstance(record.get("conversations"), list) and "image" in record


def _parse(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    turns = record.get("conversations")
    if not isinstance(turns, list) or [turn.get("from") for turn in turns[:2] if isinstance(turn, dict)] != [
        "human",
        "gpt",
    ]:
        raise DataError("conversations do not start with a turn of 'human' and one of 'gpt'; mend the record")
    later = {"later_rounds": json.dumps(turns[2:])} if len(turns) > 2 else {}
    return typed_sample(
        source="PubMedVision",
        images=image_refs(record, "image"),
        question=text(turns[0], "value").replace(IMAGE_TOKEN, "").strip(),
        answers=[text(turns[1], "value")],
        answer_type="text",
        modality=modality_of(str(record.get("modality", ""))),
        extra=later | other_fields(record, {"image", "conversations"}),
    )


SOURCE = Source(
    name="pubmedvision",
    description="PubMedVision rows: image list, conversations of human and gpt, modality, body_part",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    download=Download(
        repo="FreedomIntelligence/PubMedVision",
        files=("PubMedVision_*_VQA.json", "images_*.zip"),
        archives={"images_*.zip": "images"},
        flat=True,
    ),
    note="57 GB of images in 20 archives",
)
