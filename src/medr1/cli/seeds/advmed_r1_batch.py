"""AdvMed-R1's `batch_eval_adversarial.py`: every split of a kind, clean and attacked; a crash is a failure, not 0 %.

    python -m medr1.cli.seeds.advmed_r1_batch --model_path … --splits_dir Splits --dataset_root … --output_dir … \\
        --evaluation_type modality
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from rich.console import Console

from medr1.cli.failures import run_command
from medr1.cli.seeds.advmed_r1_adversarial import ATTACK_TYPES, AttackFlags, add_attack_flags, evaluate
from medr1.errors import DataError, EngineError, MedR1Error
from medr1.results import ABSENT, Record

EVALUATION_TYPES: dict[str, tuple[str, ...]] = {
    "modality": ("modality",),
    "question_type": ("question_type",),
    "all": ("modality", "question_type"),
}


def parser() -> argparse.ArgumentParser:
    """The script's flags."""
    flags = argparse.ArgumentParser(prog="advmed_r1_batch", description=__doc__, allow_abbrev=False)
    add_attack_flags(flags)
    flags.add_argument(
        "--splits_dir", type=Path, required=True, help="folder with modality/test and question_type/test"
    )
    flags.add_argument("--output_dir", type=Path, required=True, help="folder for the results and their summary")
    flags.add_argument("--evaluation_type", choices=EVALUATION_TYPES, default="modality", help="which splits")
    flags.add_argument("--attacks", nargs="+", choices=ATTACK_TYPES, default=list(ATTACK_TYPES), help="what to run")
    return flags


def splits(folder: Path, evaluation_type: str) -> list[tuple[str, Path]]:
    """Kind and file of every split. `DataError` where there is none."""
    found = [
        (kind, path)
        for kind in EVALUATION_TYPES[evaluation_type]
        for path in sorted((folder / kind / "test").glob("*.json"))
    ]
    if not found:
        raise DataError(f"{folder} has no {evaluation_type}/test/*.json; give the folder of Med-R1's Splits")
    return found


class Outcome(Record):
    """Of one split under one attack."""

    accuracy: float | None
    """In percent; None where it failed."""
    output_path: Annotated[str | None, ABSENT] = None
    error: Annotated[str | None, ABSENT] = None


class SplitOutcomes(Record):
    """Of one split."""

    name: str
    type: str
    path: str
    attacks: dict[str, Outcome]


class BatchSummary(Record):
    """`evaluation_summary.json`."""

    model_path: str
    evaluation_type: str
    attacks: list[str]
    epsilon: float
    results: list[SplitOutcomes]


def evaluate_all(options: argparse.Namespace) -> BatchSummary:
    """Every split under every attack; what fails has an error and no accuracy."""
    from medr1.records import write_json

    results = []
    for kind, path in splits(options.splits_dir, options.evaluation_type):
        outcomes: dict[str, Outcome] = {}
        for attack in options.attacks:
            output = options.output_dir / f"{path.stem}_{attack}_eps{options.epsilon}.json"
            flags = AttackFlags(
                model_path=options.model_path,
                test_data=path,
                dataset_root=options.dataset_root,
                output_path=output,
                attack_type=attack,
                epsilon=options.epsilon,
                pgd_alpha=options.pgd_alpha,
                pgd_iters=options.pgd_iters,
                batch_size=options.batch_size,
            )
            try:
                outcomes[attack] = Outcome(accuracy=evaluate(flags), output_path=str(output))
            except (MedR1Error, RuntimeError) as error:
                outcomes[attack] = Outcome(accuracy=None, error=f"{type(error).__name__}: {error}")
        results.append(SplitOutcomes(name=path.stem, type=kind, path=str(path), attacks=outcomes))
    summary = BatchSummary(
        model_path=options.model_path,
        evaluation_type=options.evaluation_type,
        attacks=options.attacks,
        epsilon=options.epsilon,
        results=results,
    )
    write_json(options.output_dir / "evaluation_summary.json", summary)
    return summary


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print the table. Raises `EngineError` at the end where something failed."""
    from medr1.report.tables import Table, rich_table

    summary = evaluate_all(parser().parse_args(arguments))
    rows = [(result.name, *(_cell(result.attacks[attack]) for attack in summary.attacks)) for result in summary.results]
    table = Table(title="Accuracy (%)", columns=("", *summary.attacks), rows=rows)
    Console().print(rich_table(table))
    failed = [row[0] for row in rows if "failed" in row]
    if failed:
        raise EngineError(f"{', '.join(failed)} could not be evaluated; evaluation_summary.json says why")


def _cell(outcome: Outcome) -> str:
    return "failed" if outcome.accuracy is None else f"{outcome.accuracy:.1f}"


if __name__ == "__main__":
    run_command(main)
