"""The true shapes of Qwen-VL checkpoints, models of them with random weights, and how much arithmetic they are.

Arithmetic, per matrix product of a map (in, out): 2 in out a token forward, twice that backward (Kaplan et al., Scaling
Laws for Neural Language Models, 2020, section 2.1). Attention: 4 H D a layer and pair of a token and one that it sees,
no pairs that the mask hides. MFU counts the tokens sent through once each and nothing that is computed again (Chowdhery
et al., PaLM, 2022, appendix B), against the matmul rate measured here. A decoding step must read the weights of the
layers and of the head, each prompt's keys and values once and each draw's own; the bound is these bytes over the copy
bandwidth measured here.

Axes: G completions per prompt, C completion tokens, L prompt tokens, H query heads, D head size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from medr1.models.shared.pack import PromptTensors
from medr1.models.tiny.build import FAMILIES, MERGE

PATCH_VALUES = 3 * 2 * 14 * 14
"""Numbers of a patch: colours, frames, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a checkpoint, as its `config.json` has them."""

    family: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vision_width: int
    vision_depth: int
    vision_heads: int
    vision_intermediate_size: int
    vision_maps: int
    """Matrices of a feed-forward part of the vision tower: two, or three where it is gated."""
    window: int | None = None
    """Patches a side of an attention window of the vision tower."""
    full_attention: tuple[int, ...] = ()
    """Its layers without windows, where it has windows."""
    vocab_size: int = 151_936

    def cut(self, layers: int | None, vision_layers: int | None) -> "Shape":
        """The same with fewer layers."""
        return replace(self, num_layers=layers or self.num_layers, vision_depth=vision_layers or self.vision_depth)

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values, of one layer."""
        return self.hidden_size // self.num_heads * self.num_kv_heads

    @property
    def layer_maps(self) -> int:
        """Parameters in the matrices of a text layer."""
        hidden = self.hidden_size
        return 2 * hidden * hidden + 2 * hidden * self.kv_size + 3 * hidden * self.intermediate_size

    @property
    def layer_parameters(self) -> int:
        """All parameters of a text layer: with the biases of queries, keys and values, and the two norms."""
        return self.layer_maps + 3 * self.hidden_size + 2 * self.kv_size


SHAPES = {
    "qwen2-vl-2b": Shape(
        family="qwen2_vl", hidden_size=1536, num_layers=28, num_heads=12, num_kv_heads=2, intermediate_size=8960,
        vision_width=1280, vision_depth=32, vision_heads=16, vision_intermediate_size=5120, vision_maps=2,
    ),
    "qwen2.5-vl-3b": Shape(
        family="qwen2_5_vl", hidden_size=2048, num_layers=36, num_heads=16, num_kv_heads=2, intermediate_size=11008,
        vision_width=1280, vision_depth=32, vision_heads=16, vision_intermediate_size=3420, vision_maps=3,
        window=8, full_attention=(7, 15, 23, 31),
    ),
}  # fmt: skip


def text_flops(shape: Shape, prompt: int, group: int, new: int) -> int:
    """Forward FLOPs of a packed row: L - 1 shared tokens, G times C tokens, the head on the latter."""
    tokens = prompt - 1 + group * new
    pairs = (prompt - 1) * prompt // 2 + group * (new * (prompt - 1) + new * (new + 1) // 2)
    layers = shape.num_layers * (2 * shape.layer_maps * tokens + 4 * shape.hidden_size * pairs)
    return layers + 2 * shape.hidden_size * shape.vocab_size * group * new


def vision_flops(shape: Shape, height: int, width: int) -> int:
    """Forward FLOPs of an image of height x width patches, with the merger behind the tower."""
    size, patches = shape.vision_width, height * width
    block = 2 * patches * (4 * size * size + shape.vision_maps * size * shape.vision_intermediate_size)
    windows = [patches * patches] * shape.vision_depth
    if shape.window is not None:
        seen = math.prod(_windows(side, shape.window) for side in (height, width))
        windows = [full if layer in shape.full_attention else seen for layer, full in enumerate(windows)]
    merged = MERGE * MERGE * size
    merger = 2 * patches // MERGE**2 * (merged * merged + merged * shape.hidden_size)
    return 2 * patches * PATCH_VALUES * size + shape.vision_depth * block + 4 * size * sum(windows) + merger


def _windows(side: int, window: int) -> int:
    """Sum of the squared widths of the windows along a side."""
    whole, rest = divmod(side, window)
    return whole * window**2 + rest**2


def update_flops(shape: Shape, prompts: Sequence[PromptTensors], group: int, new: int) -> int:
    """FLOPs of forward and backward over the packed rows of the prompts, each image encoded once."""
    text = sum(text_flops(shape, len(prompt.input_ids_L), group, new) for prompt in prompts)
    grids = [grid for prompt in prompts if prompt.image_grid_thw is not None for grid in prompt.image_grid_thw.tolist()]
    return 3 * (text + sum(vision_flops(shape, height, width) for _, height, width in grids))


def decode_bytes(shape: Shape, prompt_tokens: int, rows: int, new: int, itemsize: int) -> float:
    """Bytes that a decoding step reads, on average over the steps behind the first of `new` tokens."""
    weights = shape.num_layers * shape.layer_parameters + shape.hidden_size * (1 + shape.vocab_size)
    states = prompt_tokens + rows * new / 2
    return itemsize * (weights + 2 * shape.num_layers * shape.kv_size * states)


def random_model(shape: Shape, tokenizer: Any, *, device: str, dtype: str, seed: int = 0) -> Any:
    """The model of a shape with seeded random weights, made on the device."""
    head = shape.hidden_size // shape.num_heads
    spatial = 3 * head // 16
    vision: dict[str, Any] = dict(depth=shape.vision_depth, num_heads=shape.vision_heads, patch_size=14)
    if shape.window is None:
        vision |= dict(embed_dim=shape.vision_width, hidden_size=shape.hidden_size)
        vision |= dict(mlp_ratio=shape.vision_intermediate_size // shape.vision_width)
    else:
        vision |= dict(hidden_size=shape.vision_width, intermediate_size=shape.vision_intermediate_size)
        vision |= dict(out_hidden_size=shape.hidden_size, window_size=14 * shape.window)
        vision |= dict(fullatt_block_indexes=list(shape.full_attention))
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    config = FAMILIES[shape.family].config(
        text_config=dict(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            max_position_embeddings=32_768,
            rope_parameters=dict(
                rope_type="default", rope_theta=1e6, mrope_section=[head // 2 - 2 * spatial, spatial, spatial]
            ),
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config=vision,
        tie_word_embeddings=True,
        **{key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()},
    )
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
