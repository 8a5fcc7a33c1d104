"""A decoding step of a small model on a CPU, where calling the model costs as much as its arithmetic.

The weights of a layer are joined and transposed once per rollout (queries, keys and values in one product, gate and up
in another; a product of a few rows with a contiguous transpose is up to twice as fast as with the weight as `nn.Linear`
holds it), and a step runs without the model's own modules. The same function as the model's, up to rounding.

Axes: N batch rows, E hidden size, H query heads, K key-value heads, D head size, F width of the feed-forward part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from medr1.models.prefix import backbone
from medr1.rollout.decode import SharedPrefixCache

FAMILIES = {"qwen2_vl", "qwen2_5_vl"}
"""Model types whose text layers are the ones written out here."""
WIDE = {torch.float32, torch.float64}
"""Types in which the norms may be computed as they are."""
SMALL_PRODUCT = 2**23
"""Multiply-adds of a matrix product below which calls, not arithmetic, take the time (measured)."""


def is_small(text_config: Any, rows: int, device: torch.device) -> bool:
    """Whether a decoding step of `rows` rows is too small to keep a processor busy (never on a GPU)."""
    return device.type == "cpu" and rows * text_config.hidden_size * text_config.intermediate_size <= SMALL_PRODUCT


def can_fuse(model: nn.Module) -> bool:
    """Whether the model is plain: no adapter, quantised or sharded weight, hook, autocast or sliding window."""
    if getattr(getattr(model, "config", None), "model_type", None) not in FAMILIES:
        return False
    text = backbone(model).language_model
    modules = [model.lm_head, *text.modules()]
    kinds = set(getattr(text.config, "layer_types", None) or ["full_attention"])
    return (
        kinds == {"full_attention"}
        and not torch.is_autocast_enabled("cpu")
        and text.config.hidden_act == "silu"
        # Adapters and quantised maps are other classes, sharded weights no plain parameters.
        and all(type(m) is nn.Linear for m in modules if isinstance(m, nn.Linear) or hasattr(m, "base_layer"))
        and all(type(p) is nn.Parameter and p.dtype in WIDE for p in text.parameters())
        and not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in modules)
        # TRL replaces the forward of the whole, for its fused head; accelerate does so for autocast, and notes it.
        and not (model._forward_hooks or model._forward_pre_hooks or "_original_forward" in vars(model))
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of one layer, transposed; those of a norm are multiplied into the map behind it."""

    qkv_EX: Tensor
    """X: (H + K + K) * D, the rows of queries, keys and values."""
    qkv_bias_X: Tensor
    output_XE: Tensor
    gate_up_EF: Tensor
    down_FE: Tensor


class FusedDecoder:
    """The text model of a Qwen2-VL or Qwen2.5-VL for one new token per row."""

    def __init__(self, model: Any, cache: SharedPrefixCache) -> None:
        assert can_fuse(model), "the caller asks can_fuse first"
        text = backbone(model).language_model
        config = text.config
        self.cache, self.heads, self.kv_heads = cache, config.num_attention_heads, config.num_key_value_heads
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        # sqrt(mean(x^2) + eps) = hypot(|x|, epsilon) / sqrt(E).
        self.epsilon = text.norm.weight.new_tensor(config.rms_norm_eps * config.hidden_size).sqrt()
        self.embedding = text.embed_tokens.weight
        self.head_EV = _transposed([model.lm_head], text.norm)
        # The three axes of M-RoPE stand at the same position behind the prompt: the rotation is the ordinary one.
        self.frequencies, self.rotation_scaling = text.rotary_emb.inv_freq, text.rotary_emb.attention_scaling
        self.layers = [
            _Layer(
                qkv_EX=_transposed([attention.q_proj, attention.k_proj, attention.v_proj], layer.input_layernorm),
                qkv_bias_X=torch.cat([attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias]),
                output_XE=_transposed([attention.o_proj]),
                gate_up_EF=_transposed([layer.mlp.gate_proj, layer.mlp.up_proj], layer.post_attention_layernorm),
                down_FE=_transposed([layer.mlp.down_proj]),
            )
            for layer in text.layers
            for attention in [layer.self_attn]
        ]

    def __call__(self, token_N: Tensor, position_N: Tensor) -> Tensor:
        """Logits (N, V) behind one token per row at its position; the cache has made room for it."""
        hidden_NE = embedding(token_N, self.embedding)
        rows, width = hidden_NE.shape
        rotated = self.heads + self.kv_heads
        cosine_N1D, sine_N1D = self._rotation(position_N, hidden_NE.dtype)
        for index, layer in enumerate(self.layers):
            states = torch.addmm(layer.qkv_bias_X, self._normed(hidden_NE), layer.qkv_EX).view(rows, -1, self.head_size)
            turning = states.narrow(1, 0, rotated)
            torch.addcmul(turning * cosine_N1D, turning.roll(self.head_size // 2, -1), sine_N1D, out=turning)
            query_NHD, key_value = states.split([self.heads, 2 * self.kv_heads], 1)
            seen = self.cache.step(index, query_NHD, key_value, self.scaling).view(rows, width)
            hidden_NE = torch.addmm(hidden_NE, seen, layer.output_XE)
            gate_NF, up_NF = (self._normed(hidden_NE) @ layer.gate_up_EF).chunk(2, -1)
            hidden_NE = torch.addmm(hidden_NE, silu(gate_NF) * up_NF, layer.down_FE)
        return self._normed(hidden_NE) @ self.head_EV

    def _normed(self, hidden_NE: Tensor) -> Tensor:
        """RMSNorm without its weight and without the square root of E, by which `_transposed` scales the map behind it.

        The fewest calls: on a few rows `torch.nn.functional.rms_norm` takes twice as long.
        """
        return hidden_NE / torch.hypot(torch.linalg.vector_norm(hidden_NE, dim=-1, keepdim=True), self.epsilon)

    def _rotation(self, position_N: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine, and sine with the sign of the half that it multiplies: x cos + roll(x) sin is the rotated x."""
        angles = position_N[:, None, None].float() * self.frequencies
        cosine, sine = angles.cos() * self.rotation_scaling, angles.sin() * self.rotation_scaling
        return torch.cat([cosine, cosine], -1).to(dtype), torch.cat([-sine, sine], -1).to(dtype)


def _transposed(linear: Sequence[nn.Linear], norm: Any = None) -> Tensor:
    """The weights of maps of one input, side by side, scaled by the norm before them: (in, out + out + …)."""
    joined = torch.cat([module.weight.t() for module in linear], 1)
    return joined.contiguous() if norm is None else joined * (norm.weight * len(norm.weight) ** 0.5)[:, None]
