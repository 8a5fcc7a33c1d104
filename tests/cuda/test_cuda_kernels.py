"""The kernels of a decoding step against the same in PyTorch; on a CPU in Triton's interpreter."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from devices import KERNEL_DEVICES
from medr1.engines import kernels, plain
from medr1.engines.buffers import Draws, States

TYPES = {"cpu": ["float32"], "cuda": ["float32", "bfloat16"]}
"""The interpreter multiplies the bits of bfloat16 as integers."""


@pytest.fixture(params=KERNEL_DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest, device: str) -> torch.dtype:
    if request.param not in TYPES[device]:
        pytest.skip(f"no {request.param} in Triton's interpreter")
    return getattr(torch, request.param)


def close(ours: Tensor, wanted: Tensor) -> None:
    """Equal in float32 up to the order of sums."""
    torch.testing.assert_close(ours.float(), wanted.float(), rtol=1e-5, atol=1e-5)


def as_exact(ours: Tensor, plain: Tensor, exact: Tensor) -> None:
    """Equal to the exact result in float32; in narrow types no farther from it than PyTorch's operations are."""
    if ours.dtype == torch.float32:
        close(ours, exact)
    else:
        errors = [float((x.float() - exact).norm()) for x in (ours, plain)]
        assert errors[0] <= 1.2 * errors[1], errors


def randn(*shape: int, dtype: torch.dtype, device: str, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


@pytest.mark.parametrize("width", [64, 1536, 1600])
def test_norm(width: int, dtype: torch.dtype, device: str) -> None:
    hidden = 3 * randn(5, width, dtype=dtype, device=device)
    weight = 1 + randn(width, dtype=dtype, device=device, seed=1)
    exact = plain.norm(hidden.float(), weight.float(), 1e-6)
    as_exact(kernels.norm(hidden, weight, 1e-6), plain.norm(hidden, weight, 1e-6), exact)


@pytest.mark.parametrize("width", [96, 1024, 1500])
def test_gated(width: int, dtype: torch.dtype, device: str) -> None:
    gate_up = 4 * randn(5, 2 * width, dtype=dtype, device=device)
    as_exact(kernels.gated(gate_up), plain.gated(gate_up), plain.gated(gate_up.float()))


@dataclass
class Case:
    """Attention of some families and sizes."""

    heads: int
    kv_heads: int
    size: int
    normed: bool = False
    step: int = 70


CASES = {
    "2B": Case(12, 2, 128),
    "7B": Case(28, 4, 128, step=3),
    "tiny": Case(4, 2, 16),
    "Qwen3": Case(4, 2, 32, normed=True),
    "one head": Case(2, 2, 64, normed=True, step=0),
}


def filled(case: Case, rows: int, like: Tensor) -> tuple[States, Draws]:
    """States with something in every place, and draws of three prompts; rounded where `like` is wide as well."""
    states = States(2, 3, 128, rows + 2, 128, case.kv_heads, case.size, like=like)
    parts = states.prompt_keys, states.prompt_values, states.own_keys, states.own_values
    for seed, part in enumerate(parts, start=3):
        for index, tensor in enumerate(part):
            tensor.copy_(rounded(*tensor.shape, like=like, seed=10 * index + seed))
    states.bounds.copy_(torch.tensor([[0, 128], [13, 100], [99, 100]]))
    draws = Draws(rows + 2, 128, 10, 1, like.device)
    draws.step.fill_(case.step)
    draws.prompt[:6] = torch.tensor([0, 2, 1, 1, 0, 2])
    return states, draws


def rounded(*shape: int, like: Tensor, seed: int) -> Tensor:
    return randn(*shape, dtype=torch.bfloat16, device=str(like.device), seed=seed).to(like.dtype)


@pytest.mark.parametrize("name", CASES)
def test_attend(name: str, dtype: torch.dtype, device: str) -> None:
    case, rows = CASES[name], 5
    slots = torch.tensor([4, 0, 5, 1, 2], device=device)
    angles = 3 * randn(rows, case.size // 2, dtype=torch.float32, device=device, seed=2)

    def run(module: Any, dtype: torch.dtype) -> tuple[Tensor, States]:
        like = torch.empty(0, dtype=dtype, device=device)
        states, draws = filled(case, rows, like)
        new = rounded(rows, case.heads + 2 * case.kv_heads, case.size, like=like, seed=1)
        weights = [1 + rounded(case.size, like=like, seed=seed) for seed in (7, 8)]
        norms = (weights[0], weights[1], 1e-6) if case.normed else None
        return module.attend(new, (angles.cos(), angles.sin()), norms, 1, states, draws, slots), states

    (ours, kept), (theirs, others), (exact, wanted) = (
        run(module, kind) for module, kind in ((kernels, dtype), (plain, dtype), (plain, torch.float32))
    )
    as_exact(ours, theirs, exact)
    as_exact(kept.own_keys[1], others.own_keys[1], wanted.own_keys[1])
    assert torch.equal(kept.own_values[1], others.own_values[1])
    assert torch.equal(kept.own_keys[0], others.own_keys[0])
