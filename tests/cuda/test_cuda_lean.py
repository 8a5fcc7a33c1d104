"""Written-out gradients of norms, rotary embeddings and gated units; on a CPU their kernels in Triton's interpreter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

pytest.importorskip("triton")

from devices import KERNEL_DEVICES
from medr1.models.loading import load_model, load_processor
from medr1.models.shared import kernels
from medr1.models.tiny.build import FAMILIES


@pytest.fixture(params=KERNEL_DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def randn(*shape: int, device: str, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def gradients(function: Callable[..., Tensor], *inputs: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().double().requires_grad_() for x in inputs]
    output = function(*leaves)
    return output, *torch.autograd.grad(output, leaves, grad.double())


def close(ours: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("rows", "width"), [(3, 64), (300, 96)])
def test_norm(device: str, rows: int, width: int) -> None:
    states, weight = 2 * randn(rows, width, device=device), 1 + randn(width, device=device, seed=1)
    grad = randn(rows, width, device=device, seed=2)

    def plain(states: Tensor, weight: Tensor) -> Tensor:
        return weight * states * (states.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    output, inverse = kernels.norm(states, weight, 1e-6)
    close((output, *kernels.norm_back(grad, states, weight, inverse)), gradients(plain, states, weight, grad=grad))


@pytest.mark.parametrize(("heads", "size"), [(2, 16), (12, 80), (7, 128)])
def test_turn(device: str, heads: int, size: int) -> None:
    states = randn(5, heads + 3, size, device=device)[:, :heads]  # the heads of a token stand apart from the next's
    cosine, sine = randn(5, size, device=device, seed=1), randn(5, size, device=device, seed=2)
    grad = randn(5, heads, size, device=device, seed=3)

    def plain(states: Tensor) -> Tensor:
        first, second = states.chunk(2, -1)
        return states * cosine.double()[:, None] + torch.cat([-second, first], -1) * sine.double()[:, None]

    ours = kernels.turn(states, cosine, sine), kernels.turn(grad, cosine, sine, back=True)
    close(ours, gradients(plain, states, grad=grad))


def test_gate(device: str) -> None:
    gate, other, grad = (3 * randn(7, 300, device=device, seed=seed) for seed in range(3))
    ours = kernels.gate(gate, other), *kernels.gate_back(grad, gate, other)
    close(ours, gradients(lambda a, b: silu(a) * b, gate, other, grad=grad))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lean_model_is_the_model(
    checkpoints: dict[str, Path], family: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and gradients against float32 of transformers' own modules; bfloat16 no worse than theirs."""
    from PIL import Image

    processor: Any = load_processor(checkpoints[family])
    images = [Image.effect_noise((side, 84), 60).convert("RGB") for side in (56, 112)]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What is seen here?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    inputs = processor(text=[text], images=images, return_tensors="pt").to("cuda")

    def run(dtype: str, *, lean: bool) -> list[Tensor]:
        with monkeypatch.context() as patch:
            if not lean:
                patch.setattr("medr1.models.loading.lighten", lambda _: None)
            model: Any = load_model(checkpoints[family], device="cuda", dtype=dtype)
        logits = model(**inputs).logits
        logits.float().log_softmax(-1)[..., 5].sum().backward()
        return [logits.detach().float(), *(w.grad.float() for w in model.parameters() if w.grad is not None)]

    exact = run("float32", lean=False)
    ours, theirs = run(dtype, lean=True), run(dtype, lean=False)

    def error(found: list[Tensor]) -> float:
        flat, wanted = (torch.cat([x.flatten() for x in some[1:]]) for some in (found, exact))
        return max(float((a - b).norm() / b.norm()) for a, b in ((flat, wanted), (found[0], exact[0])))

    assert len(ours) == len(theirs) == len(exact)
    assert any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), "the same functions ran twice"
    assert error(ours) <= (1e-4 if dtype == "float32" else 1.5 * error(theirs))
