r"""The record files of the two seed systems, and the training data of one: each record can be written back.

Med-R1, which its fork AdvMed-R1 ships unchanged: `{"image": "Images/<data set>/…", "problem": "<question> A)x, B)y",
"solution": "<answer> B </answer>"}` and, in files made for supervised training, `"thinking"`. The file name tells one
axis, `CT(Computed Tomography)_test` or `Lesion Grading_test`; reading a folder that holds files of both axes joins them
on image and problem. Where no file name tells the modality, the data set does if it has only one.

MedVLM-R1's test file and examples: `{"image": ["images/…"], "problem": "<question>\nA) x\nB) y", "solution": "B"}`; the
test file adds `question`, `options`, `answer`, `dataset` and `subset` (the modality), the examples `answer` and more.
Fields that say the same thing twice must agree.

Medical_Multimodal_Evaluation_Data (HuatuoGPT-Vision), on which MedVLM-R1 trained: `{"question", "image": ["images/…"],
"options": [...], "answer": "<option text>", "dataset", "subset"}`; for OmniMedVQA the subset is the modality. One file
holds six published sets. Where the publisher keeps an answer, as for MMMU's test questions, it is `?`; the authors' own
scorer counts such a row as wrong, here it is left out.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from medr1.data.formats.problems import (
    format_inline_problem,
    format_lines_problem,
    parse_inline_problem,
    parse_lines_problem,
)
from medr1.data.names import DATASET_MODALITY, modality_of, task_of
from medr1.data.options import given_options, gold_index
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import SPLITS, Download, Source, choice_sample, restored_record, text, with_record
from medr1.data.typed import identity_of, image_refs, listed_options
from medr1.errors import DataError
from medr1.types import Modality, Sample, Task

AXES = ("modality", "question_type", "q_type")
WITHHELD = "?"
"""What stands in place of an answer that its publisher keeps."""


def _recorded(record: Record, rebuilt: Callable[[Sample], Record], **facts: Any) -> Sample:
    """The sample with these facts and the record's images, and with what `rebuilt` does not know of the record."""
    images = image_refs(record, "image")
    facts["options"] = given_options(facts["options"])
    sample = choice_sample(image_names=[identity_of(ref) for ref in images], images=images, **facts)
    if any(ref.data is not None for ref in images):  # the picture itself is not kept twice
        names = [ref.path for ref in images]
        record = {**record, "image": names if isinstance(record["image"], list) else names[0]}
    return with_record(sample, record, rebuilt(sample))


def _problem(sample: Sample, form: Callable[[str, Sequence[str]], str]) -> dict[str, str]:
    """Question and options as one text; nothing where they would be read back differently."""
    try:
        return {"problem": form(sample.question, sample.options)}
    except DataError:
        return {}


# --- Med-R1 ---------------------------------------------------------------------------------------------------------


def _is_med_r1(record: Record) -> bool:
    return isinstance(record.get("image"), str) and "problem" in record and "solution" in record


def _med_r1(record: Record, file: Path) -> Sample:
    modality, task, split = _facts_of(file)
    question, options = parse_inline_problem(text(record, "problem"))
    source = _dataset_of(record.get("image"))
    sample = _recorded(
        record,
        _as_med_r1,
        source=source,
        question=question,
        options=options,
        answer_index=gold_index(text(record, "solution"), options, "letter"),
        modality=DATASET_MODALITY.get(source, "unknown") if modality == "unknown" else modality,
        task=task,
        rationale=text(record, "thinking") if record.get("thinking") else None,
    )
    return replace(sample, extra={**sample.extra, SPLITS: split}) if split else sample


@lru_cache
def _facts_of(file: Path) -> tuple[Modality, Task, str | None]:
    """Modality, task and published split that a file's name and folders tell."""
    subject = re.sub(r"(_filtered)?_(train|test)(_partial)?\.jsonl?(\.gz)?$", "", file.name, flags=re.IGNORECASE)
    axis, split = file.parent.parent.name, file.parent.name
    return modality_of(subject), task_of(subject), f"{axis}/{split}" if axis in AXES else None


def _dataset_of(image: Any) -> str:
    parts = PurePosixPath(image).parts if isinstance(image, str) else ()
    return parts[1] if len(parts) > 2 and parts[0] == "Images" else "unknown"


def _as_med_r1(sample: Sample) -> Record:
    return {
        **_problem(sample, format_inline_problem),
        "solution": f"<answer> {sample.gold} </answer>",
        "thinking": sample.rationale,
    }


# --- MedVLM-R1 ------------------------------------------------------------------------------------------------------


def _is_medvlm_r1(record: Record) -> bool:
    return isinstance(record.get("image"), list) and "problem" in record and "solution" in record


def _medvlm_r1(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    question, options = parse_lines_problem(text(record, "problem"))
    answer_index = gold_index(text(record, "solution"), options, "letter")
    twice = {"question": question, "options": list(options), "answer": options[answer_index]}
    for name, value in twice.items():
        if name in record and record[name] != value:
            raise DataError(f"{name} is {record[name]!r}, but problem and solution say {value!r}; correct one of them")
    sample = _recorded(
        record,
        _as_medvlm_r1,
        source=text(record, "dataset") if "dataset" in record else "unknown",
        question=question,
        options=options,
        answer_index=answer_index,
        modality=modality_of(text(record, "subset")) if "subset" in record else "unknown",
    )
    # Only the records of the published test file name their data set and subset; it is cut by modality.
    is_test = "dataset" in record and "subset" in record
    return replace(sample, extra={**sample.extra, SPLITS: "modality/test"}) if is_test else sample


def _as_medvlm_r1(sample: Sample) -> Record:
    return {**_problem(sample, format_lines_problem), "solution": sample.gold, **_as_huatuo(sample)}


# --- HuatuoGPT-Vision -----------------------------------------------------------------------------------------------


def _is_huatuo(record: Record) -> bool:
    lists = isinstance(record.get("image"), list) and isinstance(record.get("options"), list)
    return lists and "dataset" in record and "answer" in record and "problem" not in record


def _huatuo(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    options = listed_options(record, "options")
    return _recorded(
        record,
        _as_huatuo,
        source=text(record, "dataset"),
        question=text(record, "question"),
        options=options,
        answer_index=gold_index(text(record, "answer"), options, "text"),
        modality=modality_of(text(record, "subset")) if record.get("subset") else "unknown",
    )


def _as_huatuo(sample: Sample) -> Record:
    assert sample.answer_index is not None, "every question of this source has a right option"
    return {
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.options[sample.answer_index],
        "dataset": sample.source,
    }


MED_R1 = Source(
    name="med-r1",
    description="Med-R1 and AdvMed-R1 split files: image path, 'question A)x, B)y', '<answer> B </answer>'",
    suffixes=JSON_SUFFIXES,
    sniff=_is_med_r1,
    parse=_med_r1,
    write_back=lambda sample: restored_record(sample, _as_med_r1(sample)),
    note="github.com/Yuxiang-Lai117/Med-R1, Splits/; the images are those of `download omnimedvqa`",
)
MEDVLM_R1 = Source(
    name="medvlm-r1",
    description=r"MedVLM-R1 test file and examples: image list, 'question\nA) x\nB) y', 'B'",
    suffixes=JSON_SUFFIXES,
    sniff=_is_medvlm_r1,
    parse=_medvlm_r1,
    write_back=lambda sample: restored_record(sample, _as_medvlm_r1(sample)),
    note="github.com/JZPeterPan/MedVLM-R1; the images are those of `download huatuo`",
)
HUATUO = Source(
    name="huatuo",
    description="Medical_Multimodal_Evaluation_Data rows: image and option lists, answer text, subset",
    suffixes=JSON_SUFFIXES,
    sniff=_is_huatuo,
    parse=_huatuo,
    write_back=lambda sample: restored_record(sample, _as_huatuo(sample)),
    keeps_repeats=True,
    withheld=lambda record: record.get("answer") == WITHHELD,
    download=Download(
        repo="FreedomIntelligence/Medical_Multimodal_Evaluation_Data",
        files=("*.json", "images.zip", "README.md"),
        archives={"images.zip": ""},
    ),
)
