"""Decoding in which the keys and values of a prompt are held once, whatever the number of its draws.

The batch is a grid of P prompts × G draws. A new token attends to its prompt (all draws of it together) and to its
own completion; both share one softmax. Nothing is copied from step to step.

Axes: P prompts, G draws of a prompt, L prompt tokens, T tokens drawn so far, S tokens that there is room for,
K key-value heads, H query heads, Q query heads per key-value head, D head size. N = P × G rows, A = P × K, X = G × Q,
B = P × K × G: the queries of a prompt's draws side by side are one product, those of a draw another.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from medr1.models.shared_attention import NO_MASK

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
