"""The split files of Med-R1, which its fork AdvMed-R1 ships unchanged.

A record is `{"image": "Images/<data set>/…", "problem": "<question> A)x, B)y", "solution": "<answer> B </answer>"}`,
and, in files made for supervised training, `"thinking"`. The file name tells one axis, `CT(Computed Tomography)_test`
or `Lesion Grading_test`; reading a folder that holds files of both axes joins them on image and problem. Where no file
name tells the modality, the data set does if it has only one.
"""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from medr1.data.names import DATASET_MODALITY, modality_of, task_of
from medr1.data.problems import format_inline_problem, parse_inline_problem
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import (
    SPLITS,
    Source,
    choice_sample,
    gold_index,
    restored_record,
    text,
    with_record,
)
from medr1.types import Modality, Sample, Task

AXES = ("modality", "question_type", "q_type")


def _sniff(record: Record) -> bool:
    return isinstance(record.get("image"), str) and "problem" in record and "solution" in record


def _parse(record: Record, file: Path) -> Sample:
    modality, task, split = _facts_of(file)
    image = text(record, "image")
    question, options = parse_inline_problem(text(record, "problem"))
    source = _dataset_of(image)
    sample = choice_sample(
        source=source,
        image_names=[image],
        question=question,
        options=options,
        answer_index=gold_index(text(record, "solution"), len(options)),
        modality=DATASET_MODALITY.get(source, "unknown") if modality == "unknown" else modality,
        task=task,
        rationale=text(record, "thinking") if record.get("thinking") else None,
    )
    sample = with_record(sample, record, _rebuilt(sample))
    return replace(sample, extra={**sample.extra, SPLITS: split}) if split else sample


@lru_cache
def _facts_of(file: Path) -> tuple[Modality, Task, str | None]:
    """Modality, task and published split that a file's name and folders tell."""
    subject = re.sub(r"(_filtered)?_(train|test)(_partial)?\.jsonl?(\.gz)?$", "", file.name, flags=re.IGNORECASE)
    axis, split = file.parent.parent.name, file.parent.name
    return modality_of(subject), task_of(subject), f"{axis}/{split}" if axis in AXES else None


def _dataset_of(image: str) -> str:
    parts = PurePosixPath(image).parts
    return parts[1] if len(parts) > 2 and parts[0] == "Images" else "unknown"


def _rebuilt(sample: Sample) -> dict[str, Any]:
    return {
        "problem": format_inline_problem(sample.question, sample.options),
        "solution": f"<answer> {sample.gold} </answer>",
        "thinking": sample.rationale,
    }


def write_back(sample: Sample) -> dict[str, Any]:
    """Med-R1's own record of a sample read from it."""
    return restored_record(sample, _rebuilt(sample))


SOURCE = Source(
    name="med-r1",
    description="Med-R1 and AdvMed-R1 split files: image path, 'question A)x, B)y', '<answer> B </answer>'",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    write_back=write_back,
    note="github.com/Yuxiang-Lai117/Med-R1, Splits/; the images are those of `download omnimedvqa`",
)
