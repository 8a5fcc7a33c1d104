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
    EngineName,
    EngineOption,
    MaxRetriesOption,
    RequestsPerMinuteOption,
    TimeoutOption,
    batch_size_of,
    start_engine,
)
from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.report.tables import Table
    from medr1.types import Prediction, Sample


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
    from medr1.eval.interventions import INTERVENTIONS
    from medr1.eval.reasoning import score_reasoning
    from medr1.eval.runner import read_predictions
    from medr1.records import read_samples, write_json
    from medr1.report.tables import rich_table

    names = [name for name in interventions.split(",") if name]
    unknown = [name for name in names if name not in INTERVENTIONS]
    if unknown:
        raise ConfigError(f"there is no intervention {unknown[0]!r}; choose one of {', '.join(INTERVENTIONS)}")
    if names and data is None:
        raise ConfigError("--interventions need the images of the questions; add --data with what the run was made on")
    predictions = [prediction for prediction in read_predictions(run) if prediction.variant == ""]
    if not predictions:
        raise ConfigError(f"{run} holds no predictions; give a folder that `medr1 eval` wrote")
    samples = [] if data is None else list(read_samples(data))
    result = score_reasoning(predictions, known_anatomies(predictions, samples))
    result["interventions"] = (
        _intervene(context, run, out or run, names, choose(samples, limit, seed), predictions) if names else {}
    )
    write_json((out or run) / "reasoning.json", result)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for table in _tables(result, str(run)):
        Console().print(rich_table(table))


def _intervene(
    context: typer.Context,
    run: Path,
    out: Path,
    names: list[str],
    samples: "list[Sample]",
    predictions: "list[Prediction]",
) -> dict[str, Any]:
    """Scores by intervention, each an evaluation in `thinking/NAME` with the prompt and sampling of the run."""
    from medr1.eval.interventions import intervene
    from medr1.records import read_json
    from medr1.rollout.engine import SamplingParams

    recorded = read_json(run / "manifest.json")["arguments"]
    context.params["model"] = context.params["model"] or recorded["model"]
    generator = start_engine(context)
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
                out=out / "thinking" / name,
                prompt=recorded["prompt"],
                protocol=recorded["protocol"],
                params=params,
                batch_size=batch_size_of(context),
                seed=context.params["seed"],
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
