"""One GRPO step: shared prompts against TRL's own path and against a step as the published systems run it.

Same process, same weights, same questions, interleaved; medians and ratios. Every completion has the full length, so
that the three do the same work. `python benchmarks/grpo.py --help`; writes JSON with `--out`.

Axes: P prompts, G completions per prompt, C completion tokens, L prompt tokens.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import log_softmax
from transformers import AutoModelForImageTextToText
from trl import GRPOConfig, GRPOTrainer

from medr1.data.phantom import phantom
from medr1.models.loading import load_model, load_processor
from medr1.models.tiny.build import TinyShape, save_random
from medr1.prompts import PROMPTS
from medr1.train.dataset import TrainingRows
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.types import ImageRef, Sample

SHAPE = TinyShape(
    hidden_size=256,
    num_layers=6,
    intermediate_size=1024,
    vision_depth=6,
    vision_width=160,
    vision_intermediate_size=640,
)
QUESTIONS = 64
NEVER_SAMPLED = "<|video_pad|>"
"""Stands in as the end token, so that every completion has the full length."""


def questions(count: int, side: int, words: int) -> list[Sample]:
    """Phantoms enlarged to `side` pixels, their question lengthened to the prompt length of the published systems."""
    from medr1.data.images import png_bytes

    samples = []
    for index in range(count):
        one = phantom("train", index)
        picture = Image.fromarray(one.image).resize((side, side))
        text = one.sample.question + " Think." * words
        samples.append(replace(one.sample, question=text, images=(ImageRef(data=png_bytes(picture)),)))
    return samples


def plain(folder: Path, options: argparse.Namespace) -> Any:
    """The model as transformers loads it."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=options.dtype).to(options.device)


def make_trainer(kind: str, folder: Path, options: argparse.Namespace) -> GRPOTrainer:
    """TRL's trainer or ours, on the same weights."""
    processor = load_processor(folder)
    model = (
        load_model(folder, dtype=options.dtype, device=options.device) if kind == "shared" else plain(folder, options)
    )
    return trainer_of(kind, model, processor, options)


def trainer_of(
    kind: str,
    model: Any,
    processor: Any,
    options: argparse.Namespace,
    *,
    micro_batches: int = 1,
) -> GRPOTrainer:
    """TRL's trainer or ours around a model, ready for its first step.

    Rewards are 0 and 1 in turn: no advantage is zero, so that ours leaves nothing out of an update.

    Args:
        micro_batches: parts in which a rollout is learned from.
    """
    never = processor.tokenizer.convert_tokens_to_ids(NEVER_SAMPLED)
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    model.generation_config.eos_token_id = never
    rows = TrainingRows(questions(QUESTIONS, options.side, options.words), PROMPTS["bare"], seed=0)
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options.prompts * options.generations // micro_batches,
        gradient_accumulation_steps=micro_batches,
        num_generations=options.generations,
        max_completion_length=options.tokens,
        top_p=options.top_p,
        max_steps=1000,
        learning_rate=1e-6,
        beta=0.0,
        loss_type="grpo",
        bf16=False,
        gradient_checkpointing=options.checkpointing,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=options.device == "cpu",
        # Ours never samples image tokens anyway.
        generation_kwargs={"suppress_tokens": [never, image], "eos_token_id": never} if kind == "trl" else None,
        seed=0,
    )
    trainer_class = {"trl": GRPOTrainer, "shared": SharedPrefixGRPOTrainer}[kind]
    count = iter(range(10**9))
    trainer = trainer_class(
        model=model,
        reward_funcs=lambda completions, **_: [float(next(count) % 2) for _ in completions],
        args=config,
        train_dataset=rows.dataset(),
        processing_class=processor,
    )
    trainer.eos_token_ids = [never]
    trainer.current_gradient_accumulation_steps = micro_batches
    trainer.create_optimizer_and_scheduler(1000)
    trainer.model.train()
    return trainer


class Step:
    """Rollout and update of one trainer, timed apart."""

    def __init__(self, trainer: GRPOTrainer, device: str) -> None:
        self.trainer, self.device = trainer, device
        self.batches = iter(trainer.get_train_dataloader())

    def __call__(self) -> dict[str, float]:
        """Seconds of the two halves of a step."""
        trainer = self.trainer
        rows = next(self.batches)
        times = [self.now()]
        inputs = trainer._generate_and_score_completions(rows)
        times.append(self.now())
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        times.append(self.now())
        assert inputs["completion_ids"].shape[1] == trainer.max_completion_length
        return {"rollout": times[1] - times[0], "update": times[2] - times[1], "step": times[2] - times[0]}

    def now(self) -> float:
        """The clock, after the device has caught up."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class PublishedStep:
    """A step as the published trainers describe it: one prompt at a time, G generations in a row, a second copy of the
    model as reference, full-vocabulary logits of every token, the image repeated G times."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.processor = load_processor(folder)
        # Random weights would sample image tokens, for which there are no pixels.
        self.unsampled = self.processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", NEVER_SAMPLED])
        self.model = plain(folder, options).train()
        self.reference = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)
        self.rows = TrainingRows(questions(QUESTIONS, options.side, options.words), PROMPTS["bare"], seed=0)
        self.next = 0

    def logps(self, model: Any, inputs: dict[str, torch.Tensor], completion_GC: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the completions, from the logits of every position."""
        group = len(completion_GC)
        ids = torch.cat([inputs["input_ids"].repeat(group, 1), completion_GC], 1)
        types = torch.cat([inputs["mm_token_type_ids"].repeat(group, 1), torch.zeros_like(completion_GC)], 1)
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=types,
            pixel_values=inputs["pixel_values"].repeat(group, 1),
            image_grid_thw=inputs["image_grid_thw"].repeat(group, 1),
            use_cache=False,
        ).logits[:, :-1]
        picked = [log_softmax(row, -1).gather(1, label[1:, None])[:, 0] for row, label in zip(logits, ids, strict=True)]
        return torch.stack(picked)[:, -completion_GC.shape[1] :]

    def __call__(self) -> dict[str, float]:
        """Seconds of the two halves of a step over P prompts."""
        spent = {"rollout": 0.0, "update": 0.0}
        for _ in range(self.options.prompts):
            row = self.rows.row(self.next % QUESTIONS)
            self.next += 1
            text = self.processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
            inputs = self.processor(text=[text], images=row["images"], return_tensors="pt").to(self.options.device)
            started = time.perf_counter()
            length = inputs["input_ids"].shape[1]
            with torch.no_grad():
                drawn = [
                    self.model.generate(
                        **inputs, max_new_tokens=self.options.tokens, min_new_tokens=self.options.tokens,
                        do_sample=True, temperature=1.0, top_k=50, pad_token_id=0, suppress_tokens=self.unsampled,
                    )[:, length:]
                    for _ in range(self.options.generations)
                ]  # fmt: skip
            completion_GC = torch.cat(drawn)
            spent["rollout"] += time.perf_counter() - started
            started = time.perf_counter()
            logps = self.logps(self.model, inputs, completion_GC)
            with torch.no_grad():
                reference = self.logps(self.reference, inputs, completion_GC)
            rewards = torch.arange(len(completion_GC), device=logps.device).float() % 2
            advantage = ((rewards - rewards.mean()) / (rewards.std() + 1e-4))[:, None]
            kl = torch.exp(reference - logps) - (reference - logps) - 1
            loss = -(torch.exp(logps - logps.detach()) * advantage - 0.04 * kl).mean()
            loss.backward()
            spent["update"] += time.perf_counter() - started
        started = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad()
        spent["update"] += time.perf_counter() - started
        return spent | {"step": spent["rollout"] + spent["update"]}


def flop_limit(prompt_tokens: int, options: argparse.Namespace) -> float:
    """How many times fewer tokens sharing sends through the text model in an update: G (L + C) over L + G C."""
    group, new = options.generations, options.tokens
    return group * (prompt_tokens + new) / (prompt_tokens + group * new)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Median seconds of every kind, and ratios to ours."""
    runs: dict[str, Callable[[], dict[str, float]]] = {}
    for kind in options.kinds:
        runs[kind] = PublishedStep(folder, options) if kind == "published" else Step(
            make_trainer(kind, folder, options), options.device
        )  # fmt: skip
    times: dict[str, list[dict[str, float]]] = {kind: [] for kind in runs}
    for repeat in range(options.repeats + 1):
        for kind, run in runs.items():
            # A step right behind one of another kind pays for the memory that the other has given back.
            taken = [run() for _ in range(1 + options.in_a_row)][1:]
            if repeat:  # the first round warms up
                times[kind] += taken
    medians = {
        kind: {part: statistics.median(t[part] for t in taken) for part in ("rollout", "update", "step")}
        for kind, taken in times.items()
    }
    ratios = {
        kind: {part: seconds / medians["shared"][part] for part, seconds in parts.items()}
        for kind, parts in medians.items()
        if kind != "shared" and "shared" in medians
    }
    return {"medians": medians, "ratios": ratios}


def peak_resident() -> int:
    """Peak resident bytes of this process; not `ru_maxrss`, which starts at the peak of the process that forked it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def peak_memory(kind: str, folder: Path, options: argparse.Namespace) -> int:
    """Peak resident bytes beyond the start of one step in a process of its own."""
    arguments = [*sys.argv[1:], "--kinds", kind, "--repeats", "1", "--checkpoint", str(folder), "--memory-of", kind]
    output = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return int(output.stdout.strip().splitlines()[-1])


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of every completion")
    parser.add_argument("--top-p", type=float, default=1.0, help="share of the probability that is drawn from")
    parser.add_argument("--side", type=int, default=392, help="side of the images in pixels")
    parser.add_argument("--words", type=int, default=24, help="words that lengthen the question")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that are counted, of every kind in turn")
    parser.add_argument("--in-a-row", type=int, default=1, help="steps of a kind in a round, after one not counted")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kinds", nargs="+", default=["shared", "trl", "published"])
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint folder in place of random weights")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too, each kind in its own process")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.checkpoint or Path(scratch)
        if options.checkpoint is None:
            save_random(replace(SHAPE, image_side=options.side), folder)
        if options.memory_of:
            before = peak_resident()
            measure(options, folder)
            print(peak_resident() - before)
            return
        result = measure(options, folder)
        sample = TrainingRows(questions(1, options.side, options.words), PROMPTS["bare"], seed=0).row(0)
        processor = load_processor(folder)
        text = processor.apply_chat_template(sample["prompt"], tokenize=False, add_generation_prompt=True)
        prompt_tokens = len(processor(text=[text], images=sample["images"])["input_ids"][0])
        result["settings"] = {
            "prompt_tokens": prompt_tokens,
            "flop_limit_update": flop_limit(prompt_tokens, options),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],
            **{key: value for key, value in vars(options).items() if isinstance(value, int | str | bool)},
        }
        report(result)
        if options.memory:
            result["peak_bytes"] = {kind: peak_memory(kind, folder, options) for kind in options.kinds}
    for kind, size in result.get("peak_bytes", {}).items():
        print(f"peak memory of {kind}: {size / 2**20:.0f} MiB")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def report(result: dict[str, Any]) -> None:
    """Print the table."""
    settings = result["settings"]
    print(f"prompt {settings['prompt_tokens']} tokens, FLOP limit of sharing {settings['flop_limit_update']:.2f} x")
    print(f"{'':12}{'rollout s':>12}{'update s':>12}{'step s':>12}{'rollout x':>12}{'update x':>12}{'step x':>12}")
    for kind, seconds in result["medians"].items():
        ratio = result["ratios"].get(kind, {})
        cells = "".join(f"{seconds[part]:12.3f}" for part in ("rollout", "update", "step"))
        cells += "".join(f"{ratio.get(part, 1.0):12.2f}" for part in ("rollout", "update", "step"))
        print(f"{kind:12}{cells}")


if __name__ == "__main__":
    main()
