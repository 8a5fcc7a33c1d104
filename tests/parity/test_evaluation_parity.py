"""`medr1 eval` gives, token for token, what a plain loop over `generate` gives, whatever the batch size.

The published prompts, greedy, float32, on phantoms and on the twelve real images.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import medr1.cli
from medr1.data.convert import Conversion, convert
from medr1.data.images import open_image
from medr1.data.phantom import write_phantoms
from medr1.models.loading import load_model, load_processor
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS, messages
from medr1.records import read_samples
from medr1.rollout.transformers import image_token_ids

PUBLISHED = ("medvlm-r1/complex", "medvlm-r1/simple", "med-r1/think", "med-r1/nothink", "med-r1/zeroshot")
MAX_NEW_TOKENS = 24


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    return load_model(WARM_START, dtype="float32"), load_processor(WARM_START)


def generated(reference: tuple[Any, Any], data: Path, prompt: str) -> dict[str, str]:
    """Completions by sample id: one conversation at a time through the stock processor and the stock `generate`."""
    model, processor = reference
    completions = {}
    for sample in read_samples(data):
        text = processor.apply_chat_template(
            messages(PROMPTS[prompt], sample), tokenize=False, add_generation_prompt=True
        )
        images = [open_image(ref) for ref in sample.images]
        inputs = processor(text=[text], images=images, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(
                **inputs,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                suppress_tokens=image_token_ids(processor.tokenizer),
            )
        new_ids = output[:, inputs["input_ids"].shape[1] :]
        (completions[sample.id],) = processor.batch_decode(new_ids, skip_special_tokens=True)
    return completions


def evaluated(data: Path, prompt: str, batch_size: int, out: Path) -> dict[str, str]:
    """Completions by sample id, from `medr1 eval`."""
    arguments = ["--data", str(data), "--out", str(out), "--prompt", prompt, "--batch-size", str(batch_size)]
    numbers = ["--dtype", "float32", "--device", "cpu", "--max-new-tokens", str(MAX_NEW_TOKENS), "--controls", ""]
    result = CliRunner().invoke(medr1.cli.app, ["eval", str(WARM_START), *arguments, *numbers])
    if result.exception is not None:
        raise result.exception
    lines = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    return {line["id"]: line["completion"] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("prompt", PUBLISHED)
def test_phantoms(reference: tuple[Any, Any], tmp_path: Path, prompt: str) -> None:
    """300 phantoms in all, other ones for every prompt."""
    write_phantoms(tmp_path / "data", "test", 60, start=60 * PUBLISHED.index(prompt))
    expected = generated(reference, tmp_path / "data", prompt)
    assert len(expected) == 60
    assert len(set(expected.values())) > 3, "the answers do not depend on the question"
    for batch_size in (1, 3, 16):
        assert evaluated(tmp_path / "data", prompt, batch_size, tmp_path / str(batch_size)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("prompt", PUBLISHED[:3:2])
def test_real_images(real_data: Path, reference: tuple[Any, Any], tmp_path: Path, prompt: str) -> None:
    convert(Conversion(path=real_data / "medvlm_r1" / "cases.json", out=tmp_path / "data"))
    expected = generated(reference, tmp_path / "data", prompt)
    assert len(expected) == 12
    for batch_size in (1, 3, 16):
        assert evaluated(tmp_path / "data", prompt, batch_size, tmp_path / str(batch_size)) == expected
