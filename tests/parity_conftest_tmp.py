"""Tiny models and a few questions for the comparisons with TRL and transformers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medr1.data.phantom import phantom
from medr1.models.loading import save_processor
from medr1.models.tiny.build import TinyShape, build_model, build_processor
from medr1.models.tiny.tokenizer import train_tokenizer
from medr1.types import Sample


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random tiny checkpoint of each family."""
    tokenizer = train_tokenizer()
    folders = {}
    for family in ("qwen2_vl", "qwen2_5_vl"):
        folder = tmp_path_factory.mktemp(family)
        shape = TinyShape(family=family, hidden_size=64, intermediate_size=96, vision_width=32, vision_intermediate_size=64, vision_heads=2)
        model = build_model(shape, tokenizer, seed=1)
        with torch.no_grad():  # answers should depend visibly on the image
            model.model.visual.merger.mlp[2].weight.mul_(8)
        model.save_pretrained(folder)
        save_processor(build_processor(shape, tokenizer), family, folder)
        folders[family] = folder
    return folders


@pytest.fixture(scope="session")
def questions() -> list[Sample]:
    """Questions with one image, two images and none, of two sizes and several lengths."""
    samples = [phantom("train", index, side=56 if index % 2 else 84).sample for index in range(10)]
    samples[3] = replace(samples[3], images=(*samples[3].images, *samples[4].images))
    samples[6] = replace(samples[6], images=())
    return samples
