"""Attention in which rows share a prompt, registered with transformers as `shared_prefix`.

A model whose text part has this attention hands `shared_prefix=…`, given to its forward, on to every layer: an object
that knows the rows (`SharedAttention`). Without it the layer runs SDPA, so the model stays an ordinary one.

Axes: R packed rows, S tokens of a packed row, P columns of the longest prompt, N completions, C completion tokens,
H query heads, K key-value heads, D head size.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from medr1.models.flash import PackedFlash, Packing, flash_fits
from medr1.models.packed_attention import PackedSoftmax

logger = logging.getLogger(__name__)

SHARED_PREFIX = "shared_prefix"
"""Name of the attention, and of the argument of the model's forward that it waits for."""

PACKABLE_ATTENTION = ("sdpa", "eager")
"""Attention implementations that take the mask of a packed row."""

NO_MASK = torch.ones(1, 1, 1, 1, dtype=torch.bool)
"""In place of `attention_mask`: the rows themselves say who sees whom; a mask with four axes is handed on as it is."""


def packable_attention(name: str | None) -> str:
    """The attention to load a model with for packed rows; says in one line when it is not the one asked for."""
    if name is None or name in PACKABLE_ATTENTION:
        return name or PACKABLE_ATTENTION[0]
    logger.warning("%s takes no mask of packed rows; sdpa is used in its place.", name)
    return PACKABLE_ATTENTION[0]


class SharedAttention(Protocol):
    """Rows that share prompts."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Output (rows, tokens, H, D) of one layer; query (rows, H, tokens, D), key and value (rows, K, tokens, D)."""
        ...


def shared_prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    shared_prefix: SharedAttention | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer."""
    if shared_prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    query, key, value = of_one_type(query, key, value)
    return shared_prefix.attend(module.layer_idx, query, key, value, scaling), None


def of_one_type(*states: Tensor) -> tuple[Tensor, ...]:
    """The states in the type that attention computes in, as torch's own does under autocast.

    Under autocast over float32 weights the rotary embedding leaves queries and keys in float32 beside narrower values;
    kernels and written buffers take no such mixture.
    """
    device = states[0].device.type
    if not torch.is_autocast_enabled(device):
        return states
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in states)


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)
AttentionMaskInterface.register(SHARED_PREFIX, sdpa_mask)


@contextmanager
def attention_of(text_config: Any, name: str) -> Iterator[None]:
    """The text layers use the attention `name` inside the block."""
    before = text_config._attn_implementation
    text_config._attn_implementation = name
    try:
        yield
    finally:
        text_config._attn_implementation = before


@dataclass(frozen=True, slots=True)
class PackedAttention:
    """Rows `prompt | completion | completion | …`: nothing is computed between two completions.

    The prompts attend causally to themselves; every completion, as a sequence of its own, to its prompt and itself.
    """

    prompt_width: int
    """P: columns of the longest prompt; behind a shorter one stand completion tokens already."""
    slot_NC: Tensor
    """Place of every completion token among all R * S; 0 where a completion is shorter than C."""
    row_N: Tensor
    present_NC: Tensor
    visible_N1CT: Tensor
    """What a completion token sees of the P prompt columns and, behind them, of its own completion (T = P + C)."""
    spans: list[tuple[int, int]]
    """Of every row, the ends of its prompt and of its last completion."""

    @classmethod
    def of_rows(
        cls, shared_R: Tensor, width: int, row_N: Tensor, column_NC: Tensor, present_NC: Tensor
    ) -> "PackedAttention":
        """From the prompt columns of every row, the width S of the rows and the places of the completions."""
        prompt_width, size = int(shared_R.max()), column_NC.shape[1]
        device = column_NC.device
        prompt_NP = torch.arange(prompt_width, device=device) < shared_R[row_N, None]
        own_CC = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        prompt_NCP, own_NCC = prompt_NP[:, None].expand(-1, size, -1), own_CC.expand(len(row_N), -1, -1)
        visible_N1CT = torch.cat([prompt_NCP, own_NCC], 2)[:, None]
        assert shared_R.min() > 0, "the kernels take no empty block; a prompt has a chat template around it"
        ends_R = shared_R.index_add(0, row_N, present_NC.sum(1))
        spans = list(zip(shared_R.tolist(), ends_R.tolist(), strict=True))
        return cls(prompt_width, row_N[:, None] * width + column_NC, row_N, present_NC, visible_N1CT, spans)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `SharedAttention`."""
        if query.device.type == "cpu":
            states = [x.transpose(1, 2).contiguous() for x in (query, key, value)]
            return PackedSoftmax.apply(*states, self.spans, self.slot_NC, self.present_NC, scaling)  # type: ignore[return-value]
        return self.attend_masked(query, key, value, scaling)

    def attend_masked(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """The same by SDPA, the prompt repeated for every completion and hidden by a mask where it is shorter."""
        rows, heads, width, size = query.shape
        repeats = heads // key.shape[1]
        query_RHPD, key_RKPD, value_RKPD = (states[:, :, : self.prompt_width] for states in (query, key, value))
        prompt_RHPD = scaled_dot_product_attention(
            query_RHPD, repeat_kv(key_RKPD, repeats), repeat_kv(value_RKPD, repeats), is_causal=True, scale=scaling
        )
        own_NHCD = scaled_dot_product_attention(
            self._completions(query),
            repeat_kv(torch.cat([key_RKPD.index_select(0, self.row_N), self._completions(key)], 2), repeats),
            repeat_kv(torch.cat([value_RKPD.index_select(0, self.row_N), self._completions(value)], 2), repeats),
            attn_mask=self.visible_N1CT,
            scale=scaling,
        )
        output_RSHD = prompt_RHPD.new_zeros(rows, width, heads, size)
        output_RSHD[:, : self.prompt_width] = prompt_RHPD.transpose(1, 2)
        present = self.present_NC.flatten()
        own = own_NHCD.transpose(1, 2).reshape(-1, heads * size)[present]
        output = output_RSHD.view(rows * width, heads * size).index_copy(0, self.slot_NC.flatten()[present], own)
        return output.view(rows, width, heads, size)

    def _completions(self, states_RHSD: Tensor) -> Tensor:
        """The completions' part of the states, a row each: (N, H, C, D)."""
        rows, heads, width, size = states_RHSD.shape
        # Not by indexing, whose backward is several times slower.
        taken = states_RHSD.transpose(1, 2).reshape(rows * width, -1).index_select(0, self.slot_NC.flatten())
        return taken.view(*self.slot_NC.shape, heads, size).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class FlatAttention:
    """One row of all prompts and, behind them, all completions, for kernels that know where sequences begin."""

    prompt_tokens: int
    """Of all prompts together."""
    packing: Packing

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `SharedAttention`."""
        states = [x[0].transpose(0, 1) for x in (query, key, value)]
        return PackedFlash.apply(*states, self.prompt_tokens, self.packing, scaling)[None]  # type: ignore[index]


def product_type(weight: Tensor) -> torch.dtype:
    """The type that products with a weight are computed in here and now."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def packs_flat(text_config: Any, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a model's attention over packed rows is `FlatAttention`.

    Args:
        dtype: that products are computed in.
    """
    size = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
    return flash_fits(torch.empty(0, size, dtype=dtype, device=device))
