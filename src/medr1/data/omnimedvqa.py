"""OmniMedVQA (arXiv:2402.09181): the 89,000 public questions behind Med-R1's splits, one file a data set.

A record of `QA_information/{Open-access,Restricted-access}/<data set>.json` is `{"dataset", "question_id",
"question_type", "question", "gt_answer": "<option text>", "image_path": "Images/…", "option_A" … "option_D",
"modality_type"}`; two-option questions lack `option_C` and `option_D`. One record of `Chest CT Scan` says `modality`
instead of `modality_type`: Med-R1's split lost it for that.
"""

from pathlib import Path

from medr1.data.names import modality_of, task_of
from medr1.data.record_files import Record
from medr1.data.source import Download, Source, option_index, text
from medr1.data.typed import image_refs, other_fields, typed_sample
from medr1.types import LETTERS, Sample

OPTIONS = tuple(f"option_{letter}" for letter in LETTERS[:4])
USED = {"dataset", "question_type", "question", "gt_answer", "image_path", "modality_type", "modality", *OPTIONS}


def _sniff(record: Record) -> bool:
    return {"gt_answer", "image_path", "question", "option_A"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    options = [text(record, name) for name in OPTIONS if record.get(name) not in (None, "")]
    answer = text(record, "gt_answer")
    access = file.parent.name
    return typed_sample(
        source=text(record, "dataset"),
        images=image_refs(record, "image_path"),
        question=text(record, "question"),
        options=options,
        answers=[answer],
        answer_index=option_index(answer, options),
        modality=modality_of(text(record, "modality_type" if "modality_type" in record else "modality")),
        task=task_of(text(record, "question_type")),
        extra=({"access": access} if access.endswith("-access") else {}) | other_fields(record, USED),
    )


SOURCE = Source(
    name="omnimedvqa",
    description="OmniMedVQA, QA_information/*/*.json: gt_answer, image_path, option_A … option_D, modality_type",
    suffixes=(".json",),
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    image_folders=("", "..", "../..", "OmniMedVQA"),
    download=Download(repo="foreverbeliever/OmniMedVQA", files=("*.zip", "*.md"), archives={"*.zip": ""}),
    note="the restricted data sets must be asked for at their owners; their questions are in the download",
)
