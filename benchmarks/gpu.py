"""GRPO at the true shapes of Qwen2-VL-2B and Qwen2.5-VL-3B on one GPU: how fast, and what limits it.

Random weights from the configuration, nothing to download: `python benchmarks/gpu.py --part step --out gpu.json` stays
within `--minutes`, and so does every other part, or all of them. A dry run of the same code on a CPU: `--device cpu
--dtype float32 --layers 2 --vision-layers 2 --side 112 --tokens 8 --prompts 2 --micro-prompts 1`.

Axes: P prompts, G completions per prompt, C completion tokens, L prompt tokens, N = P x G.
"""

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from device import Clock, Memory, copy_bandwidth, device_seconds, limit, matmul_rate
from grpo import QUESTIONS, Step, trainer_of
from shapes import SHAPES, Shape, decode_bytes, random_model, update_flops

from medr1.engines.engine import SamplingParams
from medr1.engines.sampler import sample
from medr1.engines.transformers import image_token_ids
from medr1.models.shared.layers import lighten, multiply_patches
from medr1.models.shared.pack import PromptTensors, encode_prompts
from medr1.models.tiny.build import TinyShape, build_processor
from medr1.models.tiny.tokenizer import train_tokenizer

RUN_PROMPTS = 600 * 2
"""Prompts of MedVLM-R1's run, over its two epochs."""
LEAST_STEPS = 4
"""Steps that a part measures."""
PROFILED_TOKENS = 9
"""New tokens of the rollout that is looked at closely."""


class MicroBatchedStep(Step):
    """A step whose rollout is learned from in several micro-batches, as `trainer.train()` does it."""

    def __init__(self, trainer: Any, device: str) -> None:
        super().__init__(trainer, device)
        # The questions again and again: one round of them is a few steps.
        self.batches = itertools.chain.from_iterable(trainer.get_train_dataloader() for _ in itertools.count())

    def rollout(self) -> dict[str, Any]:
        """Draw and score the completions of the step; the first micro-batch of them."""
        inputs = self.trainer._prepare_inputs(next(self.batches))
        assert inputs["completion_ids"].shape[1] == self.trainer.max_completion_length
        return inputs

    def update(self, inputs: dict[str, Any]) -> None:
        """Learn from them."""
        trainer: Any = self.trainer
        for micro_batch in range(trainer.args.gradient_accumulation_steps):
            if micro_batch:
                inputs = trainer._prepare_inputs(next(self.batches))
            trainer._compute_loss(trainer.model, inputs).backward()
            trainer._step += 1
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    def __call__(self) -> dict[str, float]:
        """Seconds of the two halves of a step."""
        started = self.now()
        inputs = self.rollout()
        drawn = self.now()
        self.update(inputs)
        ended = self.now()
        return {"rollout": drawn - started, "update": ended - drawn, "step": ended - started}


def step_of(kind: str, shape: Shape, options: argparse.Namespace, micro_prompts: int) -> MicroBatchedStep:
    """A step of TRL's trainer or of ours; both start from the same weights."""
    tokenizer = train_tokenizer()
    model = random_model(shape, tokenizer, device=options.device, dtype=options.dtype)
    if kind == "shared":
        multiply_patches(model)  # both as `load_model` does
        lighten(model)
    processor = build_processor(TinyShape(family=shape.family, image_side=options.side), tokenizer)
    parts = options.prompts // micro_prompts
    trainer = trainer_of(kind, model, processor, options, micro_batches=parts)
    return MicroBatchedStep(trainer, options.device)


def fitting_step(
    kind: str, shape: Shape, options: argparse.Namespace
) -> tuple[MicroBatchedStep, Memory, dict[str, float]]:
    """A step, in micro-batches that fit into the memory, with what its first run took.

    Raises:
        torch.OutOfMemoryError: not even one prompt at a time fits.
    """
    for micro_prompts in range(options.micro_prompts, 0, -1):
        if options.prompts % micro_prompts:
            continue
        memory = Memory(options.device)
        try:
            step = step_of(kind, shape, options, micro_prompts)
            return step, memory, step()
        except torch.OutOfMemoryError:
            if micro_prompts == 1:
                raise
    raise AssertionError("one prompt divides any number of them")


def repeated(step: Callable[[], dict[str, float]], count: int, end: float) -> list[dict[str, float]]:
    """At most `count` steps, at least one, none of them likely to last beyond `end`."""
    taken = [step()]
    while len(taken) < count and time.perf_counter() + taken[-1]["step"] < end:
        taken.append(step())
    return taken


def rollout_parts(step: MicroBatchedStep, shape: Shape, options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Seconds of the parts of a rollout of ours, and the work of a step in FLOPs and bytes."""
    trainer: Any = step.trainer
    rows = next(step.batches)[:: options.generations]
    texts = [trainer._chat_text(row["prompt"]) for row in rows]

    def encode() -> list[PromptTensors]:
        encoded = encode_prompts(trainer.processing_class, trainer.model, texts, [row["images"] for row in rows])
        return [prompt.to(options.device) for prompt in encoded]

    prompts = encode()
    keys = [[f"{prompt}/{draw}" for draw in range(options.generations)] for prompt in range(len(rows))]
    tokenizer = trainer.processing_class.tokenizer

    def draw(tokens: int) -> None:
        trainer.model.eval()
        params = SamplingParams(max_new_tokens=tokens, temperature=1.0, top_p=1.0, top_k=0, seed=0)
        special = dict(eos_token_ids=trainer.eos_token_ids, pad_token_id=tokenizer.pad_token_id)
        sample(trainer.model, prompts, keys, params, **special, forbidden_token_ids=image_token_ids(tokenizer))
        trainer.model.train()

    # One new token is the prefill: it comes from the prefill's logits.
    prefill, whole = clock.seconds(lambda: draw(1), rounds=3), clock.seconds(lambda: draw(options.tokens))
    few = min(options.tokens, PROFILED_TOKENS)
    decode_kernels = device_seconds(lambda: draw(few), options.device)
    for name, seconds in device_seconds(lambda: draw(1), options.device).items():
        decode_kernels[name] = max(0.0, decode_kernels.get(name, 0.0) - seconds)
    lengths = [len(prompt.input_ids_L) for prompt in prompts]
    draws, new = options.generations, options.tokens
    itemsize = trainer.model.dtype.itemsize
    return {
        "prompt_tokens": statistics.mean(lengths),
        "encode": clock.seconds(encode, rounds=3),
        "prefill": prefill,
        "decode": whole - prefill,
        "decode_step": (whole - prefill) / (new - 1),
        "decode_step_bytes": decode_bytes(shape, sum(lengths), len(lengths) * draws, new, itemsize),
        "update_flops": update_flops(shape, prompts, draws, new),
        "decode_kernels": {name: seconds / (few - 1) for name, seconds in decode_kernels.items()},
    }


def measure_ours(shape: Shape, options: argparse.Namespace, clock: Clock, machine: dict[str, Any]) -> dict[str, Any]:
    """The figures of our trainer that the part is about."""
    part = options.part
    end = clock.share(2 if part in ("all", "step") and options.trl_steps else 1.2)
    step, memory, _ = fitting_step("shared", shape, options)
    trainer: Any = step.trainer
    run_steps = math.ceil(RUN_PROMPTS / options.prompts)
    found: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "micro_prompts": micro_prompts(step),
        "limits": {},
        "kernels": {},
    }
    taken = repeated(step, LEAST_STEPS if part != "all" else math.ceil(options.share * run_steps), end)
    medians, spent = median_parts(taken), sum(one["step"] for one in taken)
    completions = options.prompts * options.generations
    found |= {**medians, "peak_bytes": memory.peak(), "steps": taken}
    found["tokens_per_second"] = completions * options.tokens / medians["rollout"]
    if part == "step":
        return found
    parts = rollout_parts(step, shape, options, clock)
    decode_kernels = parts.pop("decode_kernels")
    found |= parts
    if part in ("all", "decode"):
        found["decode_tokens_per_second"] = completions / parts["decode_step"]
        found["decode_share"] = parts["decode_step_bytes"] / machine["copy_bandwidth"] / parts["decode_step"]
        found["limits"]["decode"] = limit(decode_kernels, parts["decode_step"])
        found["kernels"]["decode"] = first(decode_kernels)
    if part in ("all", "update"):
        inputs = step.rollout()
        update_kernels = device_seconds(lambda: step.update(inputs), options.device)
        found["update_mfu"] = parts["update_flops"] / machine["matmul_rate"] / medians["update"]
        found["limits"]["update"] = limit(update_kernels, medians["update"])
        found["kernels"]["update"] = first(update_kernels)
    if part == "all":
        found |= {"run_steps": run_steps, "run_share": len(taken) / run_steps}
        found["run_minutes"] = (spent + max(0, run_steps - len(taken)) * medians["step"]) / 60
    return found


def measure_trl(shape: Shape, options: argparse.Namespace, clock: Clock, ours: dict[str, Any]) -> dict[str, Any]:
    """TRL's figures beside ours, or why there are none."""
    end = clock.share(1)
    if time.perf_counter() >= end:
        return {"trl_missing": "no time left"}
    try:
        step, memory, warm = fitting_step("trl", shape, options)
        enough = time.perf_counter() + warm["step"] < end
        taken = repeated(step, options.trl_steps, end) if enough else [warm]
    except torch.OutOfMemoryError:
        return {"trl_missing": "not even one prompt at a time fits into the memory"}
    medians = median_parts(taken)
    ratios = {f"{part}_ratio": seconds / ours[part] for part, seconds in medians.items()}
    trl = {**medians, "peak_bytes": memory.peak(), "micro_prompts": micro_prompts(step), "warm": enough, "steps": taken}
    return {"trl": trl, **ratios}


def micro_prompts(step: MicroBatchedStep) -> int:
    """Prompts that it learns from at once."""
    trainer: Any = step.trainer
    return trainer.args.per_device_train_batch_size // trainer.num_generations


def median_parts(taken: list[dict[str, float]]) -> dict[str, float]:
    """Median seconds of rollout, update and step."""
    return {part: statistics.median(one[part] for one in taken) for part in ("rollout", "update", "step")}


def first(kernels: dict[str, float], count: int = 10) -> dict[str, float]:
    """The longest ones."""
    return dict(sorted(kernels.items(), key=lambda item: -item[1])[:count])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of the device and of every model."""
    clock = Clock(options.device, options.minutes)
    machine: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if clock.cuda else "cpu",
        "matmul_rate": matmul_rate(clock, options.device, options.dtype),
        "copy_bandwidth": copy_bandwidth(clock, options.device),
        "torch": torch.__version__,
    }
    models: dict[str, Any] = {}
    whole = clock.end
    for done, name in enumerate(options.models):
        shape = SHAPES[name].cut(options.layers, options.vision_layers)
        clock.end = whole
        clock.end = clock.share(len(options.models) - done)
        ours = measure_ours(shape, options, clock, machine)
        models[name] = {"shape": asdict(shape), **ours}
        if options.trl_steps and options.part in ("all", "step"):
            models[name] |= measure_trl(shape, options, clock, ours)
    settings = {key: value for key, value in vars(options).items() if isinstance(value, int | float | str | bool)}
    return {"machine": machine, "settings": settings, "models": models}


ROWS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("parameters, billions", "", lambda m: f"{m['parameters'] / 1e9:.2f}"),
    ("prompt tokens", "", lambda m: f"{m['prompt_tokens']:.0f}"),
    ("rollout, s", "", lambda m: f"{m['rollout']:.3f}"),
    ("  images and text into tensors, s", "", lambda m: f"{m['encode']:.3f}"),
    ("  prefill, s", "", lambda m: f"{m['prefill']:.3f}"),
    ("  decode, s", "", lambda m: f"{m['decode']:.3f}"),
    ("rollout, tokens/s", "", lambda m: f"{m['tokens_per_second']:.0f}"),
    ("decode, tokens/s", "", lambda m: f"{m['decode_tokens_per_second']:.0f}"),
    ("decode, share of the bandwidth bound", ">= 40 %", lambda m: f"{m['decode_share']:.1%}"),
    ("update, s", "", lambda m: f"{m['update']:.3f}"),
    ("update, MFU", ">= 40 %", lambda m: f"{m['update_mfu']:.1%}"),
    ("step, s", "", lambda m: f"{m['step']:.3f}"),
    ("peak memory, GiB", "", lambda m: f"{m['peak_bytes'] / 2**30:.2f}"),
    ("prompts of a micro-batch", "", lambda m: f"{m['micro_prompts']}"),
    ("rollout, times TRL's speed", ">= 8", lambda m: f"{m['rollout_ratio']:.2f}"),
    ("update, times TRL's speed", "", lambda m: f"{m['update_ratio']:.2f}"),
    ("step, times TRL's speed", ">= 5", lambda m: f"{m['step_ratio']:.2f}"),
    ("TRL's peak memory, GiB", "", lambda m: f"{m['trl']['peak_bytes'] / 2**30:.2f}"),
    ("TRL's prompts of a micro-batch", "", lambda m: f"{m['trl']['micro_prompts']}"),
    ("MedVLM-R1-size run, minutes", "<= 10", lambda m: f"{m['run_minutes']:.1f}"),
    ("  share of its steps measured", ">= 10 %", lambda m: f"{m['run_share']:.1%}"),
]
"""Name, what is aimed at, and the text of a figure; `-` where it was not measured."""


def report(result: dict[str, Any], *, kernels: bool) -> None:
    """Print the table, what limits each half of a step and, where asked for, the longest kernels."""
    machine, models = result["machine"], result["models"]
    rate, bandwidth = machine["matmul_rate"] / 1e12, machine["copy_bandwidth"] / 1e9
    print(f"{machine['device']}: {rate:.2f} TFLOP/s, {bandwidth:.1f} GB/s")
    print(f"{'':40}{'bar':>10}" + "".join(f"{name:>16}" for name in models))
    for label, bar, text in ROWS:
        print(f"{label:40}{bar:>10}" + "".join(f"{cell(text, model):>16}" for model in models.values()))
    for name, model in models.items():
        for part, words in model["limits"].items():
            print(f"{name}: {part} limited by {words}")
        if "trl_missing" in model:
            print(f"{name}: TRL was not measured: {model['trl_missing']}")
        elif not model.get("trl", {}).get("warm", True):
            print(f"{name}: TRL's only step was its first one: no time left for another")
        if kernels:
            for part, taken in model["kernels"].items():
                print(f"{name}: longest in a{' token' if part == 'decode' else 'n'} {part} step")
                for kernel, seconds in taken.items():
                    print(f"{1000 * seconds:12.3f} ms  {kernel[:100]}")


def cell(text: Callable[[dict[str, Any]], str], model: dict[str, Any]) -> str:
    """A figure, or a dash."""
    try:
        return text(model)
    except KeyError:
        return "-"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument(
        "--part",
        choices=["all", "decode", "update", "step"],
        default="all",
        help="of four minutes each: decoding, the update, steps beside TRL's; a whole run is `gpu_run.py`",
    )
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a step")
    parser.add_argument(
        "--micro-prompts", type=int, default=2, help="learned from at once; fewer where memory is short"
    )
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=200, help="new tokens of every completion")
    parser.add_argument("--top-p", type=float, default=1.0, help="share of the probability that is drawn from")
    parser.add_argument("--side", type=int, default=392, help="side of the images in pixels")
    parser.add_argument("--words", type=int, default=12, help="words that lengthen the question")
    parser.add_argument("--share", type=float, default=0.1, help="of the steps of a MedVLM-R1-size run to measure")
    parser.add_argument("--trl-steps", type=int, default=1, help="steps of TRL's own trainer, after one to warm up")
    parser.add_argument("--minutes", type=float, default=8, help="no step is begun that would not end within them")
    parser.add_argument("--layers", type=int, help="text layers, for a dry run")
    parser.add_argument("--vision-layers", type=int, help="layers of the vision tower, for a dry run")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--profile", action="store_true", help="print the longest kernels too")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.device == "cuda" and torch.cuda.device_count() != 1:
        parser.error(
            f"{torch.cuda.device_count()} GPUs are visible, this is for one: set CUDA_VISIBLE_DEVICES, or --device cpu"
        )
    if options.prompts > QUESTIONS or options.prompts % options.micro_prompts:
        parser.error(f"--prompts is at most {QUESTIONS} and a multiple of --micro-prompts")
    if options.tokens < 2:
        parser.error("--tokens is at least 2: the first comes from the prefill")
    result = measure(options)
    report(result, kernels=options.profile)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
