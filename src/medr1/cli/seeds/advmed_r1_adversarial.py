"""AdvMed-R1's `eval_qwen2_5vl_adversarial.py`: the same flags, and an attack that works.

    python -m medr1.cli.seeds.advmed_r1_adversarial --attack_type fgsm --epsilon 0.03 --model_path … --test_data … \\
        --dataset_root … --output_path …

The published script perturbs normalised patches towards the model's own first token, and cannot make an image of them.
Here the perturbation is an image of whole grey levels (epsilon 0.03 is k = 7), led away from the right letter.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from medr1.cli.failures import run_command
from medr1.cli.seeds.evaluation import SeedEvaluation, read_questions, run, start_engine
from medr1.eval.stored.seeds import CleanAnswer
from medr1.results import Record
from medr1.types import Sample

ATTACK_TYPES = ("clean", "fgsm", "pgd")
PROMPT, PROTOCOL, MAX_NEW_TOKENS = "med-r1/think", "advmed-r1", 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackFlags:
    """One evaluation as the script describes it."""

    model_path: str
    test_data: Path
    dataset_root: Path
    output_path: Path
    attack_type: str
    epsilon: float
    pgd_alpha: float
    pgd_iters: int
    batch_size: int


def add_attack_flags(flags: argparse.ArgumentParser) -> None:
    """The flags that one evaluation and the batch share."""
    flags.add_argument("--model_path", required=True, help="checkpoint folder, hub name or name of the zoo")
    flags.add_argument("--dataset_root", type=Path, default=Path(), help="folder of the images")
    flags.add_argument("--epsilon", type=float, default=0.03, help="budget from 0 to 1, rounded down to grey levels")
    flags.add_argument("--pgd_alpha", type=float, default=0.01, help="step of PGD from 0 to 1, at least a grey level")
    flags.add_argument("--pgd_iters", type=int, default=10, help="steps of PGD")
    flags.add_argument("--batch_size", type=int, default=8, help="samples that are attacked together")


def parser() -> argparse.ArgumentParser:
    """The script's flags."""
    flags = argparse.ArgumentParser(prog="advmed_r1_adversarial", description=__doc__, allow_abbrev=False)
    add_attack_flags(flags)
    flags.add_argument("--attack_type", choices=ATTACK_TYPES, default="fgsm", help="clean evaluates without an attack")
    flags.add_argument("--test_data", type=Path, required=True, help="JSON with the questions")
    flags.add_argument("--output_path", type=Path, required=True, help="result JSON to write")
    return flags


class AttackedResult(Record):
    """The result file of the script, and what it does not say: the budget in grey levels, and whether to believe it."""

    test_data_path: str
    attack_type: str
    epsilon: float
    k: int
    pgd_alpha: float
    pgd_iters: int
    trustworthy: bool
    accuracy: float
    num_samples: int
    num_correct: int
    detailed_results: list[CleanAnswer]


def evaluate(flags: AttackFlags) -> float:
    """Run one evaluation, write `output_path` and return the accuracy in percent.

    Raises `MedR1Error`, and whatever PyTorch raises: a crash has no accuracy.
    """
    from medr1.records import write_json

    samples = read_questions(flags.test_data, flags.dataset_root)
    if flags.attack_type == "clean":
        return run(_clean(flags, samples))
    written = _attacked(flags, samples)
    write_json(flags.output_path, written)
    return written.accuracy


def _clean(flags: AttackFlags, samples: Sequence[Sample]) -> SeedEvaluation:
    from functools import partial

    from medr1.engines.engine import SamplingParams
    from medr1.eval.stored.seeds import clean_result

    return SeedEvaluation(
        samples=samples,
        model_path=flags.model_path,
        output_path=flags.output_path,
        prompt=PROMPT,
        protocol=PROTOCOL,
        params=SamplingParams(max_new_tokens=MAX_NEW_TOKENS),
        batch_size=flags.batch_size,
        result=partial(clean_result, test_data=str(flags.test_data)),
    )


def _attacked(flags: AttackFlags, samples: Sequence[Sample]) -> AttackedResult:
    from medr1.attack.craft import named_attack
    from medr1.attack.run import run_attack
    from medr1.attack.stage import AttackJob
    from medr1.attack.threat import LEVELS, levels_of
    from medr1.errors import EngineError
    from medr1.eval.runner import read_predictions
    from medr1.eval.stored.seeds import clean_result
    from medr1.report.attack import attack_table
    from medr1.report.tables import rich_table
    from medr1.results.attacked import CrashedCell

    attack = named_attack(flags.attack_type)
    if flags.attack_type == "pgd":
        attack = replace(attack, steps=flags.pgd_iters, step_size=LEVELS * flags.pgd_alpha)
    run_folder = _clean(flags, samples).folder
    job = AttackJob(
        out=run_folder,
        attacks=(attack,),
        budgets=(levels_of(flags.epsilon),),
        prompt=PROMPT,
        protocol=PROTOCOL,
        max_new_tokens=MAX_NEW_TOKENS,
        batch_size=flags.batch_size,
        arguments={"model": flags.model_path, "pgd_alpha": flags.pgd_alpha, "pgd_iters": flags.pgd_iters},
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Attacking", total=None)
        result = run_attack(
            job,
            samples,
            start_engine(_clean(flags, samples)),  # type: ignore[arg-type]  # the transformers engine
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    (cell,) = result.cells.values()
    if isinstance(cell, CrashedCell):
        raise EngineError(f"the attack {flags.attack_type} crashed and has no accuracy: {cell.error}")
    Console().print(rich_table(attack_table(result, title=str(run_folder))))
    originals = [replace(p, variant="") for p in read_predictions(run_folder)]
    scored = clean_result(originals, samples, str(flags.test_data)).model_dump(exclude={"model_evaluation"})
    return AttackedResult(
        **scored,
        attack_type=flags.attack_type,
        epsilon=flags.epsilon,
        k=cell.k,
        pgd_alpha=flags.pgd_alpha,
        pgd_iters=flags.pgd_iters,
        trustworthy=cell.trustworthy,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run."""
    evaluate(AttackFlags(**vars(parser().parse_args(arguments))))


if __name__ == "__main__":
    run_command(main)
