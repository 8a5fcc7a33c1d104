"""Kernels that draw tokens, and the same in PyTorch, against transformers' filters; interpreted on a CPU."""

import itertools
import math
from dataclasses import astuple, replace
from functools import partial
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

pytest.importorskip("triton")

from devices import INTERPRETED, KERNEL_DEVICES
from medr1.engines import drawing_kernels, plain
from medr1.engines.buffers import Draws
from medr1.engines.engine import SamplingParams
from medr1.engines.plain import Sampling

VOCABULARY = 2_600
ENDS, FORBIDDEN = [7, 2_100], [0, 5, 2_048]
MODULES = drawing_kernels, plain


@pytest.fixture(params=KERNEL_DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return getattr(torch, request.param)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numbers(rows: int) -> Tensor:
    """Random numbers of every row, none of them at a bound between tokens, where rounding would choose."""
    uniform = torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    uniform[:3] = torch.tensor([0.0, 0.99993, 0.5123])[:rows]
    return uniform


def drawn(module: Any, logits: Tensor, sampling: Sampling, history: Tensor, at: Tensor | None = None) -> Draws:
    """Draws after one token of every row, behind a history of prompt tokens; `at` other random numbers."""
    rows, vocabulary = logits.shape
    draws = Draws(rows + 1, 64, vocabulary, len(ENDS), logits.device)
    uniform = torch.zeros(rows, 64, dtype=torch.float64)
    uniform[:, 4] = numbers(rows) if at is None else at
    nobody = torch.zeros(rows, dtype=torch.long, device=logits.device)
    forbidden = [one for one in FORBIDDEN if one < vocabulary]
    draws.begin(nobody, nobody, uniform.to(logits.device), history, ends=ENDS, forbidden=forbidden)
    draws.step.fill_(4)
    module.draw(logits, sampling, draws, torch.arange(rows, device=logits.device))
    return draws


def wanted(logits: Tensor, sampling: Sampling, history: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, V) by transformers' own filters, as `generate` chains them, and the tokens drawn."""
    chain = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    if sampling.temperature > 0:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            chain.append(TopKLogitsWarper(sampling.top_k))
        chain += [TopPLogitsWarper(sampling.top_p), MinPLogitsWarper(sampling.min_p)]
    logits = logits.float().clone()
    logits[:, [one for one in FORBIDDEN if one < logits.shape[1]]] = -math.inf
    with mock.patch.object(torch, "sort", partial(torch.sort, stable=True)):  # which of equal logits are kept is told
        log = chain(history, logits).log_softmax(-1)  # type: ignore[arg-type]
    if sampling.temperature == 0:
        return log, log.argmax(-1)
    cumulative = log.double().exp().cumsum(-1)
    target = numbers(len(log)).to(log.device)[:, None] * cumulative[:, -1:]
    last = (log > -math.inf).long().cumsum(-1).argmax(-1)
    return log, torch.minimum((cumulative <= target).sum(-1), last)


def check(module: Any, logits: Tensor, sampling: Sampling, history: Tensor) -> None:
    draws, (log, token) = drawn(module, logits, sampling, history), wanted(logits, sampling, history)
    rows = len(logits)
    assert draws.tokens[:rows, 4].tolist() == token.tolist()
    close = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draws.logprobs[:rows, 4], log.gather(1, token[:, None])[:, 0], **close)
    torch.testing.assert_close(draws.entropies[:rows, 4], torch.special.entr(log.exp()).sum(-1), **close)
    assert draws.ended[:rows].tolist() == [one in ENDS for one in token.tolist()]
    if sampling.looks_back:
        said = [sorted({*words, drawn}) for words, drawn in zip(history.tolist(), token.tolist(), strict=True)]
        assert [one.nonzero()[:, 0].tolist() for one in draws.said[:rows]] == said


OPTIONS = {
    "temperature": (0.0, 1.0, 0.7),
    "top_k": (0, 40),
    "top_p": (1.0, 0.8),
    "min_p": (0.0, 0.02),
    "repetition_penalty": (1.0, 1.3),
}
PRODUCT = {
    Sampling.of(SamplingParams(**dict(zip(OPTIONS, values, strict=True))))
    for values in itertools.product(*OPTIONS.values())
}


@pytest.mark.parametrize("sampling", sorted(PRODUCT, key=str), ids=lambda one: "-".join(map(str, astuple(one))))
def test_every_combination(sampling: Sampling, device: str) -> None:
    """Logits in narrow numbers have many equal ones, at every bound."""
    dtype = torch.bfloat16 if sampling.temperature == 1.0 else torch.float32
    logits = 3 * randn(6, VOCABULARY)
    logits[0, 2_048:], logits[1, :2_048] = -math.inf, -math.inf  # a block without any mass
    logits[2, 7] = 1_000.0
    logits[3], logits[3, 1_000:1_016] = -20.0, 0.0
    history = torch.randint(0, VOCABULARY, (6, 30), generator=torch.Generator().manual_seed(1))
    history[:, :5] = logits.topk(5).indices
    for module in MODULES:
        check(module, logits.to(device, dtype), sampling, history.to(device))


@pytest.mark.parametrize("spread", [0.1, 30.0])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
def test_flat_and_steep_ones(spread: float, temperature: float, dtype: torch.dtype, device: str) -> None:
    logits = (spread * randn(12, VOCABULARY)).to(device, dtype)
    check(drawing_kernels, logits, Sampling(temperature), torch.zeros(12, 1, dtype=torch.long, device=device))


@pytest.mark.parametrize("top_k", [0, 2])
def test_the_largest_number_draws_a_token_that_may_be_drawn(top_k: int, device: str) -> None:
    logits = torch.full((1, VOCABULARY), -math.inf)
    logits[0, 1:5] = torch.tensor([0.3, -0.2, 0.1, -30.0])
    nothing, last = torch.zeros(1, 1, dtype=torch.long, device=device), torch.tensor(1 - 2**-53, dtype=torch.float64)
    draws = drawn(drawing_kernels, logits.to(device), Sampling(top_k=top_k), nothing, last)
    assert int(draws.tokens[0, 4]) in ((3, 4) if top_k == 0 else (3,))


def test_a_draw_that_has_ended_writes_nowhere(device: str) -> None:
    logits = randn(3, 100).to(device)
    draws = Draws(4, 8, 100, 1, logits.device)
    nobody = torch.zeros(3, dtype=torch.long, device=device)
    draws.begin(nobody, nobody, None, ends=[1], forbidden=[])
    draws.ended[1] = 1
    drawing_kernels.draw(logits, Sampling(0.0), draws, torch.arange(3, device=device))
    assert draws.lengths[:3].tolist() == [1, 0, 1]
    assert not draws.tokens[1].any()


LOGITS = st.lists(st.sampled_from([-math.inf, -8.0, -2.0, -0.5, 0.0, 0.25, 0.5, 3.0, 20.0]), min_size=8, max_size=40)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 2, 7, 1000]),
    top_p=st.sampled_from([1.0, 0.93, 0.61, 0.07, 0.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.33, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.6]),
)


@settings(max_examples=30)
@given(LOGITS, SAMPLINGS, st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_a_few_equal_logits(logits: list[float], sampling: Sampling, history: list[int]) -> None:
    """Bounds fall among equal logits, and on the only one."""
    rows = torch.tensor([[*logits, 0.125]] * 3)  # one of them may be drawn
    for module in MODULES if INTERPRETED else [plain]:
        check(module, rows, sampling, torch.tensor([history] * 3))


def test_engines_ask_for_what_a_greedy_draw_heeds() -> None:
    params = SamplingParams(temperature=0.0, top_k=3, top_p=0.5, min_p=0.1, repetition_penalty=1.2)
    assert Sampling.of(params) == Sampling(0.0, repetition_penalty=1.2)
    assert Sampling.of(replace(params, temperature=0.7)) == Sampling(0.7, 3, 0.5, 0.1, 1.2)
