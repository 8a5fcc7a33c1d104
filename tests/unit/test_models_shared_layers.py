"""Norms, rotary embeddings and gated units against those of transformers, gradients against finite differences."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLRMSNorm,
    apply_rotary_pos_emb,
    apply_rotary_pos_emb_vision,
)

from medr1.models.loading import load_model
from medr1.models.shared import layers
from medr1.models.shared.layers import GatedUnit, RootMeanSquareNorm, RotaryEmbedding, lighten
from medr1.models.tiny.build import FAMILIES


def seeded(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_norm_by_hand() -> None:
    states, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 10.0])
    root = (12.5 + 0.5) ** 0.5
    torch.testing.assert_close(RootMeanSquareNorm.apply(states, weight, 0.5), torch.tensor([[3 / root, 40 / root]]))


def test_gradient_of_norm() -> None:
    states, weight = seeded(2, 3, 5, dtype=torch.float64), seeded(5, dtype=torch.float64, seed=1)
    # An epsilon as large as the states: one left out of the gradient shows.
    inputs = (states.requires_grad_(), weight.requires_grad_(), 0.7)
    assert torch.autograd.gradcheck(RootMeanSquareNorm.apply, inputs)
    # The gradient of what lies behind a transposition is not contiguous.
    assert torch.autograd.gradcheck(lambda *x: RootMeanSquareNorm.apply(*x).transpose(0, 1).contiguous(), inputs)


def test_norm_of_frozen_weight_or_states() -> None:
    states, weight = seeded(3, 4), seeded(4, seed=1)
    output = RootMeanSquareNorm.apply(states.requires_grad_(), weight, 1e-6)
    (of_states,) = torch.autograd.grad(output.square().sum(), [states])
    output = RootMeanSquareNorm.apply(states.detach(), weight.requires_grad_(), 1e-6)
    (of_weight,) = torch.autograd.grad(output.square().sum(), [weight])
    output = RootMeanSquareNorm.apply(states, weight, 1e-6)
    torch.testing.assert_close((of_states, of_weight), torch.autograd.grad(output.square().sum(), [states, weight]))


def test_rotary_by_hand() -> None:
    states = torch.tensor([1.0, 2.0, 30.0, 40.0])
    cosine, sine = torch.tensor([0.5, 0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = torch.tensor([0.5 - 30, 0.2 - 80, 6 + 3.0, 12 + 8.0])
    torch.testing.assert_close(RotaryEmbedding.apply(states, cosine, sine), expected)


def test_gradient_of_rotary_with_halves_that_differ() -> None:
    states = seeded(2, 3, 4, 6, dtype=torch.float64).transpose(1, 2).requires_grad_()
    cosine, sine = (seeded(2, 1, 3, 6, dtype=torch.float64, seed=n).expand(2, 4, 3, 6) for n in (1, 2))
    assert torch.autograd.gradcheck(RotaryEmbedding.apply, (states, cosine, sine))


@pytest.mark.parametrize("text", [True, False])
def test_rotary_is_that_of_transformers(text: bool) -> None:
    original = apply_rotary_pos_emb if text else apply_rotary_pos_emb_vision
    shape, angles = ((2, 4, 7, 8), (2, 7, 8)) if text else ((7, 4, 8), (7, 8))
    states = [seeded(*shape, seed=seed).requires_grad_() for seed in (0, 1)]
    cosine, sine = seeded(*angles, seed=2).cos(), seeded(*angles, seed=2).sin()
    ours = layers._fused_rotary(None, layers.HEADS_AXES[original.__name__])(*states, cosine, sine)  # type: ignore[arg-type]
    theirs = original(*states, cosine, sine)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    if text:  # of transformers' gradient the halves of the sine must not differ
        return
    grads = [torch.autograd.grad(sum((x**2).sum() for x in turned), states) for turned in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_gated_unit() -> None:
    gate, other = (seeded(2, 3, 4, dtype=torch.float64, seed=seed).requires_grad_() for seed in (0, 1))
    torch.testing.assert_close(GatedUnit.apply(gate, other), gate * torch.sigmoid(gate) * other)
    assert torch.autograd.gradcheck(GatedUnit.apply, (gate, other))
    assert torch.autograd.gradcheck(lambda *x: GatedUnit.apply(*x).transpose(0, 1).contiguous(), (gate, other))


def loss_and_gradients(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a prompt with an image of 4 × 6 patches and of one without, padded."""
    config = model.config
    ids = torch.arange(24).view(2, 12) % 90
    ids[0, 2:8] = config.image_token_id
    patch = model.model.visual.patch_embed.proj.weight[0].numel()
    output = model(
        input_ids=ids,
        attention_mask=torch.tensor([[1] * 12, [0] * 3 + [1] * 9]),
        mm_token_type_ids=(ids == config.image_token_id).int(),
        pixel_values=seeded(24, patch).to(model.dtype),
        image_grid_thw=torch.tensor([[1, 4, 6]]),
        labels=ids,
    )
    output.loss.backward()
    return output.loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_that_of_transformers(
    checkpoints: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        function = getattr(layers, name)
        return SimpleNamespace(apply=lambda *args: calls.update([name]) or function.apply(*args))

    for name in ("RootMeanSquareNorm", "RotaryEmbedding", "GatedUnit"):
        monkeypatch.setattr(layers, name, counted(name))
    plain = AutoModelForImageTextToText.from_pretrained(checkpoints[family], dtype=torch.float32).eval()
    ours = load_model(checkpoints[family], dtype=torch.float32)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    (loss, grads), (plain_loss, plain_grads) = loss_and_gradients(ours), loss_and_gradients(plain)
    text, vision = ours.config.text_config.num_hidden_layers, ours.config.vision_config.depth
    # Of the three families one has gated units and such norms in its vision tower, one norms of queries and keys.
    norms = {"qwen2_vl": 2 * text, "qwen2_5_vl": 2 * text + 2 * vision + 1, "qwen3_vl": 4 * text}[family] + 1
    gated = text + (vision if family == "qwen2_5_vl" else 0)
    assert calls == {"RootMeanSquareNorm": norms, "RotaryEmbedding": 2 * (text + vision), "GatedUnit": gated}
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
    assert grads.keys() == plain_grads.keys()
    # Keys shift all scores of a query nearly alike: their gradient is what is left after much has cancelled.
    rounding = 1e-6 * torch.cat([grad.flatten() for grad in plain_grads.values()]).norm()
    for name, grad in grads.items():
        assert (grad - plain_grads[name]).norm() <= 1e-4 * plain_grads[name].norm() + rounding, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_transformers(checkpoints: dict[str, Path], dtype: torch.dtype) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(checkpoints["qwen2_5_vl"], dtype=dtype).eval()
    before, grads_before = loss_and_gradients(plain)
    plain.zero_grad()
    lighten(plain)
    assert any(type(m).__module__ == layers.__name__ for m in plain.modules())
    after, grads_after = loss_and_gradients(plain)
    assert torch.equal(before, after)
    assert all(torch.equal(grads_before[name], grads_after[name]) for name in grads_before)


def test_other_modules_stay() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.RMSNorm(4), Qwen2_5_VLRMSNorm(4))
    lighten(model)
    assert [type(m).__module__ == layers.__name__ for m in model] == [False, False, True]
    assert isinstance(model[2], Qwen2_5_VLRMSNorm)
    kinds = [type(m) for m in model]
    lighten(model)
    assert [type(m).__name__ for m in model] == [kind.__name__ for kind in kinds]
