"""AdvMed-R1's `eval_qwen2_5vl_zeroshot.py`, its evaluation on clean images: the same flags."""

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from medr1.cli.failures import run_command
from medr1.cli.seeds.evaluation import SeedEvaluation, add_sampling_flags, read_questions, run, sampling
from medr1.errors import ConfigError

ATTENTION = ("auto", "flash_attention_2", "sdpa", "eager")
MAX_NEW_TOKENS = 256


def parser() -> argparse.ArgumentParser:
    """The script's flags."""
    flags = argparse.ArgumentParser(prog="advmed_r1", description=__doc__, allow_abbrev=False)
    flags.add_argument("--model_path", required=True, help="checkpoint folder, hub name or name of the zoo")
    flags.add_argument("--test_data", type=Path, required=True, help="JSON with the questions")
    flags.add_argument("--dataset_root", type=Path, default=Path(), help="folder of the images")
    flags.add_argument("--batch_size", type=int, default=8, help="prompts that are generated together")
    flags.add_argument("--output_path", type=Path, required=True, help="result JSON to write")
    flags.add_argument("--attn_implementation", choices=ATTENTION, default="auto", help="auto is sdpa")
    add_sampling_flags(flags)
    return flags


def job(arguments: Sequence[str] | None = None) -> SeedEvaluation:
    """The evaluation that a command line asks for. `ConfigError` for an attention that is not installed."""
    from medr1.eval.stored import clean_result

    flags = parser().parse_args(arguments)
    if flags.attn_implementation == "flash_attention_2" and find_spec("flash_attn") is None:
        raise ConfigError("flash-attn is not installed here; install it, or choose --attn_implementation sdpa")
    return SeedEvaluation(
        samples=read_questions(flags.test_data, flags.dataset_root),
        model_path=flags.model_path,
        output_path=flags.output_path,
        prompt="med-r1/think",
        protocol="advmed-r1",
        params=sampling(flags, MAX_NEW_TOKENS),
        batch_size=flags.batch_size,
        result=partial(clean_result, test_data=str(flags.test_data)),
        attn_implementation="sdpa" if flags.attn_implementation == "auto" else flags.attn_implementation,
    )


if __name__ == "__main__":
    run_command(lambda: run(job()))
