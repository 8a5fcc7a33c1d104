"""Decoding in which the keys and values of a prompt are held once, whatever the number of its draws.

The batch is a grid of P prompts × G draws. A new token attends to its prompt (all draws of it together) and to its
own completion; both share one softmax. Nothing is copied from step to step.

On a CPU, calling a small model costs as much as its arithmetic: there the weights of a layer are joined and transposed
once per rollout (queries, keys and values in one product, gate and up in another; a product of a few rows with a
contiguous transpose is up to twice as fast as with the weight as `nn.Linear` holds it), and a step runs without the
model's own modules. The same function as the model's, up to rounding.

Axes: P prompts, G draws of a prompt, L prompt tokens, T tokens drawn so far, S tokens that there is room for,
K key-value heads, H query heads, Q query heads per key-value head, D head size, E hidden size, F width
of the feed-forward part. N = P × G rows, A = P × K, X = G × Q,
B = P × K × G: the queries of a prompt's draws side by side are one product, those of a draw another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from medr1.models.shared.attention import NO_MASK
from medr1.models.shared.pack import backbone

FIRST_CAPACITY = 64
"""Tokens of completions that there is room for at first; the room doubles when it is full."""


class SharedPrefixCache:
    """Keys and values of prompts and of what was drawn from them; one forward per token writes and reads them.

    Args:
        prefill: the cache that a prefill of the P prompts returned.
        prompt_mask_PL: 1 at the tokens of a prompt.
        num_draws: G.
    """

    def __init__(self, prefill: Any, prompt_mask_PL: Tensor, num_draws: int) -> None:
        values = [layer.values for layer in prefill.layers]
        prompts, heads, prompt_length, size = values[0].shape
        self.num_draws, self.length = num_draws, 0
        # A product of a few rows is faster with keys that are transposed in memory. Under autocast a prefill leaves
        # keys in float32 beside narrower values; what is decoded has one type.
        self.prompt_keys_PKDL = [layer.keys.mT.to(layer.values.dtype).contiguous() for layer in prefill.layers]
        self.prompt_values_PKLD = values
        # Added to the scores: hides the padding of shorter prompts.
        self.bias_PK1L = values[0].new_zeros(prompts, heads, 1, prompt_length)
        self.bias_PK1L.masked_fill_(~prompt_mask_PL.bool()[:, None, None], -math.inf)
        self.no_bias = values[0].new_zeros(())
        # Of every draw the keys, and the values.
        shape = 2, prompts, heads, num_draws, FIRST_CAPACITY, size
        self.states_2PKGSD = [layer.new_empty(shape) for layer in values]

    def advance(self) -> None:
        """Make room for the next token of every draw."""
        if self.length == self.states_2PKGSD[0].shape[4]:
            self.states_2PKGSD = [torch.cat([old, torch.empty_like(old)], 4) for old in self.states_2PKGSD]
        self.length += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Output (N, 1, H, D) of one layer; query (N, H, 1, D), key and value (N, K, 1, D)."""
        return self.step(layer, query[:, :, 0], torch.cat([key, value], 1)[:, :, 0], scaling)[:, None]

    def step(self, layer: int, query_NHD: Tensor, key_value: Tensor, scaling: float) -> Tensor:
        """Output (N, H, D) of one layer; `key_value` (N, 2 K, D): the new keys, behind them the new values."""
        prompts, heads, _, prompt_length = self.bias_PK1L.shape
        states_2PKGSD, size = self.states_2PKGSD[layer], query_NHD.shape[-1]
        new_PG2KD = key_value.view(prompts, self.num_draws, 2, heads, size)
        states_2PKGSD.select(4, self.length - 1).copy_(new_PG2KD.permute(2, 0, 3, 1, 4))
        keys_BTD, values_BTD = states_2PKGSD.narrow(4, 0, self.length).flatten(1, 3)

        query_PGKQD = query_NHD.view(prompts, self.num_draws, heads, -1, size)
        query_AXD = query_PGKQD.transpose(1, 2).reshape(prompts * heads, -1, size)
        query_BQD = query_AXD.view(len(keys_BTD), -1, size)
        prompt_keys_ADL = self.prompt_keys_PKDL[layer].flatten(0, 1)
        scores_AXL = torch.baddbmm(self.bias_PK1L.flatten(0, 1), query_AXD, prompt_keys_ADL, alpha=scaling)
        scores_BQT = torch.baddbmm(self.no_bias, query_BQD, keys_BTD.mT, beta=0, alpha=scaling)
        scores = torch.cat([scores_AXL.view(*query_BQD.shape[:2], -1), scores_BQT], -1)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
        weights_BQL, weights_BQT = weights.split([prompt_length, self.length], -1)
        weights_AXL = weights_BQL.view(*query_AXD.shape[:2], -1)
        seen_AXD = weights_AXL @ self.prompt_values_PKLD[layer].flatten(0, 1)
        output_BQD = torch.baddbmm(seen_AXD.view_as(query_BQD), weights_BQT, values_BTD)
        return output_BQD.view(prompts, heads, self.num_draws, -1, size).transpose(1, 2).reshape(query_NHD.shape)

    def keep(self, prompts: Tensor, draws: Tensor) -> None:
        """Go on with a smaller grid: `draws` (P', G') of the old grid, of the old prompts `prompts` (P')."""
        self.num_draws = draws.shape[1]
        self.prompt_keys_PKDL = [layer[prompts] for layer in self.prompt_keys_PKDL]
        self.prompt_values_PKLD = [layer[prompts] for layer in self.prompt_values_PKLD]
        self.bias_PK1L = self.bias_PK1L[prompts]
        # What is beyond the length was never written.
        grid = slice(None), prompts[:, None], slice(None), draws
        self.states_2PKGSD = [layer[grid].permute(2, 0, 3, 1, 4, 5).contiguous() for layer in self.states_2PKGSD]


class ModelDecoder:
    """The next token by the model's own forward, with the shared cache in place of its own.

    The attention of the model's text part is `shared_prefix` meanwhile.
    """

    def __init__(self, model: nn.Module, cache: SharedPrefixCache) -> None:
        self.model, self.cache = model, cache

    def __call__(self, token_N: Tensor, position_N: Tensor) -> Tensor:
        """Logits (N, V) behind one token per row at its position; the cache has made room for it."""
        return self.model(
            input_ids=token_N[:, None],
            attention_mask=NO_MASK,
            position_ids=position_N[None, :, None].expand(3, -1, -1),
            use_cache=False,
            shared_prefix=self.cache,
        ).logits[:, -1]


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
