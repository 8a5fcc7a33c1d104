"""Evaluations and attacks from Settings: data and checkpoint in, a finished run out; and what thinking is worth."""

from collections.abc import Callable

from medr1.attack.settings import AttackSettings
from medr1.data.convert import choose
from medr1.errors import ConfigError
from medr1.eval.files import read_manifest
from medr1.eval.reasoning import intervene, known_anatomies, score_reasoning
from medr1.eval.runner import Asking, Progress, evaluate, line_of, read_predictions
from medr1.eval.settings import EvalSettings, ReasoningSettings
from medr1.eval.stored import holds_evaluation
from medr1.flows.engines import as_trained, option_scorer, start_engine
from medr1.records import check_finished, content_hashes, read_record, read_samples, short_hash
from medr1.results.answered import Reasoning
from medr1.results.attacked import Grid
from medr1.results.evaluated import Results
from medr1.runs import Run

NamedProgress = Callable[[str, int, int], None]
"""Called with what is done, how many samples of it, and of how many."""
REASONING, THINKING = "reasoning.json", "thinking"
"""What is written beside the manifest; the second is a folder of evaluations."""


def run_eval(settings: EvalSettings, progress: Progress | None = None) -> Results:
    """What `results.json` holds; the run with its predictions is in `settings.out`.

    Called again, it goes on where it stopped, or changes nothing. Raises `MedR1Error` for what cannot be evaluated.
    """
    samples = choose(list(read_samples(settings.data)), settings.limit, settings.seed)
    settings = as_trained(settings)
    assert settings.prompt is not None
    engine = start_engine(settings, settings.model)
    return evaluate(
        samples,
        engine,
        Asking(
            prompt=settings.prompt,
            protocol=settings.protocol,
            params=settings.params,
            variants=settings.variants,
            batch_size=settings.prompts_together,
            seed=settings.seed,
            arguments={
                **{name: getattr(settings, name) for name in ("model", "data", "limit", "dtype")},
                # Without the address: it may name a machine, and its port may change.
                "settings": {name: value for name, value in settings.dump().items() if name != "base_url"},
            },
        ),
        out=settings.out,
        option_scorer=option_scorer(engine) if settings.option_logprobs else None,
        train_samples=None if settings.train_data is None else list(read_samples(settings.train_data)),
        overwrite=settings.overwrite,
        progress=progress,
    )


def run_reasoning(settings: ReasoningSettings, progress: NamedProgress = lambda what, done, total: None) -> Reasoning:
    """What `reasoning.json` holds, written beside the evaluation or into `settings.out`.

    Without interventions nothing is generated. With them, answers are generated anew after another thinking, each kind
    an evaluation of its own with the prompt and sampling that the run recorded; called again, they go on where they
    stopped.
    """
    names = settings.interventions
    check_finished(settings.run)
    predictions = [prediction for prediction in read_predictions(settings.run) if prediction.variant == ""]
    if not predictions:
        raise ConfigError(f"{settings.run} holds no predictions; give a folder that `medr1 eval` wrote")
    samples = [] if settings.data is None else list(read_samples(settings.data))
    recorded = read_manifest(settings.run).arguments if names else None
    engine = start_engine(settings, settings.model or recorded.model or "") if recorded else None
    asked = {
        "data": short_hash(content_hashes(samples)),
        "interventions": list(names),
        "drawn": {"limit": settings.limit, "seed": settings.seed} if names else None,
        "engine": dict(engine.describe()) if engine else None,
    }
    with Run(
        settings.out or settings.run,
        command="reasoning",
        arguments={"run": settings.run, "data": settings.data},
        identity={"predictions": short_hash([line_of(prediction) for prediction in predictions])},
        seed=None,
        owns=(REASONING, THINKING),
        overwrite=settings.overwrite,
        guest=holds_evaluation(settings.out or settings.run),
    ) as run:
        if run.done and run.has(REASONING) and run.holds(asked):
            return read_record(run.folder / REASONING, Reasoning)
        run.start(**asked)
        after = {}
        if engine is not None and recorded is not None:
            chosen = choose(samples, settings.limit, settings.seed)
            asking = Asking(
                prompt=recorded.prompt,
                protocol=recorded.protocol,
                params=recorded.sampling,
                batch_size=settings.prompts_together,
                seed=settings.seed,
            )
            for name in names:
                after[name] = intervene(
                    name,
                    chosen,
                    predictions,
                    engine,
                    asking,
                    out=run.folder / THINKING / name,
                    progress=lambda done, total, name=name: progress(f"{name} thinking", done, total),
                )
        thinking = score_reasoning(predictions, known_anatomies(predictions, samples))
        result = thinking.extended(Reasoning, interventions=after)
        run.write_json(REASONING, result)
        run.reach("done")
    return result


def attack(settings: AttackSettings, progress: NamedProgress = lambda what, done, total: None) -> Grid:
    """What `grid.json` holds; the run with its images is in `settings.out`.

    Called again, it goes on where it stopped, or changes nothing. Raises `MedR1Error` for what cannot be attacked.
    """
    from medr1.attack.run import run_attack
    from medr1.engines.transformers import TransformersEngine

    settings = as_trained(settings)
    job = settings.job()
    samples = choose(list(read_samples(settings.data)), settings.limit, settings.seed)
    train_samples = None if settings.train_data is None else list(read_samples(settings.train_data))
    engine = TransformersEngine(
        settings.model, device=settings.chosen_device, dtype=settings.dtype, batch_size=settings.batch_size
    )
    return run_attack(job, samples, engine, train_samples=train_samples, progress=progress)
