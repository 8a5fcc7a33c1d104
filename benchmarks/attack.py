"""Seconds and memory of an attack: a gradient step batched and one by one, FGSM and PGD a sample.

Tiny by default; `--shape qwen2-vl-2b` and `qwen2.5-vl-3b` make random weights of the true shapes, for a GPU
(`--device cuda --dtype bfloat16`). `python benchmarks/attack.py --help`; writes JSON with `--out`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from medr1.answers import parse_answer
from medr1.attack.craft import ATTACKS, craft
from medr1.attack.problem import Problem, Reading
from medr1.attack.threat import ThreatModel
from medr1.attack.victim import Victim
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.models.loading import load_model, load_processor
from medr1.models.pixels import grid_image
from medr1.models.tiny.build import TinyShape, save_random
from medr1.prompts import PROMPTS
from medr1.types import ParseStatus

TRUE_SHAPES: dict[str, dict[str, Any]] = {
    "qwen2-vl-2b": {
        "text": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
                 "intermediate_size": 8960},
        "vision": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
        "classes": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
    },
    "qwen2.5-vl-3b": {
        "text": {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
                 "intermediate_size": 11008},
        "vision": {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420,
                   "out_hidden_size": 2048, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
        "classes": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    },
}  # fmt: skip
VOCABULARY = 151936
"""Ids of the tiny tokenizer fall inside it, so that the cost of the head is the true one."""


def engine_of(options: argparse.Namespace, folder: Path) -> TransformersEngine:
    """A random model of the wanted shape with the tiny model's tokenizer and the wanted image size."""
    family = "qwen2_vl" if options.shape == "qwen2-vl-2b" else "qwen2_5_vl"
    save_random(replace(TinyShape(family=family), image_side=options.side), folder)
    processor = load_processor(folder)
    if options.shape == "tiny":
        model = load_model(folder, device=options.device, dtype=options.dtype)
    else:
        shape = TRUE_SHAPES[options.shape]
        config_class, model_class = shape["classes"]
        tiny = json.loads((folder / "config.json").read_text())
        ids = {key: value for key, value in tiny.items() if key.endswith("_token_id")}
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
        text = {**shape["text"], "vocab_size": VOCABULARY, "rope_parameters": rope, "max_position_embeddings": 32768}
        config = config_class(text_config=text, vision_config=shape["vision"], tie_word_embeddings=True, **ids)
        config._attn_implementation = "sdpa"
        torch.set_default_dtype(getattr(torch, options.dtype))
        with torch.device(options.device):
            model = model_class(config).eval()
        torch.set_default_dtype(torch.float32)
        model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return TransformersEngine(model, processor=processor, batch_size=options.batch)


def batch_of(options: argparse.Namespace, victim: Victim) -> Problem:
    """Enlarged phantoms, each with a made-up clean answer, so that random weights can be attacked."""
    samples = [phantom("train", index).sample for index in range(options.batch)]
    pictures = [Image.fromarray(phantom("train", i).image).resize((options.side,) * 2) for i in range(options.batch)]
    images = np.stack([grid_image(picture, victim.image_processor) for picture in pictures])
    prompts = victim.encode(samples, list(images))
    thinking = "<think>" + " finding" * options.thinking + "</think>"
    readings = [Reading(f"{thinking}<answer>{one.gold}</answer>", one.gold, ParseStatus.OK) for one in samples]
    return Problem(victim, samples, prompts, torch.tensor(images), readings, ThreatModel(k=8))


def seconds(run, device: str, repeats: int) -> float:
    """Median seconds after one round to warm up."""
    taken = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def step(problem: Problem, rows: torch.Tensor) -> None:
    """One forward and backward pass over some rows."""
    words = [problem.surrogate("joint", row, problem.readings[row]) for row in rows.tolist()]
    problem.score(rows, problem.nothing().delta_NHWC[rows], words, "ce")


def peak_bytes(device: str) -> int:
    """Peak memory: of the GPU, or resident in this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds a sample of a step in a batch and alone, of FGSM and of PGD, and the peak memory."""
    engine = engine_of(options, folder)
    params = SamplingParams(max_new_tokens=options.new_tokens)
    victim = Victim(engine, prompt=PROMPTS["bare"], params=params, read=partial(parse_answer, answer_format="think"))
    problem = batch_of(options, victim)
    everyone = torch.arange(options.batch)
    together = seconds(lambda: step(problem, everyone), options.device, options.repeats)
    alone = seconds(lambda: [step(problem, row[None]) for row in everyone], options.device, options.repeats)
    fgsm = seconds(lambda: craft(problem, ATTACKS["fgsm"], ("joint",), seed=0), options.device, options.repeats)
    pgd = seconds(lambda: craft(problem, ATTACKS["pgd"], ("joint",), seed=0), options.device, 1)
    return {
        "step_batched": together / options.batch,
        "step_alone": alone / options.batch,
        "batched_is_faster": alone / together,
        "fgsm": fgsm / options.batch,
        "pgd20": pgd / options.batch,
        "peak_bytes": peak_bytes(options.device),
        "craft_dtype": str(victim.dtype),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        **{key: value for key, value in vars(options).items() if isinstance(value, int | str)},
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["tiny", *TRUE_SHAPES], default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=84, help="side of the images; 392 for Med-R1's size")
    parser.add_argument("--thinking", type=int, default=4, help="words of the forced thinking")
    parser.add_argument("--new-tokens", type=int, default=12, help="limit of the free generations")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options, Path(scratch))
    for name in ("step_batched", "step_alone", "fgsm", "pgd20"):
        print(f"{name:14}{1000 * result[name]:10.1f} ms a sample")
    print(
        f"batched against one by one: {result['batched_is_faster']:.2f} x; peak {result['peak_bytes'] / 2**20:.0f} MiB"
    )
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
