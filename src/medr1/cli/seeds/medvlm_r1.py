"""MedVLM-R1's `test_qwen2vl_med.py`: the same flags, all of them effective, and `--top_p`.

There, `--max_new_tokens`, `--do_sample` and `--temperature` were ignored, and four of the seven modalities had no
questions, since a modality was a place in the file. Here a modality is that of each question.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medr1.cli.failures import run_command
from medr1.cli.seeds.evaluation import (
    SeedEvaluation,
    add_sampling_flags,
    only,
    read_questions,
    run,
    sampling,
)

MODALITIES = {
    "CT": "CT",
    "Ultrasound": "Ultrasound",
    "MRI": "MRI",
    "Xray": "X-Ray",
    "Dermoscopy": "Dermoscopy",
    "Microscopy": "Microscopy",
    "Fundus": "Fundus",
}
"""The script's names of the modalities, and ours."""


def parser() -> argparse.ArgumentParser:
    """The script's flags."""
    flags = argparse.ArgumentParser(prog="medvlm_r1", description=__doc__, allow_abbrev=False)
    flags.add_argument("--modality", choices=MODALITIES, help="questions of this modality only; default: all")
    flags.add_argument("--prompt_type", choices=("simple", "complex"), default="complex")
    flags.add_argument("--model_path", required=True, help="checkpoint folder, hub name or name of the zoo")
    flags.add_argument("--bsz", type=int, default=1, help="prompts that are generated together")
    flags.add_argument("--output_path", type=Path, required=True, help="result JSON to write")
    flags.add_argument("--prompt_path", type=Path, required=True, help="JSON with the questions")
    flags.add_argument("--base_path", type=Path, help="folder of the images; default: that of the questions")
    flags.add_argument("--max_new_tokens", type=int, default=512)
    add_sampling_flags(flags)
    return flags


def job(arguments: Sequence[str] | None = None) -> SeedEvaluation:
    """The evaluation that a command line asks for."""
    from medr1.eval.stored import seed_result
    from medr1.prompts import PROMPTS

    flags = parser().parse_args(arguments)
    samples = read_questions(flags.prompt_path, flags.base_path)
    prompt = PROMPTS[f"medvlm-r1/{flags.prompt_type}"]
    return SeedEvaluation(
        samples=samples if flags.modality is None else only(samples, MODALITIES[flags.modality]),
        model_path=flags.model_path,
        output_path=flags.output_path,
        prompt=prompt.name,
        protocol=prompt.protocol,
        params=sampling(flags, flags.max_new_tokens),
        batch_size=flags.bsz,
        result=partial(seed_result, protocol=prompt.protocol, tagged_gold=False),
    )


if __name__ == "__main__":
    run_command(lambda: run(job()))
