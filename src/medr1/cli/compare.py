"""`medr1 compare`: stored evaluations side by side."""

from rich.console import Console

from medr1.cli.options import print_json, takes
from medr1.eval.settings import CompareSettings


@takes(CompareSettings, prints="compare.json")
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
