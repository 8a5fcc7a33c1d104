"""`medr1 rewards`: the rewards that there are, and what they can be cheated with."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from medr1.cli.options import Then, print_json, quiet, takes
from medr1.rewards.fuzz import FuzzSettings

if TYPE_CHECKING:
    from medr1.rewards.fuzz import FuzzReports

app = typer.Typer(help="List rewards, and try to cheat them.", no_args_is_help=True)

FILE = "fuzz.json"
EXAMPLE_LENGTH = 90


@app.command("list")
def list_rewards() -> None:
    """List the rewards that `--reward_funcs` of `medr1 train grpo` takes."""
    from medr1.rewards import PAYS_FOR

    table = Table("reward", "what it pays for")
    for name, text in PAYS_FOR.items():
        table.add_row(name, text)
    Console().print(table)


@app.command()
@takes(FuzzSettings, prints="fuzz.json", then=Then(look="{out}/fuzz.json"))
def fuzz(settings: FuzzSettings, as_json: bool) -> None:
    """Try to earn a reward without giving one right answer, and see what takes a reward too long.

    Tag spam, several answers, answers inside the thinking, echoes of the prompt, lists of options, denials, look-alike
    and invisible characters, very long texts, … in every answer type. A reward function of TRL is given the columns
    prompts, completions, id, question, options, answer_index, answer_type, answers, problem, solution, answer,
    ground_truth, label, completion_ids and trainer_state.

    \b
    medr1 rewards fuzz accuracy format
    medr1 rewards fuzz mine.py:reward --strict --out runs/fuzz
    """
    from medr1.rewards import REWARDS

    names = list(settings.rewards or REWARDS)
    tried = _tried(names, settings.time) if settings.out is None else _written(names, settings, settings.out)
    if as_json:
        print_json(tried)
    else:
        _show(tried)
    if settings.strict and any(report.findings or report.slow for report in tried.rewards):
        raise typer.Exit(1)


def _tried(names: Sequence[str], with_time: bool) -> "FuzzReports":
    from medr1.rewards.fuzz import FuzzReports
    from medr1.rewards.fuzz import fuzz as try_reward

    each = track(names, "Trying", console=Console(stderr=True, quiet=quiet.get()), transient=True)
    return FuzzReports(rewards=tuple(try_reward(name, with_time=with_time) for name in each))


def _written(names: Sequence[str], settings: FuzzSettings, out: Path) -> "FuzzReports":
    """The reports, which are written to fuzz.json where they are not there."""
    from medr1.records import file_hashes, read_record, short_hash
    from medr1.rewards import REWARDS
    from medr1.rewards.fuzz import FuzzReports
    from medr1.runs import Run

    own = [Path(name.rpartition(":")[0]) for name in names if name not in REWARDS]
    asked = {"rewards": [name if name in REWARDS else Path(name).name for name in names], "with_time": settings.time}
    with Run(
        out,
        command="rewards fuzz",
        arguments=asked,
        identity={**asked, "reward_files": short_hash(list(file_hashes(own)))},
        seed=None,
        owns=(FILE,),
        overwrite=settings.overwrite,
    ) as run:
        if not (run.done and run.has(FILE)):
            tried = _tried(names, settings.time)
            run.start()
            run.write_json(FILE, tried)
            run.reach("done")
        return read_record(out / FILE, FuzzReports)


def _show(tried: "FuzzReports") -> None:
    table = Table("reward", "found", "pays (right / wrong)", "what is wrong", "example", title="Rewards under attack")
    for report in tried.rewards:
        name = escape(report.reward)
        if not report.findings and not report.slow:
            nothing = f"nothing in {report.completions:,} completions"
            table.add_row(name, nothing, "", f"answers: {', '.join(report.answer_types)}", "")
        for finding in report.findings:
            paid = "–" if finding.value is None else f"{finding.value:g}"
            table.add_row(
                name,
                escape(finding.probe),
                f"{paid} ({finding.right:g} / {finding.wrong:g})",
                f"{finding.problem} ({', '.join(finding.answer_types)})",
                escape(_short(finding.example)),
            )
        for pattern in report.slow:
            size = f"{pattern.seconds:.2f} s for {pattern.characters:,} characters"
            what = f"{size}, grows as n^{pattern.exponent:.1f}"
            example = escape(_short(pattern.prefix + pattern.unit * 3 + "…"))
            table.add_row(name, "slow", "", what, example)
    Console().print(table)


def _short(text: str) -> str:
    """The text on one line; odd characters show as escapes."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= EXAMPLE_LENGTH else f"{shown[:EXAMPLE_LENGTH]}…"
