"""Stored completions, scored again: under our own reading with all its statistics, and under every protocol."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medr1.answers import OPEN_PROTOCOLS
from medr1.data.convert import choose
from medr1.errors import DataError
from medr1.eval.files import line_of
from medr1.eval.measures import Key, group_of, key_of, protocol_for, spread
from medr1.eval.receipts import receipt_verdicts
from medr1.eval.scoring import score_predictions
from medr1.eval.stored import StoredRun
from medr1.records import checked, content_hashes, data_hash, read_json, short_hash
from medr1.results.answered import OpenScores, Rescored, RescoredOpen
from medr1.results.evaluated import ProtocolScore
from medr1.stats import proportion
from medr1.types import Prediction, Sample


def rescore(run: StoredRun, train_samples: Sequence[Sample] | None = None) -> Rescored | RescoredOpen:
    """The results of a stored run, as `results.json` has them, with the spread of the protocols and open questions.

    `failed_calls` counts what stood in place of completions, by its text: neither right nor wrong. `receipts` is there
    where something speaks against the pictures that were shown, or nobody told of them. `train_samples` is what the
    text prior is fitted on. Raises `DataError` where no question has a gold answer.
    """
    by_key = {key_of(sample): sample for sample in run.samples}
    closed = [sample for sample in run.samples if sample.gold is not None]
    answered = [p for p in run.predictions if by_key[key_of(p)].gold is not None]
    opened = [p for p in run.predictions if by_key[key_of(p)].answers]
    if not answered and not opened:
        raise DataError("none of the questions has a gold answer; name the data that were asked with --data")
    said = receipt_verdicts(run.predictions, run.samples if any(sample.images for sample in run.samples) else None)
    lost = Counter(failure.message for failure in run.failures)
    failed = sum(bool(by_key[key_of(failure)].answers) for failure in run.failures)
    open_only = RescoredOpen(
        stored_as=run.kind,
        failed_calls=dict(lost.most_common()) or None,
        receipts=said or None,
        open=_score_open(opened, by_key, failed) if opened else None,
    )
    if not answered:
        return open_only
    read = [read_again(p, by_key[key_of(p)]) for p in answered]
    num_draws = 1 + max(p.draw for p in read)
    results = score_predictions(read, closed, train_samples=train_samples, num_draws=num_draws)
    return results.extended(Rescored, **dict(open_only), spread=spread(results.protocols))


def read_rescored(path: Path) -> Rescored | RescoredOpen:
    """What `rescore.json` holds. Raises `DataError` where it is none."""
    value = read_json(path)
    return checked(value, Rescored if isinstance(value, dict) and "n" in value else RescoredOpen, path)


def drawn_questions(run: StoredRun, limit: int | None, seed: int) -> StoredRun:
    """The run with at most `limit` of its questions, drawn at random and left in order."""
    samples = choose(list(run.samples), limit, seed)
    kept = {key_of(sample) for sample in samples}
    return replace(
        run,
        samples=samples,
        predictions=[p for p in run.predictions if key_of(p) in kept],
        failures=[failure for failure in run.failures if key_of(failure) in kept],
    )


def scored_hash(run: StoredRun) -> str:
    """Identity of the questions and completions of a run: 16 hex characters."""
    return short_hash([data_hash(run.samples), [[*key_of(p), p.draw, p.completion] for p in run.predictions]])


def rescored_identity(run: StoredRun, train_samples: Sequence[Sample] | None) -> dict[str, str | None]:
    """What decides a rescoring, by name: questions, right answers, completions and what the text prior is fitted on."""
    return {
        **_texts(run.samples),
        "predictions": short_hash([line_of(prediction) for prediction in run.predictions]),
        "train_data": None if train_samples is None else short_hash(_texts(train_samples)),
    }


def _texts(samples: Sequence[Sample]) -> dict[str, str]:
    """Hashes of questions and right answers; nobody looks at the pictures."""
    hashes = content_hashes(replace(sample, images=()) for sample in samples)
    return {name: value for name, value in hashes.items() if name != "pictures"}


def read_again(prediction: Prediction, sample: Sample) -> Prediction:
    """The prediction as our default reads it today, whatever was stored."""
    parsed = protocol_for("default", prediction.prompt_style)(prediction.completion, sample)
    return replace(prediction, answer=parsed.letter, parse_status=str(parsed.status))


def open_scores(name: str, predictions: Sequence[Prediction], samples: Sequence[Sample]) -> list[float]:
    """Score of each completion to an open question, in 0..1; of several accepted answers the best counts."""
    score = OPEN_PROTOCOLS[name]
    return [
        max(score(p.completion, answer) for answer in sample.answers)
        for p, sample in zip(predictions, samples, strict=True)
    ]


def _score_open(predictions: Sequence[Prediction], by_key: Mapping[Key, Sample], failed: int) -> OpenScores:
    """Mean scores over open questions."""
    samples, groups = [by_key[key_of(p)] for p in predictions], [group_of(p) for p in predictions]
    return OpenScores(
        n=len(predictions),
        failed=failed,
        protocols={
            name: ProtocolScore(accuracy=proportion(open_scores(name, predictions, samples), groups))
            for name in OPEN_PROTOCOLS
        },
    )
