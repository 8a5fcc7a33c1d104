"""Whether `rescore.json` follows from the completions that were scored: everything is computed again.

Completions and questions come from where its manifest says, or from where they are now; a hash tells whether they are
the same. Verdicts of a judge are read from its stored replies again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from medr1.errors import DataError
from medr1.eval.judge import Judgement, read_judgements, read_verdict, score_judgements
from medr1.eval.rescore import drawn_questions, rescore, scored_hash
from medr1.eval.stored import StoredRun, asked_questions, read_stored
from medr1.eval.verify import FITTED, Verification, absent, compare, is_fitted
from medr1.records import data_hash, read_json
from medr1.types import Sample

FILE = "rescore.json"


class _Arguments(BaseModel):
    predictions: Path
    data: Path | None
    train_data: Path | None
    limit: int | None


class _Manifest(BaseModel):
    arguments: _Arguments
    seed: int
    scored_hash: str
    train_data_hash: str | None


class _Judge(BaseModel):
    engine: dict[str, str]


class _Rescored(BaseModel):
    """What of `rescore.json` says how to compute the rest again."""

    manifest: _Manifest
    blind: dict[str, Any] = {}
    judge: _Judge | None = None


def verify_rescored(
    folder: Path, predictions: Path | None = None, data: Path | None = None, train_data: Path | None = None
) -> Verification:
    """Score the completions again and say what differs; the paths default to those of the manifest.

    Raises `DataError` where `rescore.json` is not as `medr1 rescore` writes it, where completions or questions are not
    found, and for other training data than were used.
    """
    stored = read_json(folder / FILE)
    known = _known(stored, folder / FILE)
    record = known.manifest
    run = _run(record, predictions, data)
    train = _training_samples(record, train_data)
    again = rescore(run, train)
    differing: list[str] = []
    if scored_hash(run) != record.scored_hash:
        differing.append(f"{FILE}: other completions or questions were scored (another hash than in its manifest)")
    if known.judge is not None:
        judgements = read_judgements(folder)
        again = again.model_copy(update={"judge": score_judgements(run, known.judge.engine, judgements)})
        differing += _wrong_verdicts(judgements)
    scores = {name: value for name, value in stored.items() if name != "manifest"}
    unchecked = {*absent(scores, again), *(FITTED if train is None and is_fitted(scores) else ())}
    compared = compare(FILE, scores, again, unchecked)
    return replace(compared, differing=[*differing, *compared.differing])


def _known(stored: Any, file: Path) -> _Rescored:
    try:
        return _Rescored.model_validate(stored)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise DataError(
            f"{file} does not tell what was scored ({where}: {first['msg']}); score it again with `medr1 rescore`"
        ) from None


def _run(record: _Manifest, predictions: Path | None, data: Path | None) -> StoredRun:
    stored = record.arguments
    file = predictions or _place("predictions", stored.predictions)
    asked = data or (None if stored.data is None else _place("data", stored.data))
    questions = None if asked is None else asked_questions(asked)
    return drawn_questions(read_stored(file, questions), stored.limit, record.seed)


def _place(name: str, path: Path) -> Path:
    """Where the manifest says that something was."""
    if not path.exists():
        raise DataError(f"the {name} of this rescoring are not at {path}; say with --{name} where they are")
    return path


def _training_samples(record: _Manifest, train_data: Path | None) -> list[Sample] | None:
    """What the text prior was fitted on; None where there was nothing or where it is not found."""
    path = train_data or record.arguments.train_data
    if path is None or (train_data is None and not (record.train_data_hash and path.exists())):
        return None
    samples = asked_questions(path)
    if data_hash(samples) == record.train_data_hash:
        return samples
    if train_data is not None:
        raise DataError(f"{train_data} is not what the text prior was fitted on; name the data it used")
    return None


def _wrong_verdicts(judgements: Sequence[Judgement]) -> Iterator[str]:
    for judgement in judgements:
        read = str(read_verdict(judgement.reply))
        if judgement.verdict != read:
            place = f"judgements.jsonl, {judgement.id} {judgement.variant or 'original'} draw {judgement.draw}"
            yield f"{place}: {judgement.verdict} is stored, the reply reads {read}"
