"""The demo: phantoms, a tiny Qwen2.5-VL, reinforcement learning, its blind twin, controls, a report.

Every step is the command that a user would type for real data and checkpoints, and a run of its own; the demo is a run
around them. Finished steps are not run again.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from medr1.data.colour import colour_baseline
from medr1.data.images import open_image
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.eval.compare import compare, decompose
from medr1.eval.runner import Asking, evaluate, read_predictions
from medr1.flows.demo_report import demo_table, write_demo_report
from medr1.flows.settings import DemoSettings
from medr1.flows.trainings import Training, run_trainings
from medr1.models.loading import checkpoint_identity
from medr1.models.tiny import WARM_START
from medr1.records import read_record, read_samples, short_hash
from medr1.report.tables import Table
from medr1.results.compared import DemoGain, DemoSeed, DemoSummary
from medr1.results.evaluated import Results
from medr1.runs import Run
from medr1.settings import recipe_values
from medr1.stats import proportion
from medr1.types import Estimate, Prediction, Sample

PROMPT = "bare"
MAX_NEW_TOKENS = 12
EVALUATION_BATCH = 96
SUMMARY, REPORT = "summary.json", "report.html"
FILES = ("data", "checkpoints", "eval", SUMMARY, REPORT)
"""What the demo writes beside its manifest."""
FURTHER_WORK = ("seeds", "shuffled")
"""Settings by which a demo grows without becoming another one."""


@dataclass(slots=True)
class DemoRun:
    """What the steps hand to each other."""

    settings: DemoSettings
    seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, Results] = field(default_factory=dict)
    """Results of every evaluation, by name."""

    def predictions(self, name: str) -> list[Prediction]:
        """Predictions of an evaluation on the images as they are."""
        return [p for p in read_predictions(self.settings.out / "eval" / name) if p.variant == ""]


def run_demo(settings: DemoSettings, console: Console) -> tuple[DemoSummary, Table]:
    """Run what is not done yet; return the summary and the table that ends it.

    Raises `ConfigError` where the folder holds another demo or one that is being made.
    """
    asked = {name: getattr(settings, name) for name in FURTHER_WORK}
    decisive = {
        name: value for name, value in settings.dump().items() if name not in (*FURTHER_WORK, "workers", "data_seed")
    }
    with Run(
        settings.out,
        command="demo",
        arguments=settings.dump(),
        identity={**decisive, **checkpoint_identity(WARM_START), "recipe": short_hash(recipe_values("grpo", "demo"))},
        seed=settings.data_seed,
        owns=FILES,
        overwrite=settings.overwrite,
    ) as folder:
        if folder.done and folder.holds(asked):
            summary = read_record(settings.out / SUMMARY, DemoSummary)
        else:
            folder.start(**asked)
            summary = _summarised(settings, folder, console)
            folder.reach("done")
    return summary, demo_table(summary)


def _summarised(settings: DemoSettings, folder: Run, console: Console) -> DemoSummary:
    """Do every step that is left, write report and summary, and return the summary."""
    run = DemoRun(settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        started = time.monotonic()
        train, test = _draw(run, bar)
        run.seconds["data"] = round(time.monotonic() - started, 1)
        trainings = plan(settings)
        _evaluate(run, "warm_start", WARM_START, test, (), bar)
        tasks = {t.name: bar.add_task(f"Training: {t.name}", total=t.num_steps) for t in trainings}
        before = time.monotonic()
        run_trainings(
            trainings,
            workers=settings.workers or max(1, min(2, os.cpu_count() or 1)),
            progress=lambda training, step: bar.update(tasks[training.name], completed=step),
        )
        run.seconds["training"] = round(time.monotonic() - before, 1)
        before = time.monotonic()
        for training in trainings:
            controls = ("blank", "swapped") if training.name.startswith("grpo") else ()
            _evaluate(run, training.name, training.folder / "final", test, controls, bar)
        run.seconds["evaluation"] = round(time.monotonic() - before, 1)
        before = time.monotonic()
        colour = _colour_baseline(train[: settings.num_colour], test)
        run.seconds["colour_baseline"] = round(time.monotonic() - before, 1)
        run.seconds["total"] = round(time.monotonic() - started, 1)
        summary = _summary(run, trainings, colour, len(test))
        log = trainings[0].folder / "train_log.jsonl"
        with folder.file(REPORT) as path:
            write_demo_report(path, settings.out, summary, run.results, run.predictions, log, test)
        folder.write_json(SUMMARY, summary)
    return summary


def plan(settings: DemoSettings) -> list[Training]:
    """The trainings of the demo: the same recipe, with real, blank and shuffled images."""
    wanted = [("grpo", "real", 0), ("blind_twin", "blank", 0)]
    wanted += [(f"grpo_seed{seed}", "real", seed) for seed in range(1, settings.seeds)]
    wanted += [("shuffled_images", "shuffled", 0)] if settings.shuffled else []
    return [
        Training(
            name=name,
            folder=settings.out / "checkpoints" / name,
            arguments=(
                "grpo", "--config", "demo",
                "--model_name_or_path", str(WARM_START),
                "--train_data", str(settings.out / "data" / "train"),
                "--train_images", images,
                "--seed", str(seed),
                *settings.train_arguments,
            ),
            num_steps=recipe_values("grpo", "demo")["max_steps"],
        )
        for name, images, seed in wanted
    ]  # fmt: skip


def _draw(run: DemoRun, bar: Progress) -> tuple[list[Sample], list[Sample]]:
    """Training and test questions, drawn where they are not there yet."""
    settings = run.settings
    drawn = []
    for split, count in (("train", settings.num_train), ("test", settings.num_test)):
        folder = settings.out / "data" / split
        task = bar.add_task(f"Phantoms: {split}", total=count)
        asked = PhantomSettings(
            out=folder, split=split, count=count, seed=settings.data_seed, processes=min(2, os.cpu_count() or 1)
        )
        write_phantoms(asked, lambda done, total, task=task: bar.update(task, completed=done))
        bar.update(task, completed=count)
        drawn.append(list(read_samples(folder)))
    return drawn[0], drawn[1]


def _evaluate(
    run: DemoRun, name: str, model: Path, test: list[Sample], controls: tuple[str, ...], bar: Progress
) -> None:
    """Greedy answers of a checkpoint to the test questions, and to their controls."""
    task = bar.add_task(f"Evaluation: {name}", total=None)
    started = time.monotonic()
    run.results[name] = evaluate(
        test,
        TransformersEngine(model, dtype="float32", device="cpu", batch_size=EVALUATION_BATCH),
        Asking(
            prompt=PROMPT,
            params=SamplingParams(max_new_tokens=MAX_NEW_TOKENS),
            variants=controls,
            batch_size=EVALUATION_BATCH,
            seed=0,
            arguments={"model": name},
        ),
        out=run.settings.out / "eval" / name,
        progress=lambda done, total: bar.update(task, completed=done, total=total),
    )
    run.seconds[f"evaluation_{name}"] = round(time.monotonic() - started, 1)


def _colour_baseline(train: list[Sample], test: list[Sample]) -> Estimate:
    """Accuracy of a guesser that sees eighteen colour numbers and no shape."""
    images = [[np.asarray(open_image(sample.images[0])) for sample in samples] for samples in (train, test)]
    hits = colour_baseline(images[0], train, images[1], test).tolist()
    return proportion(hits, [sample.group for sample in test])


def _summary(run: DemoRun, trainings: list[Training], colour: Estimate, n_test: int) -> DemoSummary:
    """What `summary.json` holds; shares from 0 to 1."""
    results, warm = run.results, run.predictions("warm_start")
    seeds = [training.name for training in trainings if training.name.startswith("grpo")]
    compared = {training.name: compare(warm, run.predictions(training.name)) for training in trainings}
    main = results["grpo"]

    def gained(name: str) -> DemoGain:
        return DemoGain(accuracy=results[name].accuracy, gain=compared[name].difference)

    def seed(name: str) -> DemoSeed:
        blind = results[name].blind
        return gained(name).extended(
            DemoSeed,
            mcnemar_p=compared[name].mcnemar_p,
            blank_accuracy=blind.blank_image,
            swapped_accuracy=blind.swapped_image,
            by_task=results[name].by_task,
        )

    return DemoSummary(
        n_test=n_test,
        chance=main.chance,
        colour_baseline=colour,
        warm_start_checkpoint="shipped",
        warm_start=results["warm_start"].accuracy,
        grpo=main.accuracy,
        gain=compared["grpo"].difference,
        mcnemar_p=compared["grpo"].mcnemar_p,
        blank_accuracy=main.blind.blank_image,
        swapped_accuracy=main.blind.swapped_image,
        follows_swapped_image=main.controls["swapped"].follows,
        blind_twin=gained("blind_twin"),
        seeds={name: seed(name) for name in seeds},
        shuffled_images=gained("shuffled_images") if "shuffled_images" in results else None,
        by_task={"warm_start": results["warm_start"].by_task, "grpo": main.by_task},
        decomposition=decompose(warm, run.predictions("grpo")),
        seconds=run.seconds,
    )
