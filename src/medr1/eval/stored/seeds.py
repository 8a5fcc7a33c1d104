"""The result files of MedVLM-R1, Med-R1 and AdvMed-R1: `{"accuracy": percent, "results": [...]}`, read and written.

MedVLM-R1 and Med-R1 keep the whole input record of each question, AdvMed-R1 (`detailed_results`) only its gold answer:
its questions come from the test file. The two write the gold answer differently: `B`, and `<answer> B </answer>`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medr1.answers import PROTOCOLS
from medr1.data import SOURCES
from medr1.data.options import gold_index
from medr1.data.record_files import Record as Row
from medr1.data.source import located
from medr1.errors import DataError
from medr1.eval.stored.run import StoredAnswer, StoredRun, stored_run
from medr1.prompts import written_style
from medr1.results import Record
from medr1.types import LETTERS, Prediction, Sample

SEEDS = ("medvlm-r1", "med-r1")


def is_seed_result(value: Any) -> bool:
    """Whether a JSON value is a result file of one of the three."""
    return isinstance(value, Mapping) and bool({"results", "detailed_results"} & value.keys())


def read_seed_result(value: Row, file: Path, data: Sequence[Sample] | None) -> StoredRun:
    """The run in a result file. `DataError` names the entry that cannot be used.

    `data` are the questions of the test file, in its order; AdvMed-R1's results need them, others are checked against
    them where they are given.
    """
    entries = value.get("results", value.get("detailed_results"))
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(f"{file} holds no list of results; give the file that the evaluation wrote")
    answers = []
    for number, entry in enumerate(entries, start=1):
        with located(file, number):
            answers.append(_answer(entry, number, file, data))
    if data is not None and len(data) != len(answers):
        raise DataError(f"{file} has {len(answers)} results and the data {len(data)} questions; give its test file")
    kind = "advmed-r1" if "detailed_results" in value else _seed_of(entries[0])
    return stored_run(kind, answers)


def _answer(entry: Row, number: int, file: Path, data: Sequence[Sample] | None) -> StoredAnswer:
    if "model_output" not in entry or "ground_truth" not in entry:
        raise DataError("has no model_output or no ground_truth; give the file that the evaluation wrote")
    if data is not None:
        if number > len(data):
            raise DataError(f"the data end at question {len(data)}; give the test file of these results")
        sample = data[number - 1]
    elif isinstance(entry.get("question"), Mapping):
        sample = SOURCES[_seed_of(entry)].parse(entry["question"], file)
    else:
        raise DataError("has no question; name the test file of these results with --data")
    gold = LETTERS[gold_index(str(entry["ground_truth"]), sample.options or LETTERS, "letter")]
    if sample.gold != gold:
        raise DataError(f"its gold answer is {gold} and that of the question {sample.gold}; give its own test file")
    output = entry["model_output"]
    return StoredAnswer(sample=sample, completions=["" if output is None else str(output)])


def _seed_of(entry: Row) -> str:
    record = entry.get("question")
    found = [name for name in SEEDS if isinstance(record, Mapping) and SOURCES[name].sniff(record)]
    if not found:
        raise DataError("its question is no record of MedVLM-R1 or Med-R1; name the test file with --data")
    return found[0]


_Row = tuple[Sample, Prediction, str | None]


class SeedAnswer(Record):
    """One question of `SeedResult`."""

    question: dict[str, object]
    """The input record."""
    ground_truth: str | None
    model_output: str
    extracted_answer: str | None


class SeedResult(Record):
    """A result file of MedVLM-R1 and Med-R1."""

    accuracy: float
    """In percent."""
    results: list[SeedAnswer]


class CleanAnswer(Record):
    """One question of `CleanResult`."""

    model_output: str
    model_answer: str | None
    ground_truth: str
    gt_answer: str | None
    correct: bool


class CleanResult(Record):
    """A result file of AdvMed-R1's evaluation on clean images."""

    test_data_path: str
    model_evaluation: str = "zero_shot_clean"
    accuracy: float
    """In percent."""
    num_samples: int
    num_correct: int
    detailed_results: list[CleanAnswer]


def seed_result(
    predictions: Sequence[Prediction], samples: Sequence[Sample], protocol: str, *, tagged_gold: bool
) -> SeedResult:
    """Predictions as MedVLM-R1 and Med-R1 write them, in the order of the samples; the first draw of each.

    Args:
        predictions: at least one for each sample that is to be written.
        samples: the questions; those read from a file of the seeds keep its records.
        protocol: name of the rule that extracts the answers.
        tagged_gold: gold answers as `<answer> B </answer>` (Med-R1) rather than `B` (MedVLM-R1).
    """
    rows = _rows(predictions, samples, protocol)
    results = [
        SeedAnswer(
            question=_record(sample),
            ground_truth=_tagged(sample) if tagged_gold else sample.gold,
            model_output=prediction.completion,
            extracted_answer=extracted,
        )
        for sample, prediction, extracted in rows
    ]
    return SeedResult(accuracy=_percent(rows), results=results)


def clean_result(predictions: Sequence[Prediction], samples: Sequence[Sample], test_data: str) -> CleanResult:
    """Predictions as the clean evaluation of AdvMed-R1 writes them."""
    rows = _rows(predictions, samples, "advmed-r1")
    details = [
        CleanAnswer(
            model_output=prediction.completion,
            model_answer=extracted,
            ground_truth=_tagged(sample),
            gt_answer=sample.gold,
            correct=extracted == sample.gold,
        )
        for sample, prediction, extracted in rows
    ]
    return CleanResult(
        test_data_path=test_data,
        accuracy=_percent(rows),
        num_samples=len(rows),
        num_correct=sum(detail.correct for detail in details),
        detailed_results=details,
    )


def _rows(predictions: Sequence[Prediction], samples: Sequence[Sample], protocol: str) -> list[_Row]:
    first = {p.id: p for p in predictions if p.draw == 0 and p.variant == ""}
    return [
        (sample, first[sample.id], PROTOCOLS[protocol](first[sample.id].completion, sample).letter)
        for sample in samples
        if sample.id in first
    ]


def _percent(rows: Sequence[_Row]) -> float:
    return 100 * sum(extracted == sample.gold for sample, _, extracted in rows) / len(rows) if rows else 0.0


def _tagged(sample: Sample) -> str:
    return f"<answer> {sample.gold} </answer>"


def _record(sample: Sample) -> dict[str, object]:
    """The record that the sample was read from, or one of MedVLM-R1's form."""
    style = written_style(sample)
    if style is not None:
        write_back = SOURCES["medvlm-r1" if style == "lines" else "med-r1"].write_back
        assert write_back is not None, "both write their records"
        return write_back(sample)
    return {
        "image": [ref.path for ref in sample.images],
        "problem": sample.question
        + "".join(f"\n{a}) {text}" for a, text in zip(LETTERS, sample.options, strict=False)),
        "solution": sample.gold,
    }
