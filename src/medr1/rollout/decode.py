"""Decoding in which the keys and values of a prompt are held once, whatever the number of its draws.

The batch is a grid of P prompts × G draws. A new token attends to its prompt (one matrix product for all G draws of the
prompt) and to its own completion; both share one softmax. Nothing is copied from step to step.

Axes: P prompts, G draws of a prompt, L prompt tokens, T tokens drawn so far, K key-value heads, H query heads,
Q query heads per key-value head, D head size.
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
        # (P, K, L, D) of every layer; keys are kept transposed, as the product with the queries wants them.
        self.prompt_keys = [layer.keys.transpose(2, 3).contiguous() for layer in prefill.layers]
        self.prompt_values = [layer.values for layer in prefill.layers]
        hidden = ~prompt_mask_PL.bool()
        self.hidden_P11L = hidden[:, None, None, :] if hidden.any() else None
        prompts, heads, _, size = self.prompt_values[0].shape
        shape = prompts, num_draws, heads, FIRST_CAPACITY, size
        self.keys = [self.prompt_values[0].new_empty(shape) for _ in prefill.layers]
        self.values = [self.prompt_values[0].new_empty(shape) for _ in prefill.layers]

    def advance(self) -> None:
        """Make room for the next token of every draw."""
        if self.length == self.keys[0].shape[3]:
            for states in (self.keys, self.values):
                for layer, old in enumerate(states):
                    states[layer] = torch.cat([old, torch.empty_like(old)], 3)
        self.length += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Output (P * G, 1, H, D) of one layer; query (P * G, H, 1, D), key and value (P * G, K, 1, D)."""
        draws, new = self.num_draws, self.length - 1
        keys, values = self.keys[layer], self.values[layer]
        prompts, _, heads, _, size = keys.shape
        repeats = query.shape[1] // heads
        keys[:, :, :, new], values[:, :, :, new] = (x.view(prompts, draws, heads, size) for x in (key, value))
        query_PGKQD = (query * scaling).view(prompts, draws, heads, repeats, size)
        query_PKGQD = query_PGKQD.transpose(1, 2)

        prompt_PKGQL = query_PKGQD.reshape(prompts, heads, draws * repeats, size) @ self.prompt_keys[layer]
        if self.hidden_P11L is not None:
            prompt_PKGQL = prompt_PKGQL.masked_fill(self.hidden_P11L, -math.inf)
        prompt_PKGQL = prompt_PKGQL.view(prompts, heads, draws, repeats, -1)
        own_PGKQT = query_PGKQD @ keys[:, :, :, : self.length].transpose(3, 4)
        scores = torch.cat([prompt_PKGQL, own_PGKQT.transpose(1, 2)], -1)
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        prompt_PKGQL, own_PKGQT = weights.split([weights.shape[-1] - self.length, self.length], -1)

        seen_PKGQD = prompt_PKGQL.reshape(prompts, heads, draws * repeats, -1) @ self.prompt_values[layer]
        own_PGKQD = own_PKGQT.transpose(1, 2) @ values[:, :, :, : self.length]
        output_PGKQD = seen_PKGQD.view(prompts, heads, draws, repeats, size).transpose(1, 2) + own_PGKQD
        return output_PGKQD.reshape(prompts * draws, 1, heads * repeats, size)

    def keep(self, prompts: Tensor, draws: Tensor) -> None:
        """Go on with a smaller grid: `draws` (P', G') of the old grid, of the old prompts `prompts` (P')."""
        self.num_draws = draws.shape[1]
        for states in (self.prompt_keys, self.prompt_values):
            states[:] = [layer[prompts] for layer in states]
        for states in (self.keys, self.values):
            # What is beyond the length was never written.
            states[:] = [layer[prompts[:, None], draws] for layer in states]
        if self.hidden_P11L is not None:
            self.hidden_P11L = self.hidden_P11L[prompts]


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
