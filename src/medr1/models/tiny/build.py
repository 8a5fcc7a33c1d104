"""Makes the tiny model: the same classes as the real checkpoints, at about a millionth of their cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from medr1.models.loading import PROCESSORS, image_only, save_checkpoint
from medr1.models.tiny.circuits import look_back_heads, option_lookup
from medr1.models.tiny.tokenizer import train_tokenizer

MERGE = 2
"""Patches a side that become one image token."""


@dataclass(frozen=True, slots=True)
class Family:
    """What the tiny models of a family are made of."""

    config: Callable[..., PreTrainedConfig]
    model: Callable[..., PreTrainedModel]
    patch_size: int = 14
    image_mean: Sequence[float] = tuple(OPENAI_CLIP_MEAN)
    image_std: Sequence[float] = tuple(OPENAI_CLIP_STD)
    circuits: bool = True
    """Whether its attention has the biases of the starting circuits, without which the warm start does not learn."""


FAMILIES: dict[str, Family] = {
    "qwen2_5_vl": Family(Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen2_vl": Family(Qwen2VLConfig, Qwen2VLForConditionalGeneration),
    "qwen3_vl": Family(
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        patch_size=16,
        image_mean=IMAGENET_STANDARD_MEAN,
        image_std=IMAGENET_STANDARD_STD,
        circuits=False,
    ),
}
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
    """Largest square image in pixels, rounded up to the patch grid; bigger ones are resized to its area."""


def build_processor(shape: TinyShape, tokenizer: Any) -> ProcessorMixin:
    """Processor of the family around a tokenizer, with the image processor on PIL."""
    family = FAMILIES[shape.family]
    step = MERGE * family.patch_size
    largest = math.ceil(shape.image_side / step) * step
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=family.patch_size,
        merge_size=MERGE,
        size={"shortest_edge": step * step, "longest_edge": largest * largest},
        image_mean=list(family.image_mean),
        image_std=list(family.image_std),
    )
    return image_only(PROCESSORS[shape.family])(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )


def build_model(shape: TinyShape, tokenizer: Any, *, seed: int = 0) -> PreTrainedModel:
    """Network with seeded random weights and, if the family has them, `medr1.models.tiny.circuits`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _random_model(shape, tokenizer)
        if FAMILIES[shape.family].circuits:
            look_back_heads(model, theta=shape.rope_theta)
            option_lookup(model, theta=shape.rope_theta)
    return model.eval()


def save_random(shape: TinyShape, folder: str | Path, *, seed: int = 0) -> None:
    """Write an untrained tiny model with its processor, in the ordinary checkpoint layout."""
    tokenizer = train_tokenizer()
    save_checkpoint(build_model(shape, tokenizer, seed=seed), build_processor(shape, tokenizer), folder)


def _text_settings(shape: TinyShape, tokenizer: Any) -> dict[str, Any]:
    settings: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=1024,
        initializer_range=0.06,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": shape.rope_theta}
    half = shape.hidden_size // shape.num_heads // 2
    if shape.family == "qwen3_vl":
        half += half // 2  # as in the 4B model, the heads together are wider than the hidden states
        settings["head_dim"] = 2 * half
        spatial = half * 20 // 64
        rope["mrope_interleaved"] = True
    else:
        spatial = (half - half // 4) // 2
    return settings | {"rope_parameters": rope | {"mrope_section": [half - 2 * spatial, spatial, spatial]}}


def _vision_settings(shape: TinyShape) -> dict[str, Any]:
    settings: dict[str, Any] = dict(
        depth=shape.vision_depth,
        num_heads=shape.vision_heads,
        patch_size=FAMILIES[shape.family].patch_size,
        spatial_merge_size=MERGE,
        initializer_range=0.06,
    )
    if shape.family == "qwen2_vl":
        ratio = round(shape.vision_intermediate_size / shape.vision_width)
        return settings | dict(embed_dim=shape.vision_width, hidden_size=shape.hidden_size, mlp_ratio=ratio)
    settings |= dict(
        hidden_size=shape.vision_width,
        intermediate_size=shape.vision_intermediate_size,
        out_hidden_size=shape.hidden_size,
    )
    if shape.family == "qwen2_5_vl":
        # Nine tokens need no windows.
        return settings | dict(fullatt_block_indexes=list(range(shape.vision_depth)), window_size=112)
    # DeepStack adds to the outputs of the first text layers; what is added to the last one's, no other layer reads.
    read = min(shape.vision_depth, shape.num_layers - 1)
    return settings | dict(num_position_embeddings=64, deepstack_visual_indexes=list(range(read)))


def _random_model(shape: TinyShape, tokenizer: Any) -> PreTrainedModel:
    family = FAMILIES[shape.family]
    config = family.config(
        text_config=_text_settings(shape, tokenizer),
        vision_config=_vision_settings(shape),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,  # tied embeddings of this size are drowned by the first layer
    )
    model = family.model(config)
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight.normal_(0, 0.3)
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                weight.mul_(1 / math.sqrt(2 * shape.num_layers))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model
