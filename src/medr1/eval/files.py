"""What the files of an evaluation hold, for those who read them back.

`predictions.jsonl` has a line for every question, variant and draw: an answer, or `failure {kind, message}` in place of
one. Of `results.json` and `manifest.json`, further fields are kept; these are the ones that our own readers rely on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medr1.engines.engine import SamplingParams
from medr1.errors import DataError
from medr1.records import read_jsonl, read_record
from medr1.results import Record
from medr1.types import LETTERS, Failure, Prediction, Sample

PREDICTIONS = "predictions.jsonl"
OLD_FAILURES = "failures.jsonl"
"""Where versions before this one kept what failed."""
FAILURE = "failure"
"""Field of the lines that hold no answer."""
_PREDICTION = TypeAdapter(Prediction)
_FAILURE = TypeAdapter(Failure)
_OPTIONAL = ("question", "images", "option_logprobs")
"""Fields of a prediction that a line lacks where nobody told them."""


class Arguments(Record):
    """Of the manifest: what was asked for."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    protocol: str
    sampling: SamplingParams
    data_hash: str
    model: str | None = None
    data: str | None = None
    limit: int | None = None


class EvalManifest(Record):
    """`manifest.json` of an evaluation."""

    model_config = ConfigDict(extra="ignore")

    arguments: Arguments
    seed: int
    controls: tuple[str, ...] = ()
    train_data_hash: str | None = None


def read_manifest(folder: Path) -> EvalManifest:
    """`manifest.json` of an evaluation. Raises `DataError` where it is none."""
    return read_record(folder / "manifest.json", EvalManifest)


def read_predictions(out: Path) -> list[Prediction]:
    """Answers of a run, in the order they came; none where it has not begun."""
    return [prediction_from(line) for line in _lines(out) if FAILURE not in line]


def read_failures(out: Path) -> list[Failure]:
    """What of a run could not be asked, in the order it came, also of a run of an older version."""
    failures = [failure_from(line) for line in _lines(out) if FAILURE in line]
    old = out / OLD_FAILURES
    for line in read_jsonl(old) if old.exists() else ():
        said = {"kind": "engine" if line.get("draw") is not None else "picture", "message": line.get("reason")}
        failures.append(failure_from({**line, "draw": line.get("draw") or 0, FAILURE: said}))
    return failures


def _lines(out: Path) -> list[dict[str, object]]:
    path = out / PREDICTIONS
    return read_jsonl(path) if path.exists() else []


def prediction_from(line: Mapping[str, object]) -> Prediction:
    """One line with an answer. Raises `DataError` where fields are missing, unknown or of another type."""
    unknown = line.keys() - {field.name for field in fields(Prediction)}
    if unknown:
        raise DataError(f"a line of {PREDICTIONS} is no prediction ({min(unknown)} is unknown); evaluate again")
    prediction: Prediction = _validated(_PREDICTION, line, "prediction")
    if prediction.gold is not None and prediction.gold not in LETTERS[: len(prediction.options)]:
        raise DataError(
            f"a line of {PREDICTIONS} is no prediction (gold {prediction.gold!r} is the letter of none of its "
            f"{len(prediction.options)} options); evaluate again"
        )
    return prediction


def failure_from(line: Mapping[str, object]) -> Failure:
    """One line without an answer. Raises `DataError` where it is none."""
    said = line[FAILURE]
    said = said if isinstance(said, Mapping) else {}
    known = {field.name: line[field.name] for field in fields(Failure) if field.name in line}
    return _validated(_FAILURE, {**known, "kind": said.get("kind"), "message": said.get("message")}, "failure")


def _validated(adapter: TypeAdapter[Any], value: Mapping[str, object], what: str) -> Any:
    try:
        return adapter.validate_python({**value})
    except ValidationError as error:
        first = error.errors()[0]
        place, said = ".".join(map(str, first["loc"])), first["msg"][0].lower() + first["msg"][1:]
        raise DataError(f"a line of {PREDICTIONS} is no {what} ({place}: {said}); evaluate again") from error


def line_of(prediction: Prediction) -> dict[str, object]:
    """The prediction as a line of `predictions.jsonl`, without what nobody told."""
    line = asdict(prediction)
    return {name: value for name, value in line.items() if value is not None or name not in _OPTIONAL}


def failure_line(failure: Failure) -> dict[str, object]:
    """The failure as a line of `predictions.jsonl`."""
    line = asdict(failure)
    return {**line, FAILURE: {name: line.pop(name) for name in ("kind", "message")}}


class Asked(TypedDict):
    """What a line tells of its question: fields of a prediction or failure."""

    group: str
    modality: str
    task: str
    source: str
    options: tuple[str, ...]
    gold: str | None
    prompt_style: str
    question: str


def asked_of(sample: Sample, prompt: str) -> Asked:
    """What a line tells of a sample."""
    return Asked(
        group=sample.group,
        modality=sample.modality,
        task=sample.task,
        source=sample.source,
        options=sample.options,
        gold=sample.gold,
        prompt_style=prompt,
        question=sample.question,
    )


def named(failures: Iterable[Failure], limit: int = 3) -> str:
    """The first failures by id and message, in one sentence."""
    told = [f"{one.id}: {one.message}" for one in failures]
    more = f"; and {len(told) - limit} more" if len(told) > limit else ""
    return "; ".join(told[:limit]) + more
