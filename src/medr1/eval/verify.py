"""Whether `results.json` and `rescore.json` follow from the completions: everything is computed again.

The completions of an evaluation are read again by its manifest's protocol, then all numbers are scored again. What a
prediction does not hold (questions, images, the partners of swapped images, training samples) comes from the data,
where it is given or stands where the manifest says; numbers that need it otherwise are named as unchecked, never as
right. Completions that were rescored come from where the manifest says, or from where they are now; a hash tells
whether they are the same. Verdicts of a judge are read from its stored replies again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from medr1.data.convert import choose
from medr1.errors import DataError
from medr1.eval.files import Arguments, EvalManifest, read_failures, read_manifest, read_predictions
from medr1.eval.judge import Judgement, read_judgements, read_verdict, score_judgements
from medr1.eval.measures import key_of, protocol_for
from medr1.eval.rescore import drawn_questions, rescore, scored_hash
from medr1.eval.scoring import ControlRun, answers_to, score_predictions
from medr1.eval.stored import StoredRun, asked_questions, read_stored
from medr1.eval.stored.run import question_of
from medr1.records import checked, data_hash, read_json, read_samples
from medr1.results import Record
from medr1.results.answered import RescoreManifest
from medr1.results.evaluated import Results
from medr1.types import Prediction, Sample
from medr1.variants import prepare_all

TOLERANCE = 1e-9
"""Relative; sums may be added in another order by other versions of numpy."""
ABSENT = "nothing"
FITTED = ("blind.text_prior", "by_blind", "train_overlap", "void")
"""Values that need the training samples, where a text prior was fitted on some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check found."""

    checked: int
    """Stored values that were computed again."""
    differing: Sequence[str]
    """One line for each that came out differently, and for each prediction that does not follow from its completion."""
    unchecked: Sequence[str]
    """Values that need data which was not there."""


def verify(run: Path, data: Path | None = None, train_data: Path | None = None) -> Verification:
    """Compute the results of a run again and say what differs.

    Raises `DataError` for a folder without the three files, for data that are not those of the run, and where questions
    without any answer make the data necessary.
    """
    record, stored, predictions = _open(run)
    found = _found_samples(record, data)
    if found is None:
        prepared = _rebuilt(run, record, predictions)
    else:
        prepared = {"": found, **prepare_all(record.controls, found, record.seed, predictions)}
    train = _training_samples(record.train_data_hash, train_data)
    again = _results(run, record, prepared, predictions, train)
    unchecked = {
        *absent(stored, again),
        *_unchecked(stored, with_data=found is not None, with_train=train is not None),
    }
    compared = compare("results.json", stored, again, unchecked)
    wrong = _wrong_predictions(prepared, predictions, record.arguments)
    return replace(compared, differing=[*wrong, *compared.differing])


def compare(file: str, stored: object, again: Record, unchecked: Set[str]) -> Verification:
    """What differs between the values stored in `file` and those computed again, but for what is at `unchecked`."""
    pairs = [pair for pair in _leaves(stored, again.written()) if unchecked.isdisjoint(_parents(pair[0]))]
    differing = [
        f"{file}, {path}: {before!r} is stored, {now!r} follows from the predictions"
        for path, before, now in pairs
        if not _same(before, now)
    ]
    return Verification(checked=len(pairs), differing=differing, unchecked=sorted(unchecked))


def _open(run: Path) -> tuple[EvalManifest, Mapping[str, Any], list[Prediction]]:
    record = read_manifest(run)
    # The results may be anything: what differs from those computed again is what is looked for.
    stored = read_json(run / "results.json")
    if not isinstance(stored, dict):
        raise DataError(f"{run / 'results.json'} is not what `medr1 eval` wrote, a JSON object; evaluate again")
    return record, stored, read_predictions(run)


def _found_samples(record: EvalManifest, data: Path | None) -> list[Sample] | None:
    """The samples of the run: those of `data`, else those at the manifest's own path if they are still the same."""
    arguments = record.arguments
    folder = data or Path(arguments.data or "")
    if data is None and not (arguments.data and folder.exists()):
        return None
    samples = choose(list(read_samples(folder)), arguments.limit, record.seed)
    if data_hash(samples) == arguments.data_hash:
        return samples
    if data is not None:
        raise DataError(f"{data} is not the data of this run (another hash than in its manifest); name those it used")
    return None


def _training_samples(fitted_on: str | None, given: Path | None, stored: str | None = None) -> list[Sample] | None:
    """What the text prior was fitted on, by its hash; None where there was nothing or where it is not found.

    Raises `DataError` where other data are given.
    """
    path = given or Path(stored or "")
    if given is None and not (stored and fitted_on and path.exists()):
        return None
    samples = asked_questions(path)
    if data_hash(samples) == fitted_on:
        return samples
    if given is not None:
        raise DataError(f"{given} is not what the text prior of this run was fitted on; name the data it used")
    return None


def _rebuilt(run: Path, record: EvalManifest, predictions: Sequence[Prediction]) -> dict[str, Sequence[Sample]]:
    """The samples of every variant as far as the lines of the run tell."""
    failures = read_failures(run)
    by_key = {key_of(line): question_of(line) for line in (*predictions, *failures) if line.options}
    unknown = {key_of(failure) for failure in failures} - set(by_key)
    if unknown:
        raise DataError(f"{run} has {len(unknown)} questions without any answer; name the evaluated data with --data")
    variants = ("", *record.controls)
    return {name: [sample for sample in by_key.values() if sample.variant == name] for name in variants}


def _results(
    run: Path,
    record: EvalManifest,
    prepared: Mapping[str, Sequence[Sample]],
    predictions: Sequence[Prediction],
    train: Sequence[Sample] | None,
) -> Results:
    num_draws = record.arguments.sampling.num_draws
    answers = answers_to(prepared, predictions, num_draws)
    if not answers[""]:
        raise DataError(f"{run} holds no prediction of the questions of its data; evaluate again")
    controls = {
        name: ControlRun(samples=samples, predictions=answers[name]) for name, samples in prepared.items() if name
    }
    return score_predictions(answers[""], prepared[""], controls=controls, train_samples=train, num_draws=num_draws)


def _unchecked(stored: Mapping[str, Any], *, with_data: bool, with_train: bool) -> Iterator[str]:
    """Paths of the stored values that cannot be computed from what is there."""
    if is_fitted(stored) and not (with_data and with_train):
        yield from FITTED
    if not with_data:
        yield "void"
    for name, scores in (stored.get("controls") or {}).items():
        for block, inside in ((scores, ""), (scores.get("thinking") or {}, "thinking.")):
            if "follows" in block and not with_data:
                yield f"controls.{name}.{inside}follows"


def is_fitted(stored: Mapping[str, Any]) -> bool:
    """Whether the stored results rest on a text prior."""
    return (stored.get("blind") or {}).get("text_prior") is not None


def absent(stored: Mapping[str, object], again: Record) -> Set[str]:
    """What results of earlier versions do not have."""
    return {"void", "train_overlap", "by_blind"} & again.written().keys() - stored.keys()


def _wrong_predictions(
    prepared: Mapping[str, Sequence[Sample]], predictions: Sequence[Prediction], arguments: Arguments
) -> Iterator[str]:
    """One line for each prediction that stands twice, has other options than the data, or was read otherwise."""
    read = protocol_for(arguments.protocol, arguments.prompt)
    by_key = {key_of(sample): sample for samples in prepared.values() for sample in samples}
    seen = set[tuple[str, str, int]]()
    for prediction in predictions:
        place = f"predictions.jsonl, {prediction.id} {prediction.variant or 'original'} draw {prediction.draw}"
        if (*key_of(prediction), prediction.draw) in seen:
            yield f"{place}: stands twice"
        seen.add((*key_of(prediction), prediction.draw))
        sample = by_key.get(key_of(prediction))
        if sample is None:
            continue
        if (prediction.options, prediction.gold) != (sample.options, sample.gold):
            yield f"{place}: options or right answer are not those of the data"
        parsed = read(prediction.completion, sample)
        if (prediction.answer, prediction.parse_status) != (parsed.letter, str(parsed.status)):
            stored, again = f"{prediction.answer} ({prediction.parse_status})", f"{parsed.letter} ({parsed.status})"
            yield f"{place}: {stored} is stored, the completion reads {again}"


def _leaves(stored: Any, again: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, stored and computed value of everything that is no object or list; `ABSENT` where one side has none."""
    if isinstance(stored, list) and isinstance(again, list):
        stored, again = (dict(enumerate(values)) for values in (stored, again))
    if isinstance(stored, dict) and isinstance(again, dict):
        for key in dict.fromkeys([*stored, *again]):
            inside = f"{path}.{key}" if path else str(key)
            yield from _leaves(stored.get(key, ABSENT), again.get(key, ABSENT), inside)
    else:
        yield path, stored, again


def _parents(path: str) -> Iterator[str]:
    """The path and everything above it."""
    parts = path.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _same(stored: Any, again: Any) -> bool:
    numbers = (int, float)
    if isinstance(stored, numbers) and isinstance(again, numbers):
        return math.isclose(stored, again, rel_tol=TOLERANCE, abs_tol=1e-12)
    return stored == again


RESCORED = "rescore.json"


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
    stored = read_json(folder / RESCORED)
    known: _Rescored = checked(stored, _Rescored, folder / RESCORED)
    record = known.manifest
    run = _run(record, predictions, data)
    train = _training_samples(record.train_data_hash, train_data, record.arguments.train_data)
    again = rescore(run, train)
    differing: list[str] = []
    if scored_hash(run) != record.scored_hash:
        differing.append(f"{RESCORED}: other completions or questions were scored (another hash than in its manifest)")
    if known.judge is not None:
        judgements = read_judgements(folder)
        again = again.model_copy(update={"judge": score_judgements(run, known.judge.engine, judgements)})
        differing += _wrong_verdicts(judgements)
    scores = {name: value for name, value in stored.items() if name != "manifest"}
    unchecked = {*absent(scores, again), *(FITTED if train is None and is_fitted(scores) else ())}
    compared = compare(RESCORED, scores, again, unchecked)
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


def _wrong_verdicts(judgements: Sequence[Judgement]) -> Iterator[str]:
    for judgement in judgements:
        read = str(read_verdict(judgement.reply))
        if judgement.verdict != read:
            place = f"judgements.jsonl, {judgement.id} {judgement.variant or 'original'} draw {judgement.draw}"
            yield f"{place}: {judgement.verdict} is stored, the reply reads {read}"
