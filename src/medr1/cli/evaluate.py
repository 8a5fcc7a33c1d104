"""`medr1 eval`: a checkpoint on a data set, with its blind twins."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from medr1.rollout.engine import Engine


class EngineName(StrEnum):
    """Engines that `medr1 eval` can start."""

    TRANSFORMERS = "transformers"


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Dtype(StrEnum):
    """Numbers that the model computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def evaluate_command(
    model: Annotated[str, typer.Argument(help="Checkpoint: a folder, a name of `medr1 models list`, or a hub name.")],
    data: Annotated[Path, typer.Option(help="Samples: a folder that `medr1 data` wrote, or a parquet file.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl, results.json and manifest.json.")],
    prompt: Annotated[str, typer.Option(help="Prompt template by name.")] = "think",
    protocol: Annotated[str, typer.Option(help="How completions are read.")] = "default",
    engine: Annotated[EngineName, typer.Option(help="What generates.")] = EngineName.TRANSFORMERS,
    controls: Annotated[
        str,
        typer.Option(help="Controls, comma-separated: blank, noise, no_image, shuffled, swapped; or an empty text."),
    ] = "blank,swapped",
    train_data: Annotated[Path | None, typer.Option(help="Training samples that the text prior is fitted on.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that are generated together.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Limit of a completion.")] = 256,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate so many samples, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn samples, the controls and sampling.")] = 0,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = Device.AUTO,
    dtype: Annotated[Dtype, typer.Option(help="Numbers that it computes in.")] = Dtype.AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Evaluate a checkpoint: accuracy with intervals, beside chance, blind rules and image controls.

    Called again, it goes on where it stopped.
    """
    from medr1.data.convert import choose
    from medr1.eval.runner import evaluate
    from medr1.records import read_samples
    from medr1.report.tables import overview, rich_table
    from medr1.rollout.engine import SamplingParams

    samples = choose(list(read_samples(data)), limit, seed)
    train_samples = None if train_data is None else list(read_samples(train_data))
    generator = _start(engine, model, device, dtype, batch_size)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Evaluating", total=None)
        results = evaluate(
            samples,
            generator,
            out=out,
            prompt=prompt,
            protocol=protocol,
            params=SamplingParams(max_new_tokens=max_new_tokens, seed=seed),
            controls=[name for name in controls.split(",") if name],
            batch_size=batch_size,
            seed=seed,
            train_samples=train_samples,
            arguments={"model": model, "data": data, "limit": limit, "dtype": dtype.value},
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        Console().print(rich_table(overview(results, title=str(out))))


def _start(name: EngineName, model: str, device: Device, dtype: Dtype, batch_size: int) -> "Engine":
    """The engine, ready to generate. Raises `ModelError` for what is no checkpoint."""
    match name:
        case EngineName.TRANSFORMERS:
            from medr1.rollout.transformers import TransformersEngine

            chosen = None if device is Device.AUTO else device.value
            return TransformersEngine(model, device=chosen, dtype=dtype.value, batch_size=batch_size)
