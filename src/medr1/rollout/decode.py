"""Decoding in which the keys and values of a prompt are held once, whatever the number of its draws.

The batch is a grid of P prompts × G draws. A new token attends to its prompt (all draws of it together) and to its
own completion; both share one softmax. Nothing is copied from step to step.

Axes: P prompts, G draws of a prompt, L prompt tokens, T tokens drawn so far, K key-value heads, H query heads,
Q query heads per key-value head, D head size; N = P × G rows, X = G × Q.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from medr1.models.packed_attention import block_attention
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
        self.num_draws, self.length = num_draws, 0
        prompts, self.heads, _, size = prefill.layers[0].values.shape
        self.prompt_keys = [layer.keys for layer in prefill.layers]
        self.prompt_values = [layer.values for layer in prefill.layers]
        # Added to the scores: hides the padding of shorter prompts.
        hidden_P11L = ~prompt_mask_PL.bool()[:, None, None]
        bias_P11L = torch.zeros_like(hidden_P11L, dtype=prefill.layers[0].values.dtype)
        self.bias_P11L = bias_P11L.masked_fill_(hidden_P11L, -math.inf)
        # Of every draw the keys, behind them the values: (N, 2 K, room, D).
        shape = prompts * num_draws, 2 * self.heads, FIRST_CAPACITY, size
        self.states = [layer.values.new_empty(shape) for layer in prefill.layers]

    def advance(self) -> None:
        """Make room for the next token of every draw."""
        if self.length == self.states[0].shape[2]:
            self.states = [torch.cat([old, torch.empty_like(old)], 2) for old in self.states]
        self.length += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Output (N, 1, H, D) of one layer; query (N, H, 1, D), key and value (N, K, 1, D)."""
        return self.step(layer, query[:, :, 0], torch.cat([key, value], 1)[:, :, 0], scaling)[:, None]

    def step(self, layer: int, query_NHD: Tensor, key_value: Tensor, scaling: float) -> Tensor:
        """Output (N, H, D) of one layer; `key_value` (N, 2 K, D): the new keys, behind them the new values."""
        states, heads = self.states[layer], self.heads
        states.select(2, self.length - 1).copy_(key_value)
        keys, values = states.narrow(2, 0, self.length).split(heads, 1)
        attend = self._attend_by_kernels if states.device.type == "cpu" else self._attend_by_products
        return attend(query_NHD, self.prompt_keys[layer], self.prompt_values[layer], keys, values, scaling)

    def _attend_by_kernels(
        self,
        query_NHD: Tensor,
        prompt_keys: Tensor,
        prompt_values: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
    ) -> Tensor:
        """Torch's flash kernel over each block of keys, joined by their log-sum-exps."""
        query_PHGD = query_NHD.unflatten(0, (-1, self.num_draws)).transpose(1, 2)
        seen_PHGD, logsum_PHG = block_attention(
            query_PHGD, prompt_keys, prompt_values, scaling=scaling, mask=self.bias_P11L
        )
        own, own_logsum = block_attention(query_NHD.unsqueeze(2), keys, values, scaling=scaling)
        # The share of the second block in the softmax over both.
        share_NH1 = torch.sigmoid(own_logsum - logsum_PHG.transpose(1, 2).reshape(own_logsum.shape)).to(own.dtype)
        return seen_PHGD.transpose(1, 2).reshape(query_NHD.shape).lerp(own.view(query_NHD.shape), share_NH1)

    def _attend_by_products(
        self,
        query_NHD: Tensor,
        prompt_keys: Tensor,
        prompt_values: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
    ) -> Tensor:
        """Two products and one softmax, where no kernel returns its log-sum-exp."""
        prompts, heads, _, size = prompt_keys.shape
        draws, rows = self.num_draws, len(query_NHD)
        query_PKXD = query_NHD.view(prompts, draws, heads, -1, size).transpose(1, 2).reshape(prompts, heads, -1, size)
        prompt_PKXL = query_PKXD @ prompt_keys.mT * scaling + self.bias_P11L
        prompt_NKQL = prompt_PKXL.view(prompts, heads, draws, -1, prompt_PKXL.shape[-1]).transpose(1, 2).flatten(0, 1)
        own_NKQT = query_NHD.view(rows, heads, -1, size) @ keys.mT * scaling
        scores = torch.cat([prompt_NKQL, own_NKQT], -1)
        weights = scores.softmax(-1, dtype=torch.promote_types(values.dtype, torch.float32)).to(values.dtype)
        prompt_NKQL, own_NKQT = weights.split([weights.shape[-1] - self.length, self.length], -1)
        prompt_PKXL = prompt_NKQL.unflatten(0, (prompts, draws)).transpose(1, 2).flatten(2, 3)
        seen = (prompt_PKXL @ prompt_values).view(prompts, heads, draws, -1, size).transpose(1, 2)
        return (own_NKQT @ values).view(query_NHD.shape) + seen.reshape(query_NHD.shape)

    def keep(self, prompts: Tensor, draws: Tensor) -> None:
        """Go on with a smaller grid: `draws` (P', G') of the old grid, of the old prompts `prompts` (P')."""
        rows_N = (prompts[:, None] * self.num_draws + draws).flatten()
        self.num_draws = draws.shape[1]
        self.prompt_keys = [layer[prompts] for layer in self.prompt_keys]
        self.prompt_values = [layer[prompts] for layer in self.prompt_values]
        self.bias_P11L = self.bias_P11L[prompts]
        # What is beyond the length was never written.
        self.states = [layer[rows_N] for layer in self.states]


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
