"""Med-R1's five evaluation scripts: the same flags, after the name of the script's variant.

| variant | script |
|---|---|
| `think` | `test_qwen2vl_vqa.py`, `test_qwen2_5vl_vqa.py` |
| `nothink` | `test_qwen2_5vl_vqa_nothink.py` |
| `nothink-qwen2` | `test_qwen2vl_vqa_nothink.py`, which takes the whole output for the answer |
| `zeroshot` | `test_qwen2vl_vqa_zero_shot.py` |
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medr1.cli.failures import run_command
from medr1.cli.seeds.evaluation import SeedEvaluation, add_sampling_flags, read_questions, run, sampling

VARIANTS = {
    "think": ("med-r1/think", "med-r1/think"),
    "nothink": ("med-r1/nothink", "med-r1/nothink"),
    "nothink-qwen2": ("med-r1/nothink", "med-r1/zeroshot"),
    "zeroshot": ("med-r1/zeroshot", "med-r1/zeroshot"),
}
"""Prompt and protocol of each variant."""
MAX_NEW_TOKENS = 256


def parser() -> argparse.ArgumentParser:
    """The scripts' flags."""
    flags = argparse.ArgumentParser(prog="med_r1", description="Med-R1, evaluation", allow_abbrev=False)
    flags.add_argument("variant", choices=VARIANTS, nargs="?", default="think")
    flags.add_argument("--model_path", required=True, help="checkpoint folder, hub name or name of the zoo")
    flags.add_argument("--batch_size", type=int, default=64, help="prompts that are generated together")
    flags.add_argument("--output_path", type=Path, required=True, help="result JSON to write")
    flags.add_argument(
        "--prompt_path", type=Path, required=True, help="JSON with the questions; images relative to the working folder"
    )
    add_sampling_flags(flags)
    return flags


def job(arguments: Sequence[str] | None = None) -> SeedEvaluation:
    """The evaluation that a command line asks for."""
    from medr1.eval.stored import seed_result

    flags = parser().parse_args(arguments)
    prompt, protocol = VARIANTS[flags.variant]
    return SeedEvaluation(
        samples=read_questions(flags.prompt_path, Path()),
        model_path=flags.model_path,
        output_path=flags.output_path,
        prompt=prompt,
        protocol=protocol,
        params=sampling(flags, MAX_NEW_TOKENS),
        batch_size=flags.batch_size,
        result=partial(seed_result, protocol=protocol, tagged_gold=True),
    )


if __name__ == "__main__":
    run_command(lambda: run(job()))
