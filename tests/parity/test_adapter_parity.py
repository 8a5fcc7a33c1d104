"""A LoRA adapter opened as it is equals the model that it was merged into, whatever an engine is used for."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from trl import GRPOConfig

from medr1.attack.checks import gradient, wrapper_logits
from medr1.attack.problem import Problem
from medr1.attack.threat import ThreatModel
from medr1.attack.victim import Victim
from medr1.cli import main
from medr1.data.images import open_image
from medr1.data.phantom import phantom, write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.decode import can_fuse
from medr1.engines.engine import AnswerPlace, Request, SamplingParams
from medr1.engines.transformers import TransformersEngine, TransformersOptionScorer
from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.prompts import PROMPTS, render
from medr1.records import read_samples
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.run import train_grpo
from medr1.types import ParsedAnswer, ParseStatus, Sample
from tiny_adapters import make_adapter


def requests_for(samples: Sequence[Sample]) -> list[Request]:
    return [
        Request(key=one.id, text=render(PROMPTS["bare"], one), images=tuple(open_image(ref) for ref in one.images))
        for one in samples
    ]


def engine(folder: Path) -> TransformersEngine:
    return TransformersEngine(folder, dtype="float32", device="cpu")


@pytest.fixture(params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path: Path) -> tuple[Any, Any]:
    """Engines on an adapter and on the same model merged."""
    make_adapter(checkpoints[request.param], tmp_path / "adapter", merged=tmp_path / "merged")
    return engine(tmp_path / "adapter"), engine(tmp_path / "merged")


def test_answers_and_scores_are_those_of_the_merged_model(
    pair: tuple[Any, Any], questions: list[Sample], checkpoints: dict[str, Path]
) -> None:
    adapter, merged = pair
    assert isinstance(adapter.model, PeftModel)
    assert not can_fuse(adapter.model), "the decoder that reads weights by itself knows no adapters"
    requests, params = requests_for(questions), SamplingParams(max_new_tokens=12)
    of_base = engine(checkpoints[adapter.describe()["family"]]).generate(requests, params)
    of_adapter, of_merged = adapter.generate(requests, params), merged.generate(requests, params)
    for (one,), (other,) in zip(of_adapter, of_merged, strict=True):
        assert one.token_ids == other.token_ids
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=1e-3, atol=1e-4)
    assert all(one.token_ids != base.token_ids for (one,), (base,) in zip(of_adapter, of_base, strict=True))
    places = [
        AnswerPlace(request=request, completion=drawn[0], start=0, num_options=4)
        for request, drawn in zip(requests, of_adapter, strict=True)
    ]
    scores = [torch.tensor(TransformersOptionScorer(one).option_logprobs(places)) for one in pair]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_attacks_see_the_adapter(pair: tuple[Any, Any]) -> None:
    def always_right(completion: str, sample: Sample) -> ParsedAnswer:
        return ParsedAnswer(sample.gold, ParseStatus.OK)

    def problem(one: TransformersEngine) -> Problem:
        victim = Victim(one, prompt=PROMPTS["bare"], params=SamplingParams(max_new_tokens=4), read=always_right)
        side = 2 * victim.image_processor.patch_size * victim.image_processor.merge_size
        samples = [phantom("train", index, side=side).sample for index in range(2)]
        images = torch.tensor(np.stack([np.asarray(open_image(sample.images[0])) for sample in samples]))
        prompts = victim.encode(samples, [image.numpy() for image in images])
        readings = victim.generate(prompts, images.double(), samples)
        return Problem(victim, samples, prompts, images, readings, ThreatModel(k=8))

    adapter, merged = (problem(one) for one in pair)
    for check in (wrapper_logits(adapter, "direct"), gradient(adapter, "direct")):
        assert check.status == "passed", check.detail
    assert [reading.completion for reading in adapter.readings] == [reading.completion for reading in merged.readings]
    letters = [[1], [2]]
    logits = [one.victim.logits(one.prompts, letters, one.clean_NHW3, keep=1) for one in (adapter, merged)]
    assert logits[0].dtype == torch.float64
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)  # the merged weights were rounded to float32


def test_a_checkpoint_of_training_is_evaluated_like_its_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="train", count=8))
    monkeypatch.chdir(WARM_START.parent)
    config = GRPOConfig(
        str(tmp_path / "run"), use_cpu=True, bf16=False, per_device_train_batch_size=16, num_generations=4,
        max_completion_length=10, max_steps=2, save_steps=2, learning_rate=3e-2, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    samples = list(read_samples(tmp_path / "data"))
    base = ModelArguments(model_name_or_path=WARM_START.name, use_peft=True)
    train_grpo(GRPOArguments(prompt="bare"), config, base, samples=samples)
    checkpoint = tmp_path / "run" / "checkpoint-2"
    recorded = json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(recorded) == WARM_START.resolve(), "the base is found from any working folder"
    monkeypatch.chdir(tmp_path)

    def answers(folder: Path, name: str) -> list[tuple[str, str]]:
        words = [folder, "--data", "data", "--out", name, "--prompt", "bare", "--variants", "", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["medr1", "eval", *map(str, words), "--max-new-tokens", "12"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        lines = (tmp_path / name / "predictions.jsonl").read_text().splitlines()
        return [(line["id"], line["completion"]) for line in map(json.loads, lines)]

    of_adapter = answers(checkpoint, "adapter")
    assert of_adapter == answers(tmp_path / "run" / "final", "merged")
    assert of_adapter != answers(WARM_START, "base")
