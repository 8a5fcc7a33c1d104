"""A few phantoms that the shipped tiny model answers rightly, as a batch under attack."""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch

from medr1.answers import parse_answer
from medr1.attack.problem import Problem
from medr1.attack.threat import ThreatModel
from medr1.attack.victim import Victim
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS
from medr1.types import Sample

PARAMS = SamplingParams(max_new_tokens=12)


@cache
def engine() -> TransformersEngine:
    """The shipped checkpoint on the CPU."""
    return TransformersEngine(WARM_START, device="cpu", batch_size=8)


@cache
def victim() -> Victim:
    """Asked as it was trained."""
    return Victim(engine(), prompt=PROMPTS["bare"], params=PARAMS, read=partial(parse_answer, answer_format="think"))


@cache
def right_samples(count: int = 6) -> tuple[Sample, ...]:
    """The first phantoms that it answers rightly."""
    samples = [phantom("validation", index).sample for index in range(4 * count)]
    images = torch.tensor(np.stack([np.asarray(open_image(one.images[0])) for one in samples])).double()
    prompts = victim().encode(samples, [image.byte().numpy() for image in images])
    readings = victim().generate(prompts, images, samples)
    return tuple(one for one, read in zip(samples, readings, strict=True) if read.letter == one.gold)[:count]


def problem(k: int, samples: Sequence[Sample] | None = None, *, grey: bool = False, allowed=None) -> Problem:
    """Those phantoms under a budget."""
    chosen = list(right_samples() if samples is None else samples)
    images = torch.tensor(np.stack([np.asarray(open_image(one.images[0])) for one in chosen]))
    prompts = victim().encode(chosen, [image.numpy() for image in images])
    readings = victim().generate(prompts, images.double(), chosen)
    return Problem(victim(), chosen, prompts, images, readings, ThreatModel(k=k, grey=grey), allowed)
