"""Patch embeddings as products against the convolutions of transformers."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from medr1.models.loading import load_model
from medr1.models.shared.layers import PatchProduct, multiply_patches
from medr1.models.tiny.build import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_embeds_patches_as_its_convolution_does(checkpoints: dict[str, Path], family: str) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(checkpoints[family], dtype=torch.float64)
    ours = load_model(checkpoints[family], dtype=torch.float64)
    embedded = []
    for model in (plain, ours):
        embedding = model.model.visual.patch_embed
        patches = torch.randn(10, embedding.proj.weight[0].numel(), generator=torch.Generator().manual_seed(0)).double()
        patches.requires_grad_()
        output = embedding(patches)
        (output**2).sum().backward()
        assert embedding.proj.weight.grad is not None
        embedded.append((output, patches.grad, embedding.proj.weight.grad))
    assert [type(model.model.visual.patch_embed.proj) for model in (plain, ours)] == [nn.Conv3d, PatchProduct]
    torch.testing.assert_close(embedded[1], embedded[0], rtol=1e-12, atol=1e-12)
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_overlapping_windows_stay_a_convolution() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 2, stride=1), nn.Conv3d(4, 5, 2, stride=2))
    multiply_patches(model)
    assert [type(module) for module in model] == [nn.Conv3d, PatchProduct]
    patches = torch.randn(7, 4, 2, 2, 2)
    torch.testing.assert_close(model[1](patches), nn.Conv3d.forward(model[1], patches))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="as large as"):
        model[1](torch.ones(1, 4, 4, 4, 4))
