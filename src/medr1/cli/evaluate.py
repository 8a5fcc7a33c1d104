"""`medr1 eval`: a checkpoint on a data set, with its blind twins."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from medr1.rollout.engine import Engine, OptionScorer

MODEL_HELP = "Checkpoint: a folder, a name of `medr1 models list`, or a hub name. Endpoint: its name for the model."


def evaluate_command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    data: Annotated[Path, typer.Option(help="Samples: a folder that `medr1 data` wrote, or a parquet file.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl, results.json and manifest.json.")],
    prompt: Annotated[str, typer.Option(help="Prompt template by name.")] = "think",
    protocol: Annotated[str, typer.Option(help="How completions are read.")] = "default",
    controls: Annotated[
        str,
        typer.Option(
            help="Controls, comma-separated: blank, noise, no_image, low_resolution, shuffled, other_modality, swapped "
            "and rotated (every rotation of the options); or an empty text."
        ),
    ] = "blank,swapped",
    option_logprobs: Annotated[
        bool, typer.Option("--option-logprobs", help="Keep the log-probabilities of the option letters.")
    ] = False,
    train_data: Annotated[Path | None, typer.Option(help="Training samples that the text prior is fitted on.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Limit of a completion.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy decoding.")] = 0.0,
    num_draws: Annotated[int, typer.Option(min=1, help="Completions per prompt; all of them count.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate so many samples, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn samples, the controls and sampling.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
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
    """Evaluate a checkpoint: accuracy with intervals, beside chance, blind rules and image controls.

    Called again, it goes on where it stopped.
    """
    from medr1.data.convert import choose
    from medr1.eval.files import named, read_failures
    from medr1.eval.runner import evaluate
    from medr1.records import read_samples
    from medr1.report.tables import overview, rich_table
    from medr1.rollout.engine import SamplingParams

    if option_logprobs and engine is not EngineName.TRANSFORMERS:
        raise ConfigError(f"--engine {engine} does not tell --option-logprobs; choose --engine transformers")
    samples = choose(list(read_samples(data)), limit, seed)
    train_samples = None if train_data is None else list(read_samples(train_data))
    options = EngineOptions(
        model=model,
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
    generator = start_engine(options, context)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Evaluating", total=None)
        results = evaluate(
            samples,
            generator,
            out=out,
            prompt=prompt,
            protocol=protocol,
            params=SamplingParams(
                max_new_tokens=max_new_tokens, temperature=temperature, num_draws=num_draws, seed=seed
            ),
            controls=[name for name in controls.split(",") if name],
            batch_size=batch_size_of(options),
            seed=seed,
            option_scorer=_option_scorer(generator) if option_logprobs else None,
            train_samples=train_samples,
            arguments={"model": model, "data": data, "limit": limit, "dtype": dtype},
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        Console().print(rich_table(overview(results, title=str(out))))
    if failures := read_failures(out):
        typer.echo(f"medr1: {len(failures):,} could not be asked and count for nothing ({named(failures)})", err=True)


def _option_scorer(generator: "Engine") -> "OptionScorer":
    from medr1.rollout.option_scores import TransformersOptionScorer
    from medr1.rollout.transformers import TransformersEngine

    assert isinstance(generator, TransformersEngine), "other engines are refused before they start"
    return TransformersOptionScorer(generator)
