"""`medr1 eval`, `reasoning`, `rescore`, `compare`, `verify`: a checkpoint on data, and what its answers are worth."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from medr1.cli.options import Then, note, print_json, progress, takes
from medr1.eval.settings import CompareSettings, EvalSettings, ReasoningSettings, RescoreSettings, VerifySettings

if TYPE_CHECKING:
    from medr1.results.answered import Rescored, RescoredOpen


@takes(CompareSettings, prints="compare.json", then=Then(look="{out}/compare.json"))
def compare_command(settings: CompareSettings, as_json: bool) -> None:
    """Compare runs on the questions that all of them answered: paired tests, ranks with ties, where gains came from.

    P-values are adjusted by Holm's method; runs that they cannot tell apart share a range of ranks.

    \b
    medr1 compare runs/before runs/after --out runs/compared
    medr1 compare runs/before runs/after --blind-twin runs/blind --by modality,source
    """
    from medr1.flows.stored import run_compare
    from medr1.report.side_by_side import all_tables
    from medr1.report.tables import rich_table

    compared = run_compare(settings)
    if as_json:
        print_json(compared)
        return
    console = Console()
    for table in all_tables(compared):
        console.print(rich_table(table))


SHOWN = 20
"""Differences that are printed; --json prints all."""


@takes(VerifySettings, prints="JSON")
def verify_command(settings: VerifySettings, as_json: bool) -> None:
    """Compute every number of results.json or rescore.json again from the completions, and say what differs.

    Completions and a judge's replies are read again as well. Of samples that show studies, the pictures are made again
    from the studies' files. The exit code is 1 if anything differs.

    \b
    medr1 verify runs/eval
    medr1 verify runs/rescored --data questions.tsv
    medr1 verify data/studies --data downloads/studies
    """
    from medr1.flows.stored import run_verify

    found = run_verify(settings)
    if as_json:
        print_json(asdict(found))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for line in found.differing[:SHOWN]:
            console.print(line, style="red")
        if len(found.differing) > SHOWN:
            console.print(f"and {len(found.differing) - SHOWN:,} more; --json lists them")
        for path in found.unchecked:
            option = "--data and, where a text prior was fitted, --train-data"
            console.print(f"not checked: {path} (needs {option})", style="yellow")
        verdict = f"{len(found.differing):,} differ" if found.differing else "all as stored"
        unchecked = f"; {len(found.unchecked):,} not checked" if found.unchecked else ""
        console.print(f"{settings.run}: {found.checked:,} values computed again, {verdict}{unchecked}")
    if found.differing:
        raise typer.Exit(1)


@takes(
    RescoreSettings,
    prints="rescore.json",
    then=Then(look="{out}/rescore.json", next="medr1 verify {out} --predictions {predictions}"),
)
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
        note(settings.told_patience())
    with progress("Scoring under every protocol") as show:
        results = run_rescore(settings, show)
    if as_json:
        print_json(results)
    else:
        _print(results, str(settings.predictions))


def _print(results: "Rescored | RescoredOpen", title: str) -> None:
    from medr1.report.tables import judge_tables, overview, protocols, rich_table
    from medr1.results.answered import Rescored

    above = (
        {item.why for item in results.void or ()} if isinstance(results, Rescored) else ()
    )  # these stand above the table
    for line in results.receipts or ():
        if line not in above:
            typer.echo(line)
    for said, count in (results.failed_calls or {}).items():
        typer.echo(f"{count:,} calls had failed ({said!r}): counted apart, neither right nor wrong.")
    if isinstance(results, Rescored):
        Console().print(rich_table(overview(results, title=title)))
        Console().print(rich_table(protocols(results.protocols)))
        apart = results.spread
        typer.echo(
            f"The reading alone moves the accuracy by {100 * apart.difference:.1f} points: "
            f"{apart.lowest} gives least, {apart.highest} most."
        )
    if results.open is not None:
        title = f"{results.open.n:,} open questions under every protocol for them"
        Console().print(rich_table(protocols(results.open.protocols, title=title)))
    for table in judge_tables(results.judge) if results.judge else ():
        Console().print(rich_table(table))


@takes(
    EvalSettings,
    prints="results.json",
    then=Then(look="{out}/results.json", next="medr1 doctor {out}, or medr1 compare {out} OTHER_RUN --out DIR"),
)
def evaluate_command(settings: EvalSettings, as_json: bool) -> None:
    """Evaluate a checkpoint: accuracy with intervals, beside chance, blind rules and image controls.

    Called again, it goes on where it stopped.

    \b
    medr1 eval medvlm-r1 --data data/test --out runs/eval
    medr1 eval qwen --engine endpoint --base-url http://127.0.0.1:8000/v1 --data data/test --out runs/eval
    """
    from medr1.eval.files import named, read_failures
    from medr1.flows.engines import as_trained
    from medr1.flows.evaluation import run_eval
    from medr1.report.tables import overview, rich_table

    if settings.engine == "endpoint":
        note(settings.told_patience())
    settings = as_trained(settings, note)
    with progress("Evaluating") as show:
        results = run_eval(settings, show)
    if as_json:
        print_json(results)
    else:
        Console().print(rich_table(overview(results, title=str(settings.out))))
    if failures := read_failures(settings.out):
        typer.echo(f"medr1: {len(failures):,} could not be asked and count for nothing ({named(failures)})", err=True)


@takes(ReasoningSettings, prints="reasoning.json", then=Then(look="{out}/reasoning.json"))
def reasoning_command(settings: ReasoningSettings, as_json: bool) -> None:
    """Say whether answers follow from their thinking, and whether the thinking speaks about the image.

    Without --interventions nothing is generated. With them, the answer is generated anew after another thinking; called
    again, they go on where they stopped.

    \b
    medr1 reasoning runs/eval
    medr1 reasoning runs/eval --data data/test --interventions own,empty,contradicting
    """
    from medr1.flows.evaluation import run_reasoning
    from medr1.report.tables import reasoning_tables, rich_table

    if settings.engine == "endpoint":
        note(settings.told_patience())
    with progress("Reading") as show:
        result = run_reasoning(settings, lambda what, done, total: show(done, total, what))
    if as_json:
        print_json(result)
        return
    for table in reasoning_tables(result, str(settings.run)):
        Console().print(rich_table(table))
