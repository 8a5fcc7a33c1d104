"""`medr1 train`: reinforcement learning and supervised fine-tuning, with TRL's own flags and recipes."""

import sys

import typer

app = typer.Typer(help="Train a checkpoint: GRPO or SFT, on TRL.", no_args_is_help=True)

# TRL's parser owns the flags, --help included.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASS_ON)
def grpo(context: typer.Context) -> None:
    """Reinforcement learning with verifiable rewards. `--config` takes a recipe; every flag of GRPOConfig works."""
    from trl import GRPOConfig

    from medr1.train.arguments import GRPOArguments, ModelArguments
    from medr1.train.parser import parse
    from medr1.train.run import train_grpo

    sys.argv[0] = "medr1 train grpo"
    script, config, model = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), context.args)
    typer.echo(f"Finished: {train_grpo(script, config, model)}")


@app.command(context_settings=PASS_ON)
def sft(context: typer.Context) -> None:
    """Supervised fine-tuning on the completions that evaluation asks for. Takes every flag of SFTConfig."""
    from trl import SFTConfig

    from medr1.train.arguments import DataArguments, ModelArguments
    from medr1.train.parser import parse
    from medr1.train.run import train_sft

    sys.argv[0] = "medr1 train sft"
    script, config, model = parse("sft", (DataArguments, SFTConfig, ModelArguments), context.args)
    typer.echo(f"Finished: {train_sft(script, config, model)}")
