"""What the three command lines share: evaluate a checkpoint on questions, and write both kinds of results."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from medr1.errors import ConfigError, DataError
from medr1.types import Prediction, Sample

if TYPE_CHECKING:
    from medr1.engines.engine import Engine, SamplingParams
    from medr1.eval.stored.seeds import CleanResult, SeedResult


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedEvaluation:
    """One evaluation as a seed's script describes it."""

    samples: Sequence[Sample]
    model_path: str
    output_path: Path
    prompt: str
    protocol: str
    params: "SamplingParams"
    batch_size: int
    result: Callable[[Sequence[Prediction], Sequence[Sample]], "SeedResult | CleanResult"]
    """The system's own result file of the predictions."""
    attn_implementation: str = "sdpa"

    @property
    def folder(self) -> Path:
        """Where our own files go."""
        return self.output_path.with_name(f"{self.output_path.stem}_run")


def read_questions(path: Path, image_root: Path | None) -> list[Sample]:
    """The questions of a test file with the paths of their images, by default relative to the file's folder."""
    from medr1.data import find_source

    source = find_source(path)
    return list(source.read(path, image_root or source.image_root(path)))


def start_engine(job: SeedEvaluation) -> "Engine":
    """The checkpoint, ready to generate, on the GPU where there is one."""
    from medr1.engines.transformers import TransformersEngine

    return TransformersEngine(job.model_path, batch_size=job.batch_size, attn_implementation=job.attn_implementation)


def run(job: SeedEvaluation) -> float:
    """Evaluate, or go on after a kill; print our table and the seed's accuracy, and return that, in percent."""
    from medr1.eval.runner import Asking, evaluate, read_predictions
    from medr1.records import write_json
    from medr1.report.tables import overview, rich_table

    engine = start_engine(job)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Evaluating", total=None)
        results = evaluate(
            job.samples,
            engine,
            Asking(
                params=job.params,
                batch_size=job.batch_size,
                seed=job.params.seed,
                prompt=job.prompt,
                protocol=job.protocol,
                arguments={"model": job.model_path},
            ),
            out=job.folder,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    written = job.result(read_predictions(job.folder), job.samples)
    write_json(job.output_path, written)
    Console().print(rich_table(overview(results, title=str(job.folder))))
    print(f"Accuracy: {written.accuracy:.2f}%  ({job.output_path}; intervals and blind scores in {job.folder})")
    return written.accuracy


def only(samples: Sequence[Sample], modality: str) -> list[Sample]:
    """The questions of one modality. `DataError` where there is none."""
    chosen = [sample for sample in samples if sample.modality == modality]
    if not chosen:
        there = ", ".join(sorted({sample.modality for sample in samples}))
        raise DataError(f"the test file has no question of the modality {modality} (it has {there}); name another file")
    return chosen


def truth(text: str) -> bool:
    """The value of a flag such as `--do_sample false`."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def add_sampling_flags(flags: ArgumentParser) -> None:
    """`--do_sample`, `--temperature` and `--top_p`, as the scripts' model takes them."""
    flags.add_argument("--do_sample", type=truth, nargs="?", const=True, default=False, help="draw; default: greedy")
    flags.add_argument("--temperature", type=float, default=1.0, help="with --do_sample")
    flags.add_argument("--top_p", type=float, default=1.0, help="with --do_sample")


def sampling(flags: Namespace, max_new_tokens: int) -> "SamplingParams":
    """The sampling that those flags ask for. `ConfigError` for values that no sampling has."""
    from medr1.engines.engine import SamplingParams

    if not flags.do_sample:
        unheeded = [
            f"--{name} {getattr(flags, name):g}" for name in ("temperature", "top_p") if getattr(flags, name) != 1
        ]
        if unheeded:
            print(f"medr1: {' and '.join(unheeded)} without --do_sample: decoding is greedy", file=sys.stderr)
        return SamplingParams(max_new_tokens=max_new_tokens)
    if flags.temperature <= 0 or not 0 < flags.top_p <= 1:
        raise ConfigError("--do_sample needs a --temperature above 0 and a --top_p above 0 and at most 1; change them")
    return SamplingParams(max_new_tokens=max_new_tokens, temperature=flags.temperature, top_p=flags.top_p)
