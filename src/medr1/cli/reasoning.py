"""`medr1 reasoning`: what the thinking of an evaluation is worth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from medr1.cli.engines import (
    BaseUrlOption,
    BatchSizeOption,
    CacheOption,
    ConcurrencyOption,
    Device,
    DeviceOption,
    DialectOption,
    Dtype,
    DtypeOption,
    EndpointOptions,
    EngineName,
    EngineOption,
    EngineOptions,
    MaxRetriesOption,
    RequestsPerMinuteOption,
    TimeoutOption,
    batch_size_of,
    start_engine,
)
from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.report.tables import Table
    from medr1.rollout.engine import Engine
    from medr1.types import Prediction, Sample


FILES = ("reasoning.json", "thinking")
"""What is written beside the manifest; the second is a folder of evaluations."""


def reasoning_command(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of an evaluation with thinking, as `medr1 eval` wrote it.")],
    out: Annotated[Path | None, typer.Option(help="Folder for reasoning.json; that of the run by default.")] = None,
    interventions: Annotated[
        str,
        typer.Option(
            help="Answer anew after changed thinking, comma-separated: own, truncated, empty, swapped, contradicting."
        ),
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Samples of the run: for interventions, and for what the records say.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Interventions: the checkpoint of the run; what its manifest says by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Interventions: so many samples, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Interventions: seed of the drawn samples and changes.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew: reasoning.json and the answers after changed thinking.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print reasoning.json instead of the tables.")] = False,
    engine: EngineOption = EngineName.TRANSFORMERS,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    base_url: BaseUrlOption = None,
    dialect: DialectOption = "vllm",
    concurrency: ConcurrencyOption = 8,
    requests_per_minute: RequestsPerMinuteOption = None,
    timeout: TimeoutOption = 120.0,
    max_retries: MaxRetriesOption = 5,
    cache: CacheOption = None,
) -> None:
    """Say whether answers follow from their thinking, and whether the thinking speaks about the image.

    Without --interventions nothing is generated. With them, the answer is generated anew after another thinking; called
    again, they go on where they stopped.
    """
    from medr1.data.convert import choose
    from medr1.eval.contradictions import known_anatomies
    from medr1.eval.reasoning import score_reasoning
    from medr1.eval.runner import line_of, read_predictions
    from medr1.eval.stored import holds_evaluation
    from medr1.records import check_finished, content_hashes, read_json, read_samples, short_hash
    from medr1.report.tables import rich_table
    from medr1.runs import Run
    from medr1.variants.thinking import CHANGES

    names = [name for name in interventions.split(",") if name]
    unknown = [name for name in names if name not in CHANGES]
    if unknown:
        raise ConfigError(f"there is no intervention {unknown[0]!r}; choose one of {', '.join(CHANGES)}")
    if names and data is None:
        raise ConfigError("--interventions need the images of the questions; add --data with what the run was made on")
    check_finished(run)
    predictions = [prediction for prediction in read_predictions(run) if prediction.variant == ""]
    if not predictions:
        raise ConfigError(f"{run} holds no predictions; give a folder that `medr1 eval` wrote")
    samples = [] if data is None else list(read_samples(data))
    recorded = read_json(run / "manifest.json")["arguments"] if names else {}
    options = EngineOptions(
        model=model or recorded.get("model", ""),
        engine=engine,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        base_url=base_url,
        endpoint=EndpointOptions(
            dialect=dialect,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            timeout=timeout,
            max_retries=max_retries,
            cache=cache,
        ),
    )
    generator = start_engine(options, context) if names else None
    asked = {
        "data": short_hash(content_hashes(samples)),
        "interventions": names,
        "drawn": {"limit": limit, "seed": seed} if names else None,
        "engine": dict(generator.describe()) if generator else None,
    }
    with Run(
        out or run,
        command="reasoning",
        arguments={"run": run, "data": data},
        identity={"predictions": short_hash([line_of(prediction) for prediction in predictions])},
        seed=None,
        owns=FILES,
        overwrite=overwrite,
        guest=holds_evaluation(out or run),
    ) as folder:
        if folder.done and folder.has(FILES[0]) and folder.holds(asked):
            result = read_json(folder.folder / FILES[0])
        else:
            folder.start(**asked)
            result = score_reasoning(predictions, known_anatomies(predictions, samples))
            result["interventions"] = {}
            if generator is not None:
                result["interventions"] = _intervene(
                    names,
                    choose(samples, limit, seed),
                    predictions,
                    generator,
                    out=folder.folder / FILES[1],
                    recorded=recorded,
                    batch_size=batch_size_of(options),
                    seed=seed,
                )
            folder.write_json(FILES[0], result)
            folder.reach("done")
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for table in _tables(result, str(run)):
        Console().print(rich_table(table))


def _intervene(
    names: list[str],
    samples: "list[Sample]",
    predictions: "list[Prediction]",
    generator: "Engine",
    *,
    out: Path,
    recorded: dict[str, Any],
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Scores by intervention, each an evaluation in `out/NAME` with the prompt and sampling that the run recorded."""
    from medr1.eval.reasoning import intervene
    from medr1.rollout.engine import SamplingParams

    params = replace(SamplingParams(**recorded["sampling"]), num_draws=1)
    scores = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for name in names:
            task = bar.add_task(f"{name} thinking", total=None)
            scores[name] = intervene(
                name,
                samples,
                predictions,
                generator,
                out=out / name,
                prompt=recorded["prompt"],
                protocol=recorded["protocol"],
                params=params,
                batch_size=batch_size,
                seed=seed,
                progress=lambda done, total, task=task: bar.update(task, completed=done, total=total),
            )
    return scores


def _tables(result: dict[str, Any], title: str) -> "list[Table]":
    return [table for table in (_consistency(result, title), _record(result), _interventions(result)) if table.rows]


def _consistency(result: dict[str, Any], title: str) -> "Table":
    from medr1.eval.reasoning import CONCLUSIONS
    from medr1.report.tables import Table, percent, with_interval

    scores = result["consistency"] or {}
    rows = [
        (name.replace("_", " "), f"{part['n']:,}", with_interval(part, "share"), percent(part["accuracy"]))
        for name, part in scores.items()
        if name in CONCLUSIONS
    ]
    words = result["words"]["all"]
    note = f"{result['n']:,} answers with thinking, {result['without_thinking']:,} without"
    if words is not None:
        note += f"; words: median {words['median']:.0f}, 90 % from {words['q05']:.0f} to {words['q95']:.0f}"
    columns = ("answer and thinking", "n", "share [95 % interval]", "accuracy")
    return Table(title=f"Thinking of {title}", columns=columns, rows=rows, note=f"{note}.")


def _record(result: dict[str, Any]) -> "Table":
    from medr1.report.tables import Table, with_interval

    rows = [
        (name, f"{part['n']:,}", f"{part['named']:,}", with_interval(part["contradicting"], "share"))
        for name, part in result["contradictions"].items()
        if part is not None
    ]
    columns = ("", "record knows it", "named", "contradicting, % [95 % interval]")
    return Table(title="Thinking against the record", columns=columns, rows=rows)


def _interventions(result: dict[str, Any]) -> "Table":
    from medr1.report.tables import Table, percent, with_interval

    rows = [
        (
            name,
            f"{part['n']:,}",
            f"{part['unreadable']:,}",
            with_interval(part.get("changed") or {}, "share"),
            with_interval(part.get("follows") or {}, "share"),
            percent(part.get("original_accuracy")),
            percent(part.get("accuracy")),
        )
        for name, part in result["interventions"].items()
    ]
    columns = ("thinking", "n", "unreadable", "changed, %", "as planted, %", "accuracy", "after")
    note = "Changed: another option than before. As planted: the option that the changed thinking concludes."
    return Table(title="Answers after changed thinking", columns=columns, rows=rows, note=note)
