"""`medr1 rescore`: stored completions under our reading and every published one, and before a judge."""

from typing import Any

import typer
from rich.console import Console

from medr1.cli.options import print_json, progress, takes
from medr1.eval.settings import RescoreSettings


@takes(RescoreSettings, prints="rescore.json")
def rescore_command(settings: RescoreSettings, as_json: bool) -> None:
    """Score stored completions again: our reading beside every published protocol, and beside a judge if asked for.

    What no protocol could read counts as wrong. Unreadable: not read by this protocol. Refused: unreadable and a
    refusal. Refusals read: refusals that the protocol takes for an option. With guesses: what to expect of kits that
    draw an option at random where they find none.

    A judge is asked about every answer once: called again, the command asks for what is missing in judgements.jsonl.

    \b
    medr1 rescore runs/eval --out runs/rescored
    medr1 rescore theirs.xlsx --data questions.tsv --out runs/theirs
    """
    from medr1.flows.stored import run_rescore

    if settings.judge_endpoint is not None:
        typer.echo(f"medr1: {settings.told_patience()}", err=True)
    with progress("Scoring under every protocol") as show:
        results = run_rescore(settings, show)
    if as_json:
        print_json(results)
    else:
        _print(results, str(settings.predictions))


def _print(results: dict[str, Any], title: str) -> None:
    from medr1.report import judge
    from medr1.report.tables import overview, protocols, rich_table

    above = {item["why"] for item in results.get("void", ())}  # these stand above the table
    for line in results.get("receipts", ()):
        if line not in above:
            typer.echo(line)
    for said, count in results.get("failed_calls", {}).items():
        typer.echo(f"{count:,} calls had failed ({said!r}): counted apart, neither right nor wrong.")
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
