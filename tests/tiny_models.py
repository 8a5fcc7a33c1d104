"""Tiny models and a few questions, for comparisons with TRL and transformers and for whole runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medr1.data.phantom import phantom
from medr1.types import Sample


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random tiny checkpoint of each family."""
    from medr1.models.loading import save_checkpoint
    from medr1.models.tiny.build import FAMILIES, TinyShape, build_model, build_processor
    from medr1.models.tiny.tokenizer import train_tokenizer

    tokenizer = train_tokenizer()
    folders = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        shape = TinyShape(
            family=family,
            hidden_size=64,
            intermediate_size=96,
            vision_width=32,
            vision_intermediate_size=64,
            vision_heads=2,
        )
        model = build_model(shape, tokenizer, seed=1)
        with torch.no_grad():  # answers should depend visibly on the image
            for name, weight in model.model.visual.named_parameters():
                if "merger" in name and name.endswith(("mlp.2.weight", "linear_fc2.weight")):
                    weight.mul_(8)
        save_checkpoint(model, build_processor(shape, tokenizer), folder)
        folders[family] = folder
    return folders


@pytest.fixture(scope="session")
def questions() -> list[Sample]:
    """Questions with one image, two images and none, of two sizes and several lengths."""
    samples = [phantom("train", index, side=56 if index % 2 else 84).sample for index in range(10)]
    samples[3] = replace(samples[3], images=(*samples[3].images, *samples[4].images))
    samples[6] = replace(samples[6], images=())
    return samples
