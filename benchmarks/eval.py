"""Evaluation: `medr1.eval` on the engine of transformers against a loop as the published systems run it.

Same process, same weights, same questions, interleaved; medians and ratios. The published loop (MedVLM-R1 with batch 1,
Med-R1 with 64) opens and processes the images of a batch, pads, calls `generate` and decodes. Beside it our engine
alone, and the whole evaluation with scores and files. The answers must be equal to the last token.

`python benchmarks/eval.py --help`; writes JSON with `--out`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.transformers import TransformersEngine, image_token_ids
from medr1.eval.runner import Asking, evaluate, read_predictions
from medr1.models.loading import load_model, load_processor
from medr1.models.tiny import WARM_START
from medr1.models.zoo import locate
from medr1.prompts import PROMPTS, messages, render
from medr1.types import Sample

Completions = dict[str, str]
"""By sample id."""


class PublishedLoop:
    """The evaluation loop of the published systems."""

    def __init__(self, model: Any, processor: Any, prompt: str, batch_size: int, tokens: int) -> None:
        self.model, self.processor = model, processor
        self.prompt, self.batch_size, self.tokens = PROMPTS[prompt], batch_size, tokens

    def __call__(self, samples: list[Sample]) -> Completions:
        """Answer every sample, a batch at a time."""
        completions: Completions = {}
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            completions |= zip((sample.id for sample in batch), self.answers(batch), strict=True)
        return completions

    @torch.no_grad()
    def answers(self, batch: list[Sample]) -> list[str]:
        """Process the batch's images and texts, generate, decode."""
        texts = [
            self.processor.apply_chat_template(
                messages(self.prompt, sample), tokenize=False, add_generation_prompt=True
            )
            for sample in batch
        ]
        images = [open_image(ref) for sample in batch for ref in sample.images]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        output = self.model.generate(
            **inputs.to(self.model.device),
            max_new_tokens=self.tokens,
            do_sample=False,
            use_cache=True,
            suppress_tokens=image_token_ids(self.processor.tokenizer),  # as ours; these models never draw one
        )
        new_ids = output[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(new_ids, skip_special_tokens=True)


class Engine:
    """Our engine alone: the same work as the published loop."""

    def __init__(self, model: Any, processor: Any, prompt: str, batch_size: int, tokens: int) -> None:
        self.engine = TransformersEngine(model, processor=processor, batch_size=batch_size)
        self.prompt, self.batch_size, self.tokens = prompt, batch_size, tokens

    def __call__(self, samples: list[Sample]) -> Completions:
        """Answer every sample, a batch at a time."""
        completions: Completions = {}
        params = SamplingParams(max_new_tokens=self.tokens)
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            requests = [
                Request(
                    key=sample.id,
                    text=render(PROMPTS[self.prompt], sample),
                    images=tuple(open_image(ref) for ref in sample.images),
                )
                for sample in batch
            ]
            drawn = self.engine.generate(requests, params)
            completions |= {sample.id: draws[0].text for sample, draws in zip(batch, drawn, strict=True)}
        return completions


class Evaluation(Engine):
    """The whole evaluation: predictions, scores under every protocol and manifest, written to a new folder."""

    def __call__(self, samples: list[Sample]) -> Completions:
        """Evaluate every sample."""
        with tempfile.TemporaryDirectory() as folder:
            evaluate(
                samples,
                self.engine,
                Asking(
                    prompt=self.prompt,
                    params=SamplingParams(max_new_tokens=self.tokens),
                    batch_size=self.batch_size,
                    seed=0,
                ),
                out=Path(folder),
            )
            return {prediction.id: prediction.completion for prediction in read_predictions(Path(folder))}


def interleaved(runners: dict[str, Callable[[], Completions]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every runner in every round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(rounds + 1):
        answers = {}
        for name, runner in runners.items():
            started = time.perf_counter()
            answers[name] = runner()
            if number:
                seconds[name].append(time.perf_counter() - started)
        first, *others = answers.values()
        assert all(other == first for other in others), "the runs answer differently: nothing may be compared"
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(WARM_START), help="checkpoint; the tiny warm start unless told")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="limit of a completion")
    parser.add_argument("--prompt", default="bare", choices=list(PROMPTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    samples = [phantom("test", index).sample for index in range(options.samples)]
    model = load_model(options.model, device=options.device, dtype="float32")
    processor = load_processor(options.model)
    # As transformers loads it; `load_model` makes its patch embedding cheaper.
    plain = (
        AutoModelForImageTextToText.from_pretrained(locate(options.model), dtype="float32").to(options.device).eval()
    )
    kinds = (
        ("published loop", PublishedLoop, plain),
        ("medr1 engine", Engine, model),
        ("medr1 eval", Evaluation, model),
    )
    runners = {
        f"{name} at batch {batch}": make(network, processor, options.prompt, batch, options.tokens)
        for batch in (1, 64)
        for name, make, network in kinds
    }
    seconds = interleaved({name: lambda run=run: run(samples) for name, run in runners.items()}, options.rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians["published loop at batch 1"]
    for name, median in medians.items():
        print(f"{name:28} {1000 * median / options.samples:8.2f} ms a sample   {base / median:6.2f} x")
    result = {
        "samples": options.samples,
        "tokens": options.tokens,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "medians": medians,
        "ratio_to_published_loop_at_batch_1": {name: base / median for name, median in medians.items()},
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
