"""Evaluation of an engine: `predictions.jsonl` as they come, then `results.json`, with `manifest.json` beside.

The folder is a `medr1.runs.Run`: called again, a killed run goes on where it stopped and a finished one changes
nothing. Further variants, other training data for the text prior and failed answers are worked off by another call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from medr1.answers import PROTOCOLS
from medr1.answers.tags import answer_start
from medr1.engines.engine import (
    AnswerPlace,
    Engine,
    OptionScorer,
    Request,
    SamplingParams,
    about_pictures,
    note_control_text,
    request_for,
)
from medr1.errors import ConfigError, DataError
from medr1.eval.files import (
    OLD_FAILURES,
    PREDICTIONS,
    asked_of,
    failure_line,
    line_of,
    named,
    read_failures,
    read_predictions,
)
from medr1.eval.receipts import receipts_of
from medr1.eval.reliance import reliance_rows
from medr1.eval.scoring import ControlRun, answers_to, key_of, protocol_for, score_predictions
from medr1.prompts import PROMPTS
from medr1.records import content_hashes, data_hash, read_record, short_hash
from medr1.results.evaluated import Results
from medr1.runs import Run
from medr1.settings import known
from medr1.types import Completion, Failure, FailureKind, Prediction, Sample
from medr1.variants import VARIANTS, check_draws, prepare_all, variant_names
from medr1.variants.thinking import COMPLETION_PREFIX
from medr1.variants.variant import AS_IT_IS

Progress = Callable[[int, int], None]
"""Called with the number of finished samples and their total."""

FILES = (PREDICTIONS, OLD_FAILURES, "reliance.jsonl", "results.json")
"""What a run writes beside its manifest, in this version or an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How questions are asked, and how the answers are read."""

    params: SamplingParams
    batch_size: int
    seed: int
    """Of the variants; sampling follows `params.seed`."""
    prompt: str = "think"
    protocol: str = "default"
    variants: Sequence[str] = ()
    arguments: Mapping[str, object] = field(default_factory=dict)
    """What of the caller's decides the predictions (model, data, …), for the manifest."""


def evaluate(
    samples: Sequence[Sample],
    engine: Engine,
    asking: Asking,
    *,
    out: Path,
    option_scorer: OptionScorer | None = None,
    train_samples: Sequence[Sample] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Generate what is missing, score everything, write the files into `out` and return the results.

    With an `option_scorer`, predictions get the log-probabilities of their options. `train_samples` is what the text
    prior is fitted on. What could not be asked has a line with its `failure`, is scored nowhere, and is tried again
    when a run that came to its end is called again.

    Raises `ConfigError` for unknown names and for a folder that holds another run, `DataError` for samples that cannot
    be evaluated, and lets `EngineError` through: what was generated until then is kept.
    """
    asking = replace(asking, variants=variant_names(asking.variants, samples))
    num_draws = asking.params.num_draws
    check_draws(asking.variants, num_draws)
    _check(samples, asking)
    generation = _Generation(engine, option_scorer, asking)
    questions = _Questions(samples, asking.variants, asking.seed, out)
    asked = {"controls": list(asking.variants), **_hashes(train_samples)}
    with Run(
        out,
        command="eval",
        arguments={**asking.arguments, **generation.facts(), "data_hash": data_hash(samples)},
        identity={**generation.identity(), **content_hashes(samples)},
        seed=asking.seed,
        owns=FILES,
        overwrite=overwrite,
    ) as run:
        answered = _keys(read_predictions(out))
        if run.done and run.holds(asked) and not any(_unanswered(s, num_draws, answered) for s in questions):
            return read_record(out / FILES[-1], Results)
        if run.state != "started":
            _forget_failures(run)
        note_control_text(samples, engine.describe())
        run.start(batch_size=asking.batch_size, **asked)
        _generate_missing(questions, generation, run, progress)
        run.reach("whole")
        results = _score(questions.prepared(), read_predictions(out), run, num_draws, train_samples)
        run.write_json("results.json", results)
        run.reach("done")
    return results


class _Questions:
    """What is to be asked, in two stages: what is made of the answers comes after them.

    Args:
        samples: as they are.
        variants: by name.
        seed: of what is drawn for them.
        out: folder of the run, which has the answers.
    """

    def __init__(self, samples: Sequence[Sample], variants: Sequence[str], seed: int, out: Path) -> None:
        self.samples, self.variants, self.seed, self.out = samples, variants, seed, out
        self.of_answers = [name for name in variants if VARIANTS[name].reads_answers]
        others = [name for name in variants if name not in self.of_answers]
        self._prepared = {"": list(samples)} | prepare_all(others, samples, seed)

    def __iter__(self) -> Iterator[list[Sample]]:
        yield _together(self._prepared)
        made = prepare_all(self.of_answers, self.samples, self.seed, read_predictions(self.out))
        self._prepared |= made
        yield _together(made)

    def prepared(self) -> dict[str, list[Sample]]:
        """The samples of every variant, in the order of the names; asked for when all stages have been gone through."""
        return {name: self._prepared[name] for name in ("", *self.variants)}


def _hashes(train_samples: Sequence[Sample] | None) -> dict[str, str | None]:
    """What the text prior is fitted on, for the manifest."""
    if train_samples is None:
        return {"train_data_hash": None, "train_data": None}
    return {"train_data_hash": data_hash(train_samples), "train_data": short_hash(content_hashes(train_samples))}


def _together(prepared: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    return [sample for samples in prepared.values() for sample in samples]


def _check(samples: Sequence[Sample], asking: Asking) -> None:
    known("prompt", asking.prompt, PROMPTS)
    known("protocol", asking.protocol, PROTOCOLS)
    if not samples:
        raise DataError("there is no sample to evaluate; check the data and --limit")
    open_questions = [sample.id for sample in samples if sample.answer_index is None or not sample.options]
    if open_questions:
        raise DataError(
            f"{len(open_questions)} of {len(samples)} samples have no single right option, {open_questions[0]} first; "
            "evaluate multiple-choice questions only"
        )
    keys = [key_of(sample) for sample in samples]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"two samples have the id {twice[0]!r}; remove the repeated ones from the data")
    if asking.variants and any(sample.variant for sample in samples):
        raise ConfigError(
            "variants are made of the questions as they are, and these samples are variants already; ask for none"
        )


@dataclass(frozen=True, slots=True)
class _Generation:
    """All that turns a sample into predictions."""

    engine: Engine
    option_scorer: OptionScorer | None
    asking: Asking
    """Its variants are drawn here; samples of other variants have their pictures already."""

    def facts(self) -> dict[str, object]:
        """For the manifest."""
        return {
            "prompt": self.asking.prompt,
            "protocol": self.asking.protocol,
            "sampling": asdict(self.asking.params),
            "engine": dict(self.engine.describe()),
            **({"option_logprobs": True} if self.option_scorer is not None else {}),
        }

    def identity(self) -> dict[str, object]:
        """What decides the predictions beside the samples, by name."""
        engine = dict(self.engine.describe())
        if "weights" in engine:  # then the name of the checkpoint says nothing
            del engine["model"]
        return {
            **engine,
            "prompt": self.asking.prompt,
            "prompt_text": short_hash(asdict(PROMPTS[self.asking.prompt])),
            "protocol": self.asking.protocol,
            "sampling": asdict(self.asking.params),
            "option_logprobs": self.option_scorer is not None,
        }

    def request(self, sample: Sample) -> Request:
        """The request for a sample or a prepared variant. Raises `DataError` where an image cannot be opened."""
        variant = VARIANTS[sample.variant] if sample.variant in self.asking.variants else AS_IT_IS
        return request_for(
            PROMPTS[self.asking.prompt],
            sample,
            variant.pictures(sample, self.asking.seed),
            key=f"{sample.id}:{sample.variant}",
            completion_prefix=sample.extra.get(COMPLETION_PREFIX, ""),
        )

    def run(self, batch: Sequence[Sample]) -> Iterator[Prediction | Failure]:
        """An answer of every draw of a batch, or why there is none: a sample that cannot be asked fails alone."""
        params = self.asking.params
        requests: list[tuple[Sample, Request]] = []
        for sample in batch:
            try:
                requests.append((sample, self.request(sample)))
            except DataError as error:
                yield from (self.failure(sample, n, "picture", str(error)) for n in range(params.num_draws))
        answers = self.engine.generate([request for _, request in requests], params) if requests else []
        drawn = [
            (sample, request, draw, completion)
            for (sample, request), completions in zip(requests, answers, strict=True)
            for draw, completion in enumerate(completions)
        ]
        logprobs = self.option_logprobs([(sample, request, completion) for sample, request, _, completion in drawn])
        for (sample, request, draw, completion), of_options in zip(drawn, logprobs, strict=True):
            if completion.finish_reason == "error":
                yield self.failure(sample, draw, completion.failure, completion.text)
            else:
                yield self.prediction(sample, request, draw, completion, of_options)

    def option_logprobs(
        self, drawn: Sequence[tuple[Sample, Request, Completion]]
    ) -> Sequence[tuple[float, ...] | None]:
        """Log-probabilities of the option letters; None where they are not asked for or there is no answer."""
        if self.option_scorer is None:
            return [None] * len(drawn)
        form = PROMPTS[self.asking.prompt].answer_format
        starts = [None if c.finish_reason == "error" else answer_start(c.text, form) for _, _, c in drawn]
        places = [
            AnswerPlace(request=request, completion=completion, start=start, num_options=len(sample.options))
            for (sample, request, completion), start in zip(drawn, starts, strict=True)
            if start is not None
        ]
        scores = iter(self.option_scorer.option_logprobs(places))
        return [None if start is None else next(scores) for start in starts]

    def prediction(
        self,
        sample: Sample,
        request: Request,
        draw: int,
        completion: Completion,
        option_logprobs: tuple[float, ...] | None,
    ) -> Prediction:
        """The completion, read by the protocol, with the receipts of what the engine got."""
        parsed = protocol_for(self.asking.protocol, self.asking.prompt)(completion.text, sample)
        return Prediction(
            id=sample.id,
            variant=sample.variant,
            draw=draw,
            **asked_of(sample, self.asking.prompt),
            completion=completion.text,
            answer=parsed.letter,
            parse_status=str(parsed.status),
            num_tokens=completion.num_tokens,
            images=receipts_of(request.images, completion.image_tokens),
            option_logprobs=option_logprobs,
        )

    def failure(self, sample: Sample, draw: int, kind: FailureKind, said: str) -> Failure:
        """Why there is no completion, with the names of the files where the fault is in a picture."""
        message = about_pictures(sample, said) if kind == "picture" else said
        asked = asked_of(sample, self.asking.prompt)
        return Failure(id=sample.id, variant=sample.variant, draw=draw, **asked, kind=kind, message=message)


def _unanswered(wanted: Sequence[Sample], num_draws: int, done: set[tuple[str, str, int]]) -> list[Sample]:
    """Samples of which one of the draws is not among those that are done."""
    return [sample for sample in wanted if any((*key_of(sample), draw) not in done for draw in range(num_draws))]


def _keys(lines: Sequence[Prediction | Failure]) -> set[tuple[str, str, int]]:
    return {(line.id, line.variant, line.draw) for line in lines}


def _forget_failures(run: Run) -> None:
    """Take the failures out of the files of a run that came to its end, so that they are tried again."""
    if read_failures(run.folder):
        run.write_jsonl(PREDICTIONS, map(line_of, read_predictions(run.folder)))
    run.remove(OLD_FAILURES)


def _generate_missing(
    stages: Iterable[Sequence[Sample]], generation: _Generation, run: Run, progress: Progress | None
) -> None:
    """Append a line for every sample and draw that has none yet."""
    batch_size, num_draws = generation.asking.batch_size, generation.asking.params.num_draws
    total = 0
    with run.appending(PREDICTIONS) as lines:
        done = _keys([*read_predictions(run.folder), *read_failures(run.folder)])
        for wanted in stages:
            total += len(wanted)
            todo = _unanswered(wanted, num_draws, done)
            for start in range(0, len(todo), batch_size):
                for outcome in generation.run(todo[start : start + batch_size]):
                    if (outcome.id, outcome.variant, outcome.draw) not in done:
                        lines.append(failure_line(outcome) if isinstance(outcome, Failure) else line_of(outcome))
                if progress is not None:
                    progress(total - max(0, len(todo) - start - batch_size), total)


def _score(
    prepared: Mapping[str, Sequence[Sample]],
    predictions: Sequence[Prediction],
    run: Run,
    num_draws: int,
    train_samples: Sequence[Sample] | None,
) -> Results:
    parts = answers_to(prepared, predictions, num_draws)
    if not parts[""]:
        said = named(read_failures(run.folder))
        raise DataError(f"none of the {len(prepared[''])} samples could be evaluated ({said}); see {PREDICTIONS}")
    controls = {
        name: ControlRun(samples=samples, predictions=parts[name]) for name, samples in prepared.items() if name
    }
    rows = reliance_rows(parts[""], {name: parts[name] for name in controls})
    if any(row.controls for row in rows):
        run.write_jsonl("reliance.jsonl", rows)
    else:
        run.remove("reliance.jsonl")
    return score_predictions(
        parts[""], prepared[""], controls=controls, train_samples=train_samples, num_draws=num_draws
    )
