"""Sampling filters against their schoolbook definitions, random numbers, and how completions end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medr1.data.images import open_image
from medr1.engines import sampler
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.sampler import pick, uniform_numbers
from medr1.engines.transformers import TransformersEngine, end_token_ids, image_token_ids
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS, render
from medr1.types import Sample


@pytest.fixture(scope="module")
def engine(checkpoints: dict[str, Path]) -> TransformersEngine:
    return TransformersEngine(checkpoints["qwen2_5_vl"], dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def request_(questions: list[Sample]) -> Request:
    sample = questions[0]
    images = tuple(open_image(ref) for ref in sample.images)
    return Request(key=sample.id, text=render(PROMPTS["bare"], sample), images=images)


def raw_logits(engine: TransformersEngine, request: Request, tail: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Logits of the stock model before every token of the tail, and the tokens of the prompt."""
    inputs = engine.processor(text=[engine.chat_text(request)], images=list(request.images), return_tensors="pt")
    prompt = inputs["input_ids"][0].tolist()
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail[None])], 1)
    with torch.no_grad():
        return engine.model(**inputs).logits[0, -len(tail) - 1 : -1], prompt


def schoolbook(logits: torch.Tensor, seen: list[int], params: SamplingParams, forbidden: list[int]) -> torch.Tensor:
    """Log-probabilities (V) of the next token, one definition after the other."""
    logits = logits.double()
    for token in set(seen):
        logits[token] *= params.repetition_penalty if logits[token] < 0 else 1 / params.repetition_penalty
    logits[forbidden] = -torch.inf
    logits /= params.temperature
    if params.top_k:
        logits[logits < logits.sort(descending=True)[0][params.top_k - 1]] = -torch.inf
    order = logits.argsort(descending=True)
    before = logits[order].softmax(-1).cumsum(-1) - logits[order].softmax(-1)
    logits[order[before >= params.top_p]] = -torch.inf
    probabilities = logits.softmax(-1)
    logits[probabilities < params.min_p * probabilities.max()] = -torch.inf
    return logits.log_softmax(-1)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.7),
        SamplingParams(temperature=1.0, top_k=3),
        SamplingParams(temperature=1.0, top_p=0.6),
        SamplingParams(temperature=1.0, min_p=0.4),
        SamplingParams(temperature=1.0, repetition_penalty=1.4),
        SamplingParams(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.1),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "all"],
)
def test_every_filter_does_what_its_definition_says(
    engine: TransformersEngine, request_: Request, params: SamplingParams
) -> None:
    params = SamplingParams(
        **{**{k: getattr(params, k) for k in params.__slots__}, "max_new_tokens": 10, "num_draws": 4}
    )
    for draw, completion in enumerate(engine.generate([request_], params)[0]):
        tail = torch.tensor(completion.token_ids)
        logits, prompt = raw_logits(engine, request_, tail)
        forbidden = image_token_ids(engine.tokenizer)
        numbers = uniform_numbers(params.seed, f"{request_.key}/{draw}", params.max_new_tokens)
        for place, token in enumerate(completion.token_ids):
            seen = prompt + list(completion.token_ids[:place])
            expected = schoolbook(logits[place], seen, params, forbidden)
            assert completion.logprobs is not None
            assert completion.logprobs[place] == pytest.approx(expected[token].item(), rel=1e-4, abs=1e-5)
            # Every step has a random number of its own, and it falls into the token's share.
            below = expected[:token].exp().sum().item()
            assert below - 1e-4 <= numbers[place] <= below + expected[token].exp().item() + 1e-4


def test_draws_that_end_leave_the_others_as_they_are(questions: list[Sample]) -> None:
    engine = TransformersEngine(WARM_START, dtype="float32", device="cpu", batch_size=100)
    params = SamplingParams(temperature=1.5, max_new_tokens=12, num_draws=6, repetition_penalty=1.2, seed=2)
    requests = [
        Request(
            key=sample.id,
            text=render(PROMPTS["bare"], sample),
            images=tuple(open_image(ref) for ref in sample.images),
        )
        for sample in questions[:4]
    ]
    together = engine.generate(requests, params)
    lengths = {completion.num_tokens for draws in together for completion in draws}
    assert len(lengths) > 2, "the batch never shrinks"
    for request, draws in zip(requests, together, strict=True):
        alone = engine.generate([request], params)[0]
        assert [completion.token_ids for completion in draws] == [completion.token_ids for completion in alone]


def test_a_completion_ends_with_its_end_token_or_at_the_limit(request_: Request) -> None:
    engine = TransformersEngine(WARM_START, dtype="float32", device="cpu")
    params = SamplingParams(temperature=1.5, max_new_tokens=8, num_draws=40)
    # A second end token that about every fourth answer has: the letter A.
    (letter,) = engine.tokenizer("A", add_special_tokens=False)["input_ids"]
    engine.model.generation_config.eos_token_id = [engine.tokenizer.eos_token_id, letter]
    ends = set(end_token_ids(engine.model, engine.tokenizer))
    assert ends == {engine.tokenizer.eos_token_id, letter}
    drawn = engine.generate([request_], params)[0]
    assert {completion.finish_reason for completion in drawn} == {"stop", "length"}, "both kinds are compared"
    assert {completion.token_ids[-1] for completion in drawn} >= ends, "both ends are compared"
    for completion in drawn:
        *body, last = completion.token_ids
        assert not ends & set(body)
        assert (completion.finish_reason == "stop") == (last in ends)
        assert completion.num_tokens == len(completion.token_ids) == len(completion.logprobs) <= 8
        assert completion.finish_reason == "stop" or completion.num_tokens == 8
        assert completion.text == engine.tokenizer.decode(completion.token_ids, skip_special_tokens=True)


def test_every_declared_end_token_ends(engine: TransformersEngine) -> None:
    declared = engine.model.generation_config.eos_token_id
    try:
        for value, own in ((None, []), (7, [7]), ([7, 8], [7, 8])):
            engine.model.generation_config.eos_token_id = value
            assert end_token_ids(engine.model, engine.tokenizer) == [*own, engine.tokenizer.eos_token_id]
        engine.model.generation_config.eos_token_id = [engine.tokenizer.eos_token_id, 9]
        assert end_token_ids(engine.model, engine.tokenizer) == [engine.tokenizer.eos_token_id, 9]
    finally:
        engine.model.generation_config.eos_token_id = declared


def test_the_system_turn_comes_first(engine: TransformersEngine) -> None:
    text = engine.chat_text(Request(key="a", text="the question", system="be brief"))
    assert text.index("be brief") < text.index("the question")
    assert "be brief" not in engine.chat_text(Request(key="a", text="the question"))


def test_full_determinism_allows_cumulative_sums(
    engine: TransformersEngine, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a GPU refuses otherwise."""
    seen = []

    def noting(self: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return torch.cumsum(self, *given, **named)

    params = SamplingParams(temperature=1.0, top_p=0.9, max_new_tokens=2)
    wanted = engine.generate([request_], params)
    monkeypatch.setattr(torch.Tensor, "cumsum", noting)
    torch.use_deterministic_algorithms(True)
    try:
        assert engine.generate([request_], params) == wanted
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen.count(False) == 4, "two filters and two draws"


def test_a_token_without_probability_is_never_drawn() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    drawn = [int(pick(probabilities, torch.tensor([number]))) for number in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert drawn == [1, 1, 3, 3, 3]


def test_random_numbers_come_from_seed_and_key_alone() -> None:
    numbers = uniform_numbers(3, "a/0", 1000)
    assert np.array_equal(numbers, uniform_numbers(3, "a/0", 1000))
    assert np.array_equal(numbers[:10], uniform_numbers(3, "a/0", 10)), "a longer limit draws the same beginning"
    for other in (uniform_numbers(4, "a/0", 1000), uniform_numbers(3, "a/1", 1000), uniform_numbers(3, "b/0", 1000)):
        assert not np.isin(other, numbers).any()
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1


@pytest.mark.parametrize("fused", [False, True])
def test_sampling_keeps_no_graph_and_leaves_the_model_trainable(
    engine: TransformersEngine, request_: Request, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "can_fuse", lambda model: fused)
    kind, seen = (sampler.FusedDecoder, sampler.ModelDecoder)[not fused], []
    step = kind.__call__

    def watched(decoder: Any, *arguments: torch.Tensor) -> torch.Tensor:
        logits = step(decoder, *arguments)
        seen.append(logits.requires_grad)
        return logits

    monkeypatch.setattr(kind, "__call__", watched)
    engine.generate([request_], SamplingParams(max_new_tokens=4, num_draws=2, seed=0))
    assert seen == [False] * len(seen)
    assert seen
    inputs = engine.processor(text=[engine.chat_text(request_)], images=list(request_.images), return_tensors="pt")
    engine.model(**inputs).logits.sum().backward()
    engine.model.zero_grad()
