"""The engine equals transformers' own `generate`, and what it says of its tokens is what a forward says of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine_cases import forced_logprobs, reference, requests_for
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.types import Completion, Sample

DRAWS = SamplingParams(max_new_tokens=12, temperature=1.0, num_draws=4, seed=5)
NOISE_RATIO = 2.0


@pytest.fixture(scope="module")
def phantoms() -> list[Sample]:
    return [phantom("validation", index).sample for index in range(12)]


def tokens(drawn: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[one.token_ids for one in draws] for draws in drawn]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate(
    checkpoints: dict[str, Path], questions: list[Sample], device: str, family: str
) -> None:
    params = SamplingParams(max_new_tokens=12)
    requests = requests_for(questions)
    engine = TransformersEngine(checkpoints[family], dtype="float32", device=device)
    assert engine.model.device.type == device
    expected = [reference(engine, request, params) for request in requests]
    assert len({tuple(ids) for ids in expected}) > 3, "the answers do not depend on the question"
    for batch_size in (3, 16):
        engine.batch_size = batch_size
        drawn = engine.generate(requests, params)
        assert [list(completions[0].token_ids) for completions in drawn] == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_seed_draws_the_same_tokens(phantoms: list[Sample], device: str, dtype: str) -> None:
    engine = TransformersEngine(WARM_START, dtype=dtype, device=device)
    requests = requests_for(phantoms)
    once = engine.generate(requests, DRAWS)
    assert tokens(once) == tokens(engine.generate(requests, DRAWS))
    assert len({ids for draws in tokens(once) for ids in draws}) > 4, "nothing was left to chance"


def test_samples_do_not_depend_on_the_batch_in_float32(phantoms: list[Sample], device: str) -> None:
    requests = requests_for(phantoms)
    engine = TransformersEngine(WARM_START, dtype="float32", device=device, batch_size=100)
    together = engine.generate(requests, DRAWS)
    engine.batch_size = 1
    alone = engine.generate(requests[::-1], DRAWS)[::-1]
    assert tokens(together) == tokens(alone)
    for one, other in zip(logprobs(together), logprobs(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def logprobs(drawn: list[list[Completion]]) -> list[Tensor]:
    return [torch.tensor(one.logprobs) for draws in drawn for one in draws]


@pytest.mark.parametrize("family", [*FAMILIES, "warm start"])
def test_log_probabilities_are_a_forward_s_within_the_noise_of_bfloat16(
    checkpoints: dict[str, Path], questions: list[Sample], phantoms: list[Sample], device: str, family: str
) -> None:
    folder, samples = (WARM_START, phantoms) if family == "warm start" else (checkpoints[family], questions)
    requests = requests_for(samples)
    engine, exact = (TransformersEngine(folder, dtype=dtype, device=device) for dtype in ("bfloat16", "float32"))
    with torch.no_grad():
        for weight, wide in zip(engine.model.parameters(), exact.model.parameters(), strict=True):
            wide.copy_(weight)  # what is compared is the computing, not the rounding of the weights
    drawn = engine.generate(requests, DRAWS)

    def forward(by: TransformersEngine) -> Tensor:
        asked = zip(requests, drawn, strict=True)
        return torch.cat([forced_logprobs(by, request, one, DRAWS) for request, draws in asked for one in draws])

    forced = forward(engine)
    noise = (forced - forward(exact)).square().mean().sqrt()
    assert noise > 1e-3, "nothing was rounded, so nothing was compared"
    assert (torch.cat(logprobs(drawn)) - forced).square().mean().sqrt() <= NOISE_RATIO * noise
