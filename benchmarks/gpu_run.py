"""A whole GRPO run of MedVLM-R1's size on one GPU, from the start of the process: nothing is extrapolated.

600 questions twice, 8 completions each, 16 questions a step, so 75 steps: random weights in the true shape of
Qwen2-VL-2B, learned through float32 masters. A model with random weights does not end by itself, so completions end at
lengths that were drawn beforehand, evenly from `--shortest` to `--longest`. `python benchmarks/gpu_run.py --out
run.json` needs no downloads; a dry run on a CPU: `--device cpu --dtype float32 --layers 2 --vision-layers 2 --side 56
--questions 4 --epochs 1 --prompts 2 --micro-prompts 1 --generations 2 --shortest 2 --longest 6`.

Axes: N completions of a rollout.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from grpo import NEVER_SAMPLED, questions
from shapes import SHAPES, random_model
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig

from medr1.engines import sampler
from medr1.engines.graphs import GraphDecoder
from medr1.engines.plain import Sampling
from medr1.models.shared.layers import lighten, multiply_patches
from medr1.models.tiny.build import TinyShape, build_processor
from medr1.models.tiny.tokenizer import train_tokenizer
from medr1.prompts import PROMPTS
from medr1.train.dataset import TrainingRows
from medr1.train.grpo import SharedPrefixGRPOTrainer

PICTURES = 64
"""Different pictures among the questions: drawing phantoms is no part of a run."""


def since_start() -> float:
    """Seconds since the process began."""
    return time.time() - psutil.Process().create_time()


class Replayed:
    """Lengths of the completions of every rollout, at which they end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.bounds = options.shortest, options.longest + 1
        self.generator = torch.Generator().manual_seed(options.seed)
        self.length_N: Tensor | None = None
        self.tokens = 0
        sampler.CAPTURED = {"cuda", "cpu"}
        begin, replay = GraphDecoder.decode, GraphDecoder.replay

        def decode(decoder: GraphDecoder, sampling: Sampling, limit: int) -> None:
            count = int(decoder.draws.going_on.sum())
            lengths = torch.randint(*self.bounds, (count,), generator=self.generator)
            self.tokens += int(lengths.sum())
            self.length_N = lengths.to(decoder.slots.device)
            begin(decoder, sampling, limit)

        def step(decoder: GraphDecoder, rows: int, sampling: Sampling) -> None:
            replay(decoder, rows, sampling)
            draws = decoder.draws
            assert self.length_N is not None
            draws.ended[: len(self.length_N)] |= (self.length_N <= draws.step + 1).to(torch.int8)

        GraphDecoder.decode, GraphDecoder.replay = decode, step  # type: ignore[method-assign]


class Clock(TrainerCallback):
    """When every step ended; printed as it happens."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See the class."""
        self.ends.append(since_start())
        print(f"step {state.global_step} of {state.max_steps}: {self.ends[-1]:.1f} s", flush=True)


def trainer_of(options: argparse.Namespace, folder: str) -> SharedPrefixGRPOTrainer:
    """The product's trainer around the model of true shape."""
    tokenizer = train_tokenizer()
    shape = SHAPES[options.model].cut(options.layers, options.vision_layers)
    model = random_model(shape, tokenizer, device=options.device, dtype=options.dtype)
    multiply_patches(model)  # both as `load_model` does
    lighten(model)
    processor = build_processor(TinyShape(family=shape.family, image_side=options.side), tokenizer)
    never = tokenizer.convert_tokens_to_ids(NEVER_SAMPLED)
    model.generation_config.eos_token_id = never
    parts = options.prompts // options.micro_prompts
    config = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=options.micro_prompts * options.generations,
        gradient_accumulation_steps=parts,
        num_generations=options.generations,
        max_completion_length=options.longest,
        num_train_epochs=options.epochs,
        learning_rate=1e-6,
        beta=options.beta,
        loss_type="grpo",
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=options.device == "cpu",
        seed=options.seed,
    )
    # Rewards of two levels in turn: no advantage is zero, so that nothing is left out of an update.
    few = questions(min(options.questions, PICTURES), options.side, options.words)
    samples = [replace(few[n % len(few)], id=f"{n}") for n in range(options.questions)]
    rows = TrainingRows(samples, PROMPTS["bare"], seed=0)
    trainer = SharedPrefixGRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [float(number % 2) for number in range(len(completions))],
        args=config,
        train_dataset=rows.dataset(),
        processing_class=processor,
    )
    trainer.eos_token_ids = [never]
    return trainer


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="qwen2-vl-2b")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=16, help="questions of a step")
    parser.add_argument("--micro-prompts", type=int, default=4, help="learned from at once")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--shortest", type=int, default=100)
    parser.add_argument("--longest", type=int, default=300)
    parser.add_argument("--side", type=int, default=392, help="side of the images in pixels")
    parser.add_argument("--words", type=int, default=12, help="words that lengthen the question")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the distance to a reference model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, help="text layers, for a dry run")
    parser.add_argument("--vision-layers", type=int, help="layers of the vision tower, for a dry run")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.device == "cuda" and torch.cuda.device_count() != 1:
        parser.error(f"{torch.cuda.device_count()} GPUs are visible, this is for one: set CUDA_VISIBLE_DEVICES")
    if options.prompts % options.micro_prompts or not 1 <= options.shortest <= options.longest:
        parser.error("--prompts is a multiple of --micro-prompts, and 1 <= --shortest <= --longest")
    replayed, clock = Replayed(options), Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(options, folder)
        trainer.add_callback(clock)
        ready = since_start()
        print(f"ready: {ready:.1f} s", flush=True)
        trainer.train()
        trained = since_start()
        trainer.save_model(folder)
        saved = since_start()
    steps = [after - before for before, after in zip([ready, *clock.ends], clock.ends, strict=False)]
    result = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "ready": ready,
        "trained": trained,
        "saved": saved,
        "steps": steps,
        "completion_tokens": replayed.tokens,
        "peak_bytes": torch.cuda.max_memory_allocated() if options.device == "cuda" else None,
        "settings": {key: value for key, value in vars(options).items() if not isinstance(value, Path)},
    }
    print(
        f"{len(steps)} steps, {replayed.tokens:,} completion tokens: {saved:.0f} s from the start of the process "
        f"({ready:.0f} s to the first step, {statistics.median(steps):.2f} s a step, {saved - trained:.0f} s to save)"
    )
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
