"""Stored evaluations from Settings: scored again, side by side, clean against corrupted, and verified."""

from medr1.data.studies import remake
from medr1.errors import ConfigError
from medr1.eval.corruption import compare_corrupted
from medr1.eval.judge import FILE as JUDGEMENTS
from medr1.eval.judge import is_judged, judge
from medr1.eval.rescore import drawn_questions, read_rescored, rescore, rescored_identity, scored_hash
from medr1.eval.runner import Progress
from medr1.eval.settings import CompareSettings, RescoreSettings, RobustnessSettings, VerifySettings
from medr1.eval.side_by_side import compare_runs
from medr1.eval.stored import asked_questions, holds_evaluation, read_stored
from medr1.eval.verify import RESCORED, Verification, verify, verify_rescored
from medr1.flows.engines import start_endpoint
from medr1.records import data_hash, read_samples
from medr1.records.samples import FIRST_SHARD
from medr1.results.answered import Rescored, RescoredOpen, RescoreManifest
from medr1.results.compared import Compared, Corruptions
from medr1.runs import Run


def run_rescore(settings: RescoreSettings, progress: Progress = lambda done, total: None) -> Rescored | RescoredOpen:
    """What `rescore.json` holds, but for its manifest: written beside an evaluation or alone, if it is not there."""
    engine = None
    if settings.judge_endpoint is not None and settings.judge_model is not None:
        engine = start_endpoint(settings.judge_endpoint, settings.judge_model, settings)
    questions = None if settings.data is None else asked_questions(settings.data)
    stored = read_stored(settings.predictions, questions)
    train_samples = None if settings.train_data is None else asked_questions(settings.train_data)
    judge_facts = None if engine is None else dict(engine.describe())
    with Run(
        settings.out,
        command="rescore",
        arguments={name: getattr(settings, name) for name in ("predictions", "data", "train_data", "limit")},
        identity={"limit": settings.limit, **rescored_identity(stored, train_samples)},
        seed=settings.seed,
        owns=(RESCORED, JUDGEMENTS),
        overwrite=settings.overwrite,
        guest=holds_evaluation(settings.out),
    ) as run:
        asked = drawn_questions(stored, settings.limit, settings.seed)
        is_complete = judge_facts is None or is_judged(asked, judge_facts, run)
        if run.done and run.has(RESCORED) and run.holds({"judge": judge_facts}) and is_complete:
            return read_rescored(settings.out / RESCORED).model_copy(update={"manifest": None})
        results = rescore(asked, train_samples)
        if engine is not None:
            judged = judge(asked, engine, run=run, batch_size=8 * engine.concurrency, progress=progress)
            results = results.model_copy(update={"judge": judged})
        run.start(judge=judge_facts)
        hashes = {
            "scored_hash": scored_hash(asked),
            "train_data_hash": None if train_samples is None else data_hash(train_samples),
        }
        manifest = RescoreManifest.model_validate({**run.made_by.written(), **hashes})
        run.write_json(RESCORED, results.model_copy(update={"manifest": manifest}))
        run.reach("done")
    return results


def run_compare(settings: CompareSettings) -> Compared:
    """What `compare.json` holds, which is written where `settings.out` says."""
    return compare_runs(
        list(settings.runs),
        out=settings.out,
        blind_twin=settings.blind_twin,
        across=list(settings.across),
        axes=list(settings.by),
        overwrite=settings.overwrite,
    )


def run_robustness(settings: RobustnessSettings) -> Corruptions:
    """What `corruptions.json` holds, which is written where `settings.out` says."""
    return compare_corrupted(settings.clean, settings.corrupted, out=settings.out, overwrite=settings.overwrite)


def run_verify(settings: VerifySettings) -> Verification:
    """What the check of the folder finds; of both files where it was evaluated and rescored into one."""
    run, data, train_data = settings.run, settings.data, settings.train_data
    if (run / FIRST_SHARD).exists():
        if data is None:
            raise ConfigError(f"{run} holds samples; name the folder of the studies that they show with --data")
        remade = remake(read_samples(run), data)
        return Verification(checked=remade.checked, differing=remade.differing, unchecked=remade.missing)
    rescored = (run / RESCORED).exists()
    if settings.predictions is not None and not rescored:
        raise ConfigError(
            f"--predictions is for what `medr1 rescore` wrote, and {run} holds no {RESCORED}; leave it out"
        )
    found = []
    if not rescored or (run / "results.json").exists():
        found.append(verify(run, data, train_data))
    if rescored:
        found.append(verify_rescored(run, settings.predictions, data, train_data))
    return Verification(
        checked=sum(one.checked for one in found),
        differing=[line for one in found for line in one.differing],
        unchecked=[path for one in found for path in one.unchecked],
    )
