"""The tiny models have what sets their families apart, at sizes that show it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medr1.models.loading import load_model, load_processor
from medr1.models.shared.pack import encode_prompts, left_padded
from medr1.models.tiny.build import FAMILIES, TinyShape, build_model, build_processor
from medr1.models.tiny.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer()


@pytest.mark.parametrize(
    ("family", "sections", "parameters"),
    [("qwen2_vl", [4, 6, 6], 1.02e6), ("qwen2_5_vl", [4, 6, 6], 1.06e6), ("qwen3_vl", [10, 7, 7], 1.30e6)],
)
def test_shares_of_the_rotary_axes(tokenizer: Any, family: str, sections: list[int], parameters: float) -> None:
    """A quarter of the frequencies for time, as in Qwen2-VL; in Qwen3-VL, which deals them out in turn, 24 of 64."""
    model = build_model(TinyShape(family=family), tokenizer)
    text = model.config.get_text_config()
    assert text.rope_parameters["mrope_section"] == sections
    assert model.model.language_model.rotary_emb.inv_freq.shape == (sum(sections),)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_of_the_shape_is_nine_tokens(tokenizer: Any, family: str) -> None:
    processor = build_processor(TinyShape(family=family), tokenizer)
    inputs = processor(text=["<|image_pad|>"], images=[Image.new("RGB", (84, 84))], return_tensors="pt")  # type: ignore[operator]
    assert inputs["input_ids"].shape == (1, 9)
    huge = processor(text=["<|image_pad|>"], images=[Image.new("RGB", (500, 500))], return_tensors="pt")  # type: ignore[operator]
    assert huge["input_ids"].shape == (1, 9)


def test_qwen3_vl_has_its_peculiarities(tokenizer: Any) -> None:
    text = build_model(TinyShape(family="qwen3_vl"), tokenizer).config.get_text_config()
    assert text.head_dim * text.num_attention_heads > text.hidden_size
    sections = text.rope_parameters["mrope_section"]
    assert sections[0] >= sections[1] == sections[2], "the axes take turns, so time cannot have the smallest share"


def test_deepstack_reaches_the_answer(checkpoints: dict[str, Path]) -> None:
    """What the inner vision layers hand to the text layers changes what is said after the image."""
    processor: Any = load_processor(checkpoints["qwen3_vl"])
    model: Any = load_model(checkpoints["qwen3_vl"], dtype="float32")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    text = "<|vision_start|><|image_pad|><|vision_end|>Which finding is present?"
    batch = left_padded(encode_prompts(processor, model, [text], [[picture]]), processor.tokenizer.pad_token_id)
    with torch.no_grad():
        whole = model(**batch).logits[0, -1]
        for merger in model.model.visual.deepstack_merger_list:
            merger.linear_fc2.weight.zero_()
        without = model(**batch).logits[0, -1]
    assert float((whole - without).abs().max()) > 0.01
