"""`medr1 rescore`: stored completions under our reading and under every published one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from medr1.types import Sample


def rescore_command(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A run folder or predictions.jsonl of `medr1 eval`; a result JSON of MedVLM-R1, Med-R1 or AdvMed-R1; "
            "or what VLMEvalKit (xlsx, tsv, csv, json), lmms-eval (jsonl samples) or MedEvalKit (results.json) wrote."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for rescore.json.")],
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
    as_json: Annotated[bool, typer.Option("--json", help="Print rescore.json instead of the tables.")] = False,
) -> None:
    """Score stored completions again, without a model: our reading beside every published protocol.

    What no protocol could read counts as wrong. Unreadable: not read by this protocol. Refused: unreadable and a
    refusal. Refusals read: refusals that the protocol takes for an option. With guesses: what to expect of kits that
    draw an option at random where they find none.
    """
    from medr1.eval.rescore import drawn_questions, rescore
    from medr1.eval.stored import read_stored
    from medr1.records import manifest, write_json
    from medr1.report.tables import overview, protocols, rich_table

    console = Console(stderr=True)
    with console.status("Reading"):
        run = drawn_questions(read_stored(predictions, _questions(data)), limit, seed)
        train_samples = _questions(train_data)
    with console.status("Scoring under every protocol"):
        results = rescore(run, train_samples)
    arguments = {"predictions": predictions, "data": data, "train_data": train_data, "limit": limit}
    write_json(out / "rescore.json", {**results, "manifest": manifest(arguments, seed)})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    if "n" in results:
        Console().print(rich_table(overview(results, title=str(predictions))))
        Console().print(rich_table(protocols(results)))
        apart = results["spread"]
        typer.echo(
            f"The reading alone moves the accuracy by {100 * apart['difference']:.1f} points: "
            f"{apart['lowest']} gives least, {apart['highest']} most."
        )
    if "open" in results:
        title = f"{results['open']['n']:,} open questions under every protocol for them"
        Console().print(rich_table(protocols(results["open"], title=title)))


def _questions(path: Path | None) -> "list[Sample] | None":
    """The samples of a converted folder or of a file of any source; their images are not opened."""
    from medr1.data import read_source
    from medr1.records import read_samples

    if path is None:
        return None
    converted = path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))
    saved = (path / "dataset_info.json").exists()
    return list(read_samples(path) if converted or saved else read_source(path))
