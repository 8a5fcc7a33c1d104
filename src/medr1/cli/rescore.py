"""`medr1 rescore`: stored completions under our reading and every published one, and before a judge."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from medr1.cli.engines import (
    ENDPOINT_OPTIONS,
    CacheOption,
    ConcurrencyOption,
    DialectOption,
    EndpointOptions,
    MaxRetriesOption,
    RequestsPerMinuteOption,
    TimeoutOption,
    given_flags,
    start_endpoint,
)
from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.eval.stored import StoredRun
    from medr1.rollout.endpoint import EndpointEngine
    from medr1.runs import Run

FILES = ("rescore.json", "judgements.jsonl")
"""What is written beside the manifest."""


def rescore_command(
    context: typer.Context,
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A run folder or predictions.jsonl of `medr1 eval`; a result JSON of MedVLM-R1, Med-R1 or AdvMed-R1; "
            "or what VLMEvalKit (xlsx, tsv, csv, json), lmms-eval (jsonl samples) or MedEvalKit (results.json) wrote."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for rescore.json and judgements.jsonl.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Questions that were asked, where the predictions do not hold them: a folder that `medr1 data` wrote, "
            "or a file of any source, in the order of the predictions."
        ),
    ] = None,
    train_data: Annotated[Path | None, typer.Option(help="Training samples that the text prior is fitted on.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score so many questions, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn questions.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew where the folder holds another rescoring; verdicts go, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print rescore.json instead of the tables.")] = False,
    judge_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Let a language model judge every answer, too: address of its chat endpoint up to /v1. "
            "Its key, if any, is read from the variable MEDR1_API_KEY."
        ),
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Its name at that endpoint.")] = None,
    dialect: DialectOption = "vllm",
    concurrency: ConcurrencyOption = 8,
    requests_per_minute: RequestsPerMinuteOption = None,
    timeout: TimeoutOption = 120.0,
    max_retries: MaxRetriesOption = 5,
    cache: CacheOption = None,
) -> None:
    """Score stored completions again: our reading beside every published protocol, and beside a judge if asked for.

    What no protocol could read counts as wrong. Unreadable: not read by this protocol. Refused: unreadable and a
    refusal. Refusals read: refusals that the protocol takes for an option. With guesses: what to expect of kits that
    draw an option at random where they find none.

    A judge is asked about every answer once: called again, the command asks for what is missing in judgements.jsonl.
    """
    asked = EndpointOptions(
        dialect=dialect,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout=timeout,
        max_retries=max_retries,
        cache=cache,
    )
    judge_engine = _start_judge(judge_endpoint, judge_model, asked, context)
    results = _rescored(
        predictions,
        data,
        train_data,
        limit=limit,
        seed=seed,
        out=out,
        overwrite=overwrite,
        judge_engine=judge_engine,
    )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        _print(results, str(predictions))


def _rescored(
    predictions: Path,
    data: Path | None,
    train_data: Path | None,
    *,
    limit: int | None,
    seed: int,
    out: Path,
    overwrite: bool,
    judge_engine: "EndpointEngine | None",
) -> dict[str, Any]:
    """The scores, which are written to rescore.json where they are not there; beside an evaluation or alone."""
    from medr1.eval.judge import is_judged
    from medr1.eval.rescore import drawn_questions, rescore, rescored_identity, scored_hash
    from medr1.eval.stored import asked_questions, holds_evaluation, read_stored
    from medr1.records import data_hash, read_json
    from medr1.runs import Run

    console = Console(stderr=True)
    with console.status("Reading"):
        questions = None if data is None else asked_questions(data)
        stored = read_stored(predictions, questions)
        train_samples = None if train_data is None else asked_questions(train_data)
    judge_facts = None if judge_engine is None else dict(judge_engine.describe())
    with Run(
        out,
        command="rescore",
        arguments={"predictions": predictions, "data": data, "train_data": train_data, "limit": limit},
        identity={"limit": limit, **rescored_identity(stored, train_samples)},
        seed=seed,
        owns=FILES,
        overwrite=overwrite,
        guest=holds_evaluation(out),
    ) as run:
        asked = drawn_questions(stored, limit, seed)
        is_complete = judge_facts is None or is_judged(asked, judge_facts, run)
        if run.done and run.has(FILES[0]) and run.holds({"judge": judge_facts}) and is_complete:
            return {name: value for name, value in read_json(out / FILES[0]).items() if name != "manifest"}
        with console.status("Scoring under every protocol"):
            results = rescore(asked, train_samples)
        if judge_engine is not None:
            results["judge"] = _judged(asked, judge_engine, run, console)
        run.start(judge=judge_facts)
        hashes = {
            "scored_hash": scored_hash(asked),
            "train_data_hash": None if train_samples is None else data_hash(train_samples),
        }
        run.write_json(FILES[0], {**results, "manifest": {**run.made_by, **hashes}})
        run.reach("done")
    return results


def _start_judge(
    address: str | None, model: str | None, asked: EndpointOptions, context: typer.Context
) -> "EndpointEngine | None":
    """The judge that the options name, once it answers; None without one."""
    if (address is None) != (model is None):
        raise ConfigError("a judge needs both --judge-endpoint and --judge-model; add the other one")
    if address is not None and model is not None:
        return start_endpoint(address, model, asked)
    for flag in given_flags(context, ENDPOINT_OPTIONS):
        raise ConfigError(f"{flag} is for a judge; leave it out, or add --judge-endpoint and --judge-model")
    return None


def _judged(stored: "StoredRun", engine: "EndpointEngine", run: "Run", console: Console) -> dict[str, Any]:
    from medr1.eval.judge import judge

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Judging", total=None)
        return judge(
            stored,
            engine,
            run=run,
            batch_size=8 * engine.concurrency,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _print(results: dict[str, Any], title: str) -> None:
    from medr1.report import judge
    from medr1.report.tables import overview, protocols, rich_table

    above = {item["why"] for item in results.get("void", ())}  # these stand above the table
    for line in results.get("receipts", ()):
        if line not in above:
            typer.echo(line)
    if "n" in results:
        Console().print(rich_table(overview(results, title=title)))
        Console().print(rich_table(protocols(results)))
        apart = results["spread"]
        typer.echo(
            f"The reading alone moves the accuracy by {100 * apart['difference']:.1f} points: "
            f"{apart['lowest']} gives least, {apart['highest']} most."
        )
    if "open" in results:
        title = f"{results['open']['n']:,} open questions under every protocol for them"
        Console().print(rich_table(protocols(results["open"], title=title)))
    if "judge" in results:
        for table in judge.all_tables(results["judge"]):
            Console().print(rich_table(table))
