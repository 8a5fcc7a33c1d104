"""The cache of a grid of prompts and draws against attention over prompt and completion as one sequence."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv

from medr1.engines.decode import FIRST_CAPACITY, SharedPrefixCache

PROMPTS, DRAWS, HEADS, KEY_HEADS, PROMPT_TOKENS, SIZE = 3, 2, 4, 2, 5, 8
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])


class Reference:
    """Every draw as a sequence of its own."""

    def __init__(self, keys: Tensor, values: Tensor, mask: Tensor) -> None:
        self.keys, self.values = keys.repeat_interleave(DRAWS, 0), values.repeat_interleave(DRAWS, 0)
        self.mask = mask.repeat_interleave(DRAWS, 0).bool()

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keys, self.values = torch.cat([self.keys, key], 2), torch.cat([self.values, value], 2)
        self.mask = torch.cat([self.mask, torch.ones(len(key), 1, dtype=torch.bool)], 1)
        keys, values = repeat_kv(self.keys, HEADS // KEY_HEADS), repeat_kv(self.values, HEADS // KEY_HEADS)
        mask = self.mask[:, None, None]
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=0.3).transpose(1, 2)

    def keep(self, rows: list[int]) -> None:
        self.keys, self.values, self.mask = self.keys[rows], self.values[rows], self.mask[rows]


def step(cache: SharedPrefixCache, reference: Reference, rows: int) -> None:
    query = torch.randn(rows, HEADS, 1, SIZE)
    key, value = torch.randn(2, rows, KEY_HEADS, 1, SIZE).unbind()
    cache.advance()
    ours = cache.attend(0, query, key, value, 0.3)
    torch.testing.assert_close(ours, reference.attend(query, key, value), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)], ids=["padded", "whole"])
def test_decoding_is_attention_over_prompt_and_completion(mask: Tensor) -> None:
    torch.manual_seed(0)
    keys, values = torch.randn(2, PROMPTS, KEY_HEADS, PROMPT_TOKENS, SIZE).unbind()
    prefill = SimpleNamespace(layers=[SimpleNamespace(keys=keys, values=values)])
    cache, reference = SharedPrefixCache(prefill, mask, DRAWS), Reference(keys, values, mask)
    for _ in range(FIRST_CAPACITY + 3):
        step(cache, reference, PROMPTS * DRAWS)
    # The second prompt has ended; of the first both draws are left, of the third the second one and a spent one.
    cache.keep(torch.tensor([0, 2]), torch.tensor([[0, 1], [1, 0]]))
    reference.keep([0, 1, 5, 4])
    for _ in range(3):
        step(cache, reference, 4)
    cache.keep(torch.tensor([1]), torch.tensor([[0]]))
    reference.keep([2])
    step(cache, reference, 1)
