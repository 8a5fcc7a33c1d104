"""`medr1 eval` gives, token for token, what a plain loop over `generate` gives, whatever the batch size.

Every prompt of the two published systems, greedy, float32, on 300 phantoms and on the twelve real images. Where the two
largest logits are equal but for rounding, either token is right, and what follows is not compared; such ties are few.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import medr1.cli
from medr1.data.convert import convert
from medr1.data.images import open_image
from medr1.data.phantom import write_phantoms
from medr1.data.settings import ConvertSettings, PhantomSettings
from medr1.engines.transformers import TransformersEngine, image_token_ids
from medr1.models.loading import load_model, load_processor
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS, messages
from medr1.records import read_samples

SEEDS_PROMPTS = [name for name in PROMPTS if name.startswith(("medvlm-r1/", "med-r1/"))]
BATCH_SIZES = (1, 3, 16)
TIE = 1e-5
"""Logits of about 10 that are closer than this differ by ten units in the last place at most."""
MAX_TIES = 0.01
"""Share of the answers; one in 10,000 was seen."""

Answers = dict[str, tuple[tuple[int, ...], str]]
"""Sampled ids and their text, by sample id."""
Margins = dict[str, list[float]]
"""How far the largest logit is above the next one, token by token."""


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    return load_model(WARM_START, dtype="float32"), load_processor(WARM_START)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(PhantomSettings(out=folder, split="test", count=300))
    return folder


@pytest.fixture(scope="module")
def real_cases(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "data"
    convert(ConvertSettings(path=real_data / "medvlm_r1" / "cases.json", out=folder))
    return folder


def generated(reference: tuple[Any, Any], data: Path, prompt: str, max_new_tokens: int) -> tuple[Answers, Margins]:
    """One conversation at a time through the stock processor and the stock `generate`."""
    model, processor = reference
    answers, margins = {}, {}
    for sample in read_samples(data):
        text = processor.apply_chat_template(
            messages(PROMPTS[prompt], sample), tokenize=False, add_generation_prompt=True
        )
        images = [open_image(ref) for ref in sample.images]
        inputs = processor(text=[text], images=images, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                suppress_tokens=image_token_ids(processor.tokenizer),
                return_dict_in_generate=True,
                output_scores=True,
            )
        ids = output.sequences[0, inputs["input_ids"].shape[1] :]
        answers[sample.id] = tuple(ids.tolist()), processor.decode(ids, skip_special_tokens=True)
        best_T2 = torch.cat(output.scores).topk(2).values
        margins[sample.id] = (best_T2[:, 0] - best_T2[:, 1]).tolist()
    return answers, margins


def evaluated(data: Path, prompt: str, batch_size: int, max_new_tokens: int, out: Path) -> Answers:
    """What `medr1 eval` writes, with the ids that its engine sampled."""
    sampled: dict[str, tuple[int, ...]] = {}

    class Watched(TransformersEngine):
        def generate(self, requests: Any, params: Any) -> Any:
            assert self.batch_size == batch_size
            completions = super().generate(requests, params)
            sampled.update(
                {r.key.rstrip(":"): drawn[0].token_ids for r, drawn in zip(requests, completions, strict=True)}
            )
            return completions

    arguments = ["--data", str(data), "--out", str(out), "--prompt", prompt, "--batch-size", str(batch_size)]
    numbers = ["--dtype", "float32", "--device", "cpu", "--max-new-tokens", str(max_new_tokens), "--variants", ""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medr1.engines.transformers.TransformersEngine", Watched)
        result = CliRunner().invoke(medr1.cli.app, ["eval", str(WARM_START), *arguments, *numbers])
    if result.exception is not None:
        raise result.exception
    lines = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    return {line["id"]: (sampled[line["id"]], line["completion"]) for line in lines}


def compare(reference: tuple[Any, Any], data: Path, prompt: str, max_new_tokens: int, out: Path) -> Answers:
    """The answers of the plain loop, with which every batch size agrees."""
    expected, margins = generated(reference, data, prompt, max_new_tokens)
    for batch_size in BATCH_SIZES:
        found = evaluated(data, prompt, batch_size, max_new_tokens, out / str(batch_size))
        assert found.keys() == expected.keys()
        other = [id_ for id_ in expected if found[id_] != expected[id_]]
        for id_ in other:
            pairs = zip(found[id_][0], expected[id_][0], strict=False)
            first = next(n for n, (ours, theirs) in enumerate(pairs) if ours != theirs)
            assert margins[id_][first] < TIE, f"{id_}, token {first}, batch size {batch_size}"
        assert len(other) <= MAX_TIES * len(expected)
        print(f"{prompt}, batch size {batch_size}: {len(expected)} answers, {len(other)} with a tie")
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("prompt", SEEDS_PROMPTS)
def test_phantoms(reference: tuple[Any, Any], phantoms: Path, tmp_path: Path, prompt: str) -> None:
    answers = compare(reference, phantoms, prompt, 16, tmp_path)
    assert len(answers) == 300
    assert len(set(answers.values())) > 3, "the answers do not depend on the question"


@pytest.mark.parametrize("prompt", SEEDS_PROMPTS)
def test_real_images(reference: tuple[Any, Any], real_cases: Path, tmp_path: Path, prompt: str) -> None:
    answers = compare(reference, real_cases, prompt, 24, tmp_path)
    assert len(answers) == 12
    assert len(set(answers.values())) > 3, "the answers do not depend on the question"
