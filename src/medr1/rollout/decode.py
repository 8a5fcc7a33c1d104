"""Decoding in which the keys and values of a prompt are held once, whatever the number of its draws.

The batch is a grid of P prompts × G draws. A new token attends to its prompt (one matrix product for all G draws of the
prompt) and to its own completion; both share one softmax. Nothing is copied from step to step.

Axes: P prompts, G draws of a prompt, L prompt tokens, T tokens drawn so far, K key-value heads, H query heads,
Q query heads per key-value head, D head size; joined ones: B = P × K, A = P × G × K, X = G × Q.
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
        self.num_draws, self.length = num_draws, 0
        prompts, self.heads, tokens, size = prefill.layers[0].values.shape
        # P and K are one axis for the batched products; keys transposed, as the product with the queries wants them.
        self.prompt_keys = [layer.keys.transpose(2, 3).reshape(-1, size, tokens) for layer in prefill.layers]
        self.prompt_values = [layer.values.reshape(-1, tokens, size) for layer in prefill.layers]
        # Added to the scores: hides the padding of shorter prompts.
        hidden_P1L = ~prompt_mask_PL.bool()[:, None]
        bias_P1L = torch.zeros_like(hidden_P1L, dtype=prefill.layers[0].values.dtype)
        self.bias_B1L = bias_P1L.masked_fill_(hidden_P1L, -math.inf).repeat_interleave(self.heads, 0)
        shape = prompts, num_draws, self.heads, FIRST_CAPACITY, size
        self.keys = [prefill.layers[0].values.new_empty(shape) for _ in prefill.layers]
        self.values = [prefill.layers[0].values.new_empty(shape) for _ in prefill.layers]

    def advance(self) -> None:
        """Make room for the next token of every draw."""
        if self.length == self.keys[0].shape[3]:
            for states in (self.keys, self.values):
                for layer, old in enumerate(states):
                    states[layer] = torch.cat([old, torch.empty_like(old)], 3)
        self.length += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Output (P * G, 1, H, D) of one layer; query (P * G, H, 1, D), key and value (P * G, K, 1, D)."""
        draws, heads, new, size = self.num_draws, self.heads, self.length - 1, query.shape[-1]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, :, new], values[:, :, :, new] = (x.view(-1, draws, heads, size) for x in (key, value))
        query_PGKQD = query.view(len(keys), draws, heads, -1, size)
        prompts, repeats = len(keys), query_PGKQD.shape[3]

        query_BXD = query_PGKQD.transpose(1, 2).reshape(prompts * heads, draws * repeats, size)
        prompt_BXL = torch.baddbmm(self.bias_B1L, query_BXD, self.prompt_keys[layer], alpha=scaling)
        own_keys, own_values = (x.view(-1, x.shape[3], size)[:, : self.length] for x in (keys, values))
        query_AQD = query_PGKQD.reshape(-1, repeats, size)
        own_AQT = torch.baddbmm(self.bias_B1L[:1, :, :1], query_AQD, own_keys.mT, beta=0, alpha=scaling)

        own_PGKQT = own_AQT.view(prompts, draws, heads, repeats, -1)
        scores = torch.cat([prompt_BXL.view(prompts, heads, draws, repeats, -1), own_PGKQT.transpose(1, 2)], -1)
        weights = scores.softmax(-1, dtype=torch.promote_types(value.dtype, torch.float32)).to(value.dtype)
        prompt_PKGQL, own_PKGQT = weights.split([weights.shape[-1] - self.length, self.length], -1)

        seen_BXD = prompt_PKGQL.reshape(prompts * heads, draws * repeats, -1).bmm(self.prompt_values[layer])
        own_AQD = own_PKGQT.transpose(1, 2).reshape(-1, repeats, self.length).bmm(own_values)
        seen_PGKQD = seen_BXD.view(prompts, heads, draws, repeats, size).transpose(1, 2)
        return (own_AQD.view_as(query_PGKQD) + seen_PGKQD).reshape(prompts * draws, 1, heads * repeats, size)

    def keep(self, prompts: Tensor, draws: Tensor) -> None:
        """Go on with a smaller grid: `draws` (P', G') of the old grid, of the old prompts `prompts` (P')."""
        self.num_draws = draws.shape[1]
        rows_B = (prompts[:, None] * self.heads + torch.arange(self.heads, device=prompts.device)).flatten()
        for states in (self.prompt_keys, self.prompt_values):
            states[:] = [layer[rows_B] for layer in states]
        self.bias_B1L = self.bias_B1L[rows_B]
        for states in (self.keys, self.values):
            # What is beyond the length was never written.
            states[:] = [layer[prompts[:, None], draws] for layer in states]


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
