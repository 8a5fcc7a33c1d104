"""vLLM's own OpenAI server, asked by the endpoint engine, answers as the engine on transformers does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluated import evaluate
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.endpoint import EndpointEngine
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.eval.runner import read_predictions
from medr1.prompts import PROMPTS, render
from medr1.types import Sample

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def endpoint(server: Any) -> EndpointEngine:
    return EndpointEngine(base_url=server.base_url, model=server.model, max_retries=0)


@pytest.fixture(scope="module")
def local(trained: Path) -> TransformersEngine:
    return TransformersEngine(trained, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def phantoms() -> list[Sample]:
    samples = [phantom("test", index).sample for index in range(8)]
    samples[2] = replace(samples[2], images=(*samples[2].images, *samples[3].images))
    samples[5] = replace(samples[5], images=())
    return samples


def requests_for(samples: Sequence[Sample], **changes: Any) -> list[Request]:
    return [
        Request(
            key=sample.id,
            text=render(PROMPTS["bare"], sample),
            images=tuple(open_image(ref) for ref in sample.images),
            **changes,
        )
        for sample in samples
    ]


def test_an_evaluation_over_the_server_equals_transformers(
    endpoint: EndpointEngine, local: TransformersEngine, phantoms: list[Sample], tmp_path: Path
) -> None:
    endpoint.check()
    for name, engine in (("endpoint", endpoint), ("transformers", local)):
        params = SamplingParams(max_new_tokens=40)
        evaluate(
            phantoms,
            engine,
            out=tmp_path / name,
            params=params,
            batch_size=8,
            seed=0,
            prompt="bare",
            variants=["blank"],
        )
    served, known = (
        {(p.id, p.variant): p for p in read_predictions(tmp_path / name)} for name in ("endpoint", "transformers")
    )
    assert served == known
    assert len({p.completion for p in known.values()}) > 4, "the answers do not depend on the question"


@pytest.mark.parametrize(
    "changes", [{"image_first": False}, {"system": "Answer briefly."}, {"completion_prefix": "<think>The "}]
)
def test_every_field_of_a_request_reaches_the_model(
    endpoint: EndpointEngine, local: TransformersEngine, phantoms: list[Sample], changes: dict[str, Any]
) -> None:
    params = SamplingParams(max_new_tokens=24, repetition_penalty=1.2)
    requests = requests_for(phantoms[:4], **changes)
    served, known = endpoint.generate(requests, params), local.generate(requests, params)
    assert [draws[0].text for draws in served] == [draws[0].text for draws in known]
    assert [draws[0].num_tokens for draws in served] == [draws[0].num_tokens for draws in known]
    assert [draws[0].finish_reason for draws in served] == [draws[0].finish_reason for draws in known]


def test_draws_are_reproducible(endpoint: EndpointEngine, phantoms: list[Sample]) -> None:
    requests = requests_for(phantoms[:3])
    params = SamplingParams(max_new_tokens=24, temperature=2.0, num_draws=3, seed=1)
    first, second = endpoint.generate(requests, params), endpoint.generate(requests[::-1], params)[::-1]
    assert first == second
    assert len({completion.text for draws in first for completion in draws}) > 5


def test_what_the_server_refuses_is_a_failure_with_its_reason(endpoint: EndpointEngine, phantoms: list[Sample]) -> None:
    ((completion,),) = endpoint.generate(requests_for(phantoms[:1]), SamplingParams(max_new_tokens=5000))
    assert completion.finish_reason == "error"
    assert completion.text.startswith("HTTP 400")
