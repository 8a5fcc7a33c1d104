"""The checks that need a model, on every family: our pixels, logits and gradients are the model's own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medr1.attack.checks import gradient, preprocessing, wrapper_logits
from medr1.attack.problem import Problem
from medr1.attack.threat import ThreatModel
from medr1.attack.victim import Victim
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny.build import FAMILIES
from medr1.prompts import PROMPTS
from medr1.types import ParsedAnswer, ParseStatus, Sample


def always_right(completion: str, sample: Sample) -> ParsedAnswer:
    return ParsedAnswer(sample.gold, ParseStatus.OK)


@pytest.fixture(params=list(FAMILIES))
def problem(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Problem:
    """Two phantoms on the patch grid, before a random model whose answers count as right."""
    engine = TransformersEngine(checkpoints[request.param], dtype="float32", device="cpu")
    victim = Victim(engine, prompt=PROMPTS["bare"], params=SamplingParams(max_new_tokens=4), read=always_right)
    side = 2 * victim.image_processor.patch_size * victim.image_processor.merge_size
    samples = [phantom("train", index, side=side).sample for index in range(2)]
    images = torch.tensor(np.stack([np.asarray(open_image(one.images[0])) for one in samples]))
    prompts = victim.encode(samples, [image.numpy() for image in images])
    return Problem(
        victim, samples, prompts, images, victim.generate(prompts, images.double(), samples), ThreatModel(k=8)
    )


def test_pixels_logits_and_gradients_are_the_models_own(problem: Problem) -> None:
    for check in (preprocessing(problem), wrapper_logits(problem, "direct"), gradient(problem, "direct")):
        assert check.status == "passed", check.detail
