"""Attention of packed rows against one SDPA over the whole row with its mask."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from medr1.models.shared.attention import PackedAttention, attention_of, shared_prefix_attention
from medr1.models.shared.pack import visible_pairs

SIZE = 8


def packed(rows: list[tuple[int, list[int]]]) -> tuple[PackedAttention, Tensor]:
    """Packed attention of rows (prompt columns, completion lengths), and the segment of every token."""
    width = max(shared + sum(lengths) for shared, lengths in rows)
    longest = max(length for _, lengths in rows for length in lengths)
    segments = torch.full((len(rows), width), -1)
    row_N, columns, present = [], [], []
    for row, (shared, lengths) in enumerate(rows):
        ends = [shared]
        segments[row, :shared] = 0
        for number, length in enumerate(lengths):
            segments[row, ends[-1] : ends[-1] + length] = number + 1
            columns.append([ends[-1] + i if i < length else 0 for i in range(longest)])
            present.append([i < length for i in range(longest)])
            row_N.append(row)
            ends.append(ends[-1] + length)
    shared_R = torch.tensor([shared for shared, _ in rows])
    attention = PackedAttention.of_rows(
        shared_R, width, torch.tensor(row_N), torch.tensor(columns), torch.tensor(present)
    )
    return attention, segments


@given(
    rows=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 6), min_size=1, max_size=4)), min_size=1, max_size=3
    ).filter(lambda rows: any(length for _, lengths in rows for length in lengths)),
    seed=st.integers(0, 2**31),
    masked=st.booleans(),
)
def test_packed_attention_is_that_of_the_whole_row_under_its_mask(rows: list, seed: int, masked: bool) -> None:
    attention, segments = packed(rows)
    generator = torch.Generator().manual_seed(seed)
    shape = len(rows), 4, segments.shape[1], SIZE
    query = torch.randn(shape, generator=generator, requires_grad=True)
    key, value = (torch.randn(shape[0], 2, *shape[2:], generator=generator, requires_grad=True) for _ in range(2))
    arguments = (query, key, value, 0.3)
    ours = attention.attend_masked(*arguments) if masked else attention.attend(0, *arguments)
    whole = scaled_dot_product_attention(
        query, repeat_kv(key, 2), repeat_kv(value, 2), attn_mask=visible_pairs(segments), scale=0.3
    ).transpose(1, 2)
    real = segments >= 0
    torch.testing.assert_close(ours[real], whole[real], rtol=1e-5, atol=1e-6)
    weights = torch.randn(ours[real].shape, generator=generator)
    for got, wanted in zip(
        torch.autograd.grad((ours[real] * weights).sum(), (query, key, value)),
        torch.autograd.grad((whole[real] * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_without_shared_rows_the_layer_runs_sdpa() -> None:
    class Layer:
        num_key_value_groups, is_causal, layer_idx = 2, True, 0

    query, key, value = torch.randn(1, 4, 5, SIZE), torch.randn(1, 2, 5, SIZE), torch.randn(1, 2, 5, SIZE)
    layer: Any = Layer()
    ours, _ = shared_prefix_attention(layer, query, key, value, None, 0.3)
    torch.testing.assert_close(ours, sdpa_attention_forward(layer, query, key, value, None, scaling=0.3)[0])


def test_the_attention_is_set_back_after_an_error() -> None:
    class Config:
        _attn_implementation = "eager"

    config = Config()

    def fails() -> None:
        with attention_of(config, "shared_prefix"):
            assert config._attn_implementation == "shared_prefix"
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert config._attn_implementation == "eager"


def test_the_layout_of_the_tests_is_the_one_of_packed_rows() -> None:
    attention, segments = packed([(3, [2, 1]), (1, [4])])
    assert segments.tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, -1]]
    assert attention.slot_NC[attention.present_NC].tolist() == [3, 4, 5, 7, 8, 9, 10]
    assert all(start < end for start, end in pairwise(attention.slot_NC[2].tolist()))
