r"""The test file and example records of MedVLM-R1.

A record is `{"image": ["images/…"], "problem": "<question>\nA) x\nB) y", "solution": "B"}`; the test file adds
`question`, `options`, `answer`, `dataset` and `subset` (the modality), the examples `answer` and more. Fields that say
the same thing twice must agree.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from medr1.data.names import modality_of
from medr1.data.problems import format_lines_problem, parse_lines_problem
from medr1.data.record_files import JSON_SUFFIXES, Record
from medr1.data.source import (
    SPLITS,
    Source,
    choice_sample,
    gold_index,
    restored_record,
    text,
    texts,
    with_record,
)
from medr1.errors import DataError
from medr1.types import Sample


def _sniff(record: Record) -> bool:
    return isinstance(record.get("image"), list) and "problem" in record and "solution" in record


def _parse(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    question, options = parse_lines_problem(text(record, "problem"))
    answer_index = gold_index(text(record, "solution"), len(options))
    twice = {"question": question, "options": list(options), "answer": options[answer_index]}
    for name, value in twice.items():
        if name in record and record[name] != value:
            raise DataError(f"{name} is {record[name]!r}, but problem and solution say {value!r}; correct one of them")
    sample = choice_sample(
        source=text(record, "dataset") if "dataset" in record else "unknown",
        image_names=texts(record, "image"),
        question=question,
        options=options,
        answer_index=answer_index,
        modality=modality_of(text(record, "subset")) if "subset" in record else "unknown",
    )
    sample = with_record(sample, record, _rebuilt(sample))
    # Only the records of the published test file name their data set and subset; it is cut by modality.
    is_test = "dataset" in record and "subset" in record
    return replace(sample, extra={**sample.extra, SPLITS: "modality/test"}) if is_test else sample


def _rebuilt(sample: Sample) -> dict[str, Any]:
    assert sample.answer_index is not None, "every question of this source has a right option"
    return {
        "problem": format_lines_problem(sample.question, sample.options),
        "solution": sample.gold,
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.options[sample.answer_index],
        "dataset": sample.source,
    }


def write_back(sample: Sample) -> dict[str, Any]:
    """MedVLM-R1's own record of a sample read from it."""
    return restored_record(sample, _rebuilt(sample))


SOURCE = Source(
    name="medvlm-r1",
    description=r"MedVLM-R1 test file and examples: image list, 'question\nA) x\nB) y', 'B'",
    suffixes=JSON_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    write_back=write_back,
    note="github.com/JZPeterPan/MedVLM-R1; the images are those of `download huatuo`",
)
