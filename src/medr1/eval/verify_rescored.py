"""Whether `rescore.json` follows from the completions that were scored: everything is computed again.

Completions and questions come from where its manifest says, or from where they are now; a hash tells whether they are
the same. Verdicts of a judge are read from its stored replies again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ConfigDict, Field

from medr1.errors import DataError
from medr1.eval.judge import Judgement, read_judgements, read_verdict, score_judgements
from medr1.eval.rescore import drawn_questions, rescore, scored_hash
from medr1.eval.stored import StoredRun, asked_questions, read_stored
from medr1.eval.verify import FITTED, Verification, absent, compare, is_fitted
from medr1.records import checked, data_hash, read_json
from medr1.results import Record
from medr1.results.answered import RescoreManifest
from medr1.types import Sample

FILE = "rescore.json"


class _Judge(Record):
    model_config = ConfigDict(extra="ignore")

    engine: dict[str, str]


class _Rescored(Record):
    """What of `rescore.json` says how to compute the rest again."""

    model_config = ConfigDict(extra="ignore")

    manifest: RescoreManifest
    blind: dict[str, object] = Field(default_factory=dict)
    judge: _Judge | None = None


def verify_rescored(
    folder: Path, predictions: Path | None = None, data: Path | None = None, train_data: Path | None = None
) -> Verification:
    """Score the completions again and say what differs; the paths default to those of the manifest.

    Raises `DataError` where `rescore.json` is not as `medr1 rescore` writes it, where completions or questions are not
    found, and for other training data than were used.
    """
    stored = read_json(folder / FILE)
    known: _Rescored = checked(stored, _Rescored, folder / FILE)
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


def _run(record: RescoreManifest, predictions: Path | None, data: Path | None) -> StoredRun:
    stored = record.arguments
    file = predictions or _place("predictions", stored.predictions)
    asked = data or (None if stored.data is None else _place("data", stored.data))
    questions = None if asked is None else asked_questions(asked)
    return drawn_questions(read_stored(file, questions), stored.limit, record.seed)


def _place(name: str, written: str) -> Path:
    """Where the manifest says that something was."""
    path = Path(written)
    if not path.exists():
        raise DataError(f"the {name} of this rescoring are not at {path}; say with --{name} where they are")
    return path


def _training_samples(record: RescoreManifest, train_data: Path | None) -> list[Sample] | None:
    """What the text prior was fitted on; None where there was nothing or where it is not found."""
    path = train_data or Path(record.arguments.train_data or "")
    if train_data is None and not (record.arguments.train_data and record.train_data_hash and path.exists()):
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
