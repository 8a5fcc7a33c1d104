"""`medr1 train`: reinforcement learning and supervised fine-tuning, with TRL's own flags and recipes."""

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from medr1.cli.options import note

if TYPE_CHECKING:
    from medr1.train.plan import Plan

app = typer.Typer(help="Train a checkpoint: GRPO or SFT, on TRL.", no_args_is_help=True)

# TRL's parser owns the flags.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
HELP_COLUMN = 24
GRPO_ONLY = ("num_generations", "max_completion_length", "beta")


USUAL = (
    *("model_name_or_path", "output_dir", "num_generations", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "max_completion_length", "learning_rate", "beta", "num_train_epochs", "max_steps"),
    *("bf16", "use_peft", "seed", "save_steps"),
)
"""Flags of TRL that most trainings set: named in `--help`, all of them told by `--help-all`."""


@app.command(context_settings=PASS_ON)
def grpo(context: typer.Context) -> None:
    """Reinforcement learning with verifiable rewards. `--config` takes a recipe; every flag of GRPOConfig works."""
    from trl import GRPOConfig

    from medr1.train.arguments import GRPOArguments, ModelArguments, parse
    from medr1.train.run import train_grpo

    words = _told_all("grpo", GRPOArguments, context.args)
    script, config, model = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)
    if script.plan:
        from medr1.train.plan import plan_grpo

        plan = plan_grpo(script, config, model)
        if config.process_index == 0:
            show(plan)
        return
    _finished(train_grpo(script, config, model), config.output_dir)


@app.command(context_settings=PASS_ON)
def sft(context: typer.Context) -> None:
    """Supervised fine-tuning on the completions that evaluation asks for. Takes every flag of SFTConfig."""
    from trl import SFTConfig

    from medr1.train.arguments import DataArguments, ModelArguments, parse
    from medr1.train.run import train_sft

    words = _told_all("sft", DataArguments, context.args)
    script, config, model = parse("sft", (DataArguments, SFTConfig, ModelArguments), words)
    _finished(train_sft(script, config, model), config.output_dir)


def _finished(final: object, run: str | None) -> None:
    typer.echo(f"Finished: {final}")
    note(f"Next: medr1 doctor {run}, then medr1 eval {final} --data TEST --out DIR")


def _told_all(kind: str, script: type, words: Sequence[str]) -> list[str]:
    """The words for TRL's parser, which tells all its flags at `--help-all`. Ends with the short help at `--help`."""
    sys.argv[0] = f"medr1 train {kind}"
    if "--help" in words or "-h" in words:
        typer.echo(short_help(kind, script))
        raise typer.Exit
    return ["--help" if word == "--help-all" else word for word in words]


def short_help(kind: str, script: type) -> str:
    """Examples, medr1's own flags with their defaults, and names of those of TRL that most trainings set."""
    lines = [
        f"Usage: medr1 train {kind} [--config RECIPE] [OPTIONS]",
        "",
        f"  medr1 train {kind} --config demo --train_data data/train --output_dir runs/{kind}",
        f"  medr1 train {kind} --model_name_or_path qwen2-vl-2b --train_data data/train --bf16",
        "",
        f"medr1's own options; --help-all tells all {'GRPOConfig' if kind == 'grpo' else 'SFTConfig'} has, with types:",
    ]
    for one in fields(script):
        default = "" if one.default in (None, MISSING, False) else f" [{one.default}]"
        text = textwrap.wrap(f"{one.metadata['help']}{default}", 76 - HELP_COLUMN)
        flag = f"  --{one.name}".ljust(HELP_COLUMN)
        lines += [flag + text[0]] if len(flag) <= HELP_COLUMN else [flag, " " * HELP_COLUMN + text[0]]
        lines += [" " * HELP_COLUMN + line for line in text[1:]]
    named = ", ".join(f"--{name}" for name in USUAL if kind == "grpo" or name not in GRPO_ONLY)
    return "\n".join([*lines, "", *textwrap.wrap(f"Of TRL, among many: {named}.", 78)])


def show(plan: "Plan") -> None:
    """Print what a run will take: its memory, and its steps."""
    console = Console()
    memory = Table("MiB on " + plan.device, "sampling", "update", title="Memory of each process")
    for part in plan.components:
        memory.add_row(part.name, f"{part.sampling / 2**20:,.1f}", f"{part.update / 2**20:,.1f}")
    memory.add_section()
    memory.add_row("peak", "", f"{plan.peak_bytes / 2**20:,.1f}")
    if plan.available_bytes is not None:
        memory.add_row("free before", "", f"{plan.available_bytes / 2**20:,.1f}")
    console.print(memory)
    run = Table("run", "", title="Two dry steps, and what follows from them")
    run.add_row("questions", f"{plan.num_questions:,} ({plan.prompts_too_long:,} more have prompts that are too long)")
    run.add_row("per step", f"{plan.prompts_per_step:,} prompts, {plan.completions_per_step:,} completions")
    run.add_row("at once", f"{plan.micro_batch:,} completions on each process")
    run.add_row("prompt", f"{plan.prompt_tokens:,.0f} tokens, {plan.image_tokens:,.0f} of them image tokens")
    run.add_row("completion", f"{plan.completion_tokens:,.0f} tokens now, at most {plan.completion_limit}")
    run.add_row("tokens per step", f"{plan.tokens_per_step:,.0f}")
    run.add_row("steps", f"{plan.num_steps:,}")
    run.add_row("a step", f"{plan.sampling_seconds:.2f} s sampling, {plan.update_seconds:.2f} s update")
    run.add_row("the run", f"{plan.seconds / 60:,.1f} minutes")
    console.print(run)
