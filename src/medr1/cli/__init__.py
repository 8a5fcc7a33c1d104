"""The command line: `medr1`. One file per command group; each parses, calls and prints.

Heavy imports stay inside the commands, so that `medr1 --help` answers at once.
"""

import os

import typer
from rich.console import Console

from medr1 import __version__
from medr1.cli.ask import WordsBehindFlags, ask_command
from medr1.cli.attack import attack_command, corrupt_command, robustness_command
from medr1.cli.data import app as data_app
from medr1.cli.doctor import doctor_command
from medr1.cli.evaluation import compare_command, evaluate_command, reasoning_command, rescore_command, verify_command
from medr1.cli.failures import run_command
from medr1.cli.models import app as models_app
from medr1.cli.options import Then, print_json, takes
from medr1.cli.rewards import app as rewards_app
from medr1.cli.train import app as train_app
from medr1.flows.settings import DemoSettings

app = typer.Typer(
    help="Train, evaluate and stress-test vision-language models that reason about medical images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")
app.add_typer(rewards_app, name="rewards")
app.command("ask", cls=WordsBehindFlags)(ask_command)
app.command("eval")(evaluate_command)
app.command("rescore")(rescore_command)
app.command("compare")(compare_command)
app.command("verify")(verify_command)
app.command("corrupt")(corrupt_command)
app.command("robustness")(robustness_command)
app.command("reasoning")(reasoning_command)
app.command("attack")(attack_command)


@app.command("demo")
@takes(
    DemoSettings,
    prints="summary.json",
    then=Then(
        look="{out}/report.html",
        next='medr1 ask photo.png "What is this?", or medr1 eval MODEL --data {out}/data/test --out DIR',
    ),
)
def demo_command(settings: DemoSettings, as_json: bool) -> None:
    """Draw phantoms, train a tiny Qwen2.5-VL to look at them, test it against its blind twin, write a report.

    \b
    medr1 demo
    medr1 demo --seeds 3 --shuffled --out runs/demo3
    """
    from medr1.flows.demo import run_demo
    from medr1.report.tables import rich_table

    summary, table = run_demo(settings, Console(stderr=True))
    if as_json:
        print_json(summary)
    else:
        Console().print(rich_table(table))


app.command("doctor")(doctor_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"medr1 {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    # Nothing is fetched while a command runs unless it is a download; hubs are asked for by name only.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main() -> None:
    """Entry point: a user's error is one line and exit code 1; a traceback is a bug of ours."""
    run_command(app)
