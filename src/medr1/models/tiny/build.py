"""Makes the tiny model: the same classes as the real checkpoints, at about a millionth of their cost."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from medr1.models.loading import PROCESSORS, image_only, save_checkpoint
from medr1.models.tiny.circuits import look_back_heads, option_lookup
from medr1.models.tiny.tokenizer import train_tokenizer

FAMILIES = ("qwen2_5_vl", "qwen2_vl")
"""Families that there is a tiny model of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Sizes of the tiny model; the default has about a million parameters."""

    family: str = "qwen2_5_vl"
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    intermediate_size: int = 352
    vision_depth: int = 2
    vision_width: int = 96
    vision_intermediate_size: int = 256
    vision_heads: int = 4
    rope_theta: float = 1000.0
    image_side: int = 84
    """Largest square image in pixels; bigger ones are resized to its area."""


def build_processor(shape: TinyShape, tokenizer: Any) -> ProcessorMixin:
    """Processor of the family around a tokenizer, with the image processor on PIL."""
    image_processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28 * 28, "longest_edge": shape.image_side * shape.image_side}
    )
    return image_only(PROCESSORS[shape.family])(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )


def build_model(shape: TinyShape, tokenizer: Any, *, seed: int = 0) -> PreTrainedModel:
    """Network with seeded random weights and the starting circuits of `medr1.models.tiny.circuits`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _random_model(shape, tokenizer)
        look_back_heads(model, theta=shape.rope_theta)
        option_lookup(model, theta=shape.rope_theta)
    return model.eval()


def save_random(shape: TinyShape, folder: str | Path, *, seed: int = 0) -> None:
    """Write an untrained tiny model with its processor, in the ordinary checkpoint layout."""
    tokenizer = train_tokenizer()
    save_checkpoint(build_model(shape, tokenizer, seed=seed), build_processor(shape, tokenizer), folder)


def _random_model(shape: TinyShape, tokenizer: Any) -> PreTrainedModel:
    half = shape.hidden_size // shape.num_heads // 2
    spatial = (half - half // 4) // 2
    text = dict(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=1024,
        initializer_range=0.06,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": shape.rope_theta,
            "mrope_section": [half - 2 * spatial, spatial, spatial],
        },
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision: dict[str, Any] = dict(depth=shape.vision_depth, num_heads=shape.vision_heads, initializer_range=0.06)
    if shape.family == "qwen2_5_vl":
        config_class, model_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
        vision |= dict(
            hidden_size=shape.vision_width,
            intermediate_size=shape.vision_intermediate_size,
            out_hidden_size=shape.hidden_size,
            fullatt_block_indexes=list(range(shape.vision_depth)),  # nine tokens need no windows
            window_size=112,
        )
    else:
        config_class, model_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration
        ratio = round(shape.vision_intermediate_size / shape.vision_width)
        vision |= dict(embed_dim=shape.vision_width, hidden_size=shape.hidden_size, mlp_ratio=ratio)
    config = config_class(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,  # tied embeddings of this size are drowned by the first layer
    )
    model = model_class(config)  # type: ignore[arg-type]
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight.normal_(0, 0.3)
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                weight.mul_(1 / math.sqrt(2 * shape.num_layers))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model
