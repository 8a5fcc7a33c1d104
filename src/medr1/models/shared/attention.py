"""Attention in which rows share a prompt, registered with transformers as `shared_prefix`.

A model whose text part has this attention hands `shared_prefix=…`, given to its forward, on to every layer: an object
that knows the rows (`SharedAttention`). Without it the layer runs SDPA, so the model stays an ordinary one.

On a CPU a packed row is one softmax over two blocks of keys, by torch's own flash kernels: a completion token sees its
prompt and its own completion, each block a dense or causal attention without a mask. The two outputs are joined by
their log-sum-exps, and the kernels' backward, given the joined output and log-sum-exp, returns the gradient of the
joined softmax (Dao et al., FlashAttention, 2022, section 3.1 and appendix B.4). Nothing is repeated per completion, and
the gradients of all blocks are written into one buffer.

Axes: R packed rows, S tokens of a packed row, P columns of the longest prompt, N completions, C completion tokens,
T tokens, B batch, H query heads, K key-value heads, D head size.
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

from medr1.models.shared.flash import PackedFlash, Packing, flash_fits

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


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class PackedSoftmax(torch.autograd.Function):
    """Output (R, S, H, D) of query (R, S, H, D), key and value (R, S, K, D).

    Further arguments: `spans`, of every row the ends of its prompt and of its last completion; `slot_NC`, the place of
    every completion token among all R * S; `present_NC`; `scaling`.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: list[tuple[int, int]],
        slot_NC: Tensor,
        present_NC: Tensor,
        scaling: float,
    ) -> Tensor:
        """See the class."""
        output, logsum = torch.zeros_like(query), query.new_zeros(query.shape[:3], dtype=_wide(query.dtype))
        states = [_gather(x, slot_NC) for x in (query, key, value)]
        own, own_logsum = _block_attention(*states, scaling=scaling, causal=True)
        _scatter(output, own, slot_NC, present_NC)
        _scatter(logsum[..., None], own_logsum[..., None], slot_NC, present_NC)
        for row, (prompt, end) in enumerate(spans):
            seen, seen_logsum = _block_attention(
                *_heads_first(row, 0, prompt, query, key, value), scaling=scaling, causal=True
            )
            output[row, :prompt], logsum[row, :prompt] = seen[0].transpose(0, 1), seen_logsum[0].transpose(0, 1)
            if end > prompt:  # all completions of the row may be masked
                states = [*_heads_first(row, prompt, end, query), *_heads_first(row, 0, prompt, key, value)]
                seen, seen_logsum = _block_attention(*states, scaling=scaling)
                _join(output[row, prompt:end], logsum[row, prompt:end], seen[0].transpose(0, 1),
                      seen_logsum[0].transpose(0, 1))  # fmt: skip
        ctx.save_for_backward(query, key, value, output, logsum, slot_NC, present_NC)
        ctx.spans, ctx.scaling = spans, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, output, logsum, slot_NC, present_NC = ctx.saved_tensors
        grad, scaling = grads[0], ctx.scaling
        grad_query, grad_key, grad_value = (torch.zeros_like(x) for x in (query, key, value))
        for row, (prompt, end) in enumerate(ctx.spans):
            states = _heads_first(row, 0, prompt, grad, query, key, value, output, logsum)
            ours = _backward(*states, 0.0, True, scale=scaling)
            for target, source in zip((grad_query, grad_key, grad_value), ours, strict=True):
                target[row, :prompt] = source[0].transpose(0, 1)
            if end > prompt:
                states = _heads_first(row, prompt, end, grad, query, output, logsum)
                states[2:2] = _heads_first(row, 0, prompt, key, value)
                ours = _backward(*states, 0.0, False, scale=scaling)
                grad_query[row, prompt:end] = ours[0][0].transpose(0, 1)
                grad_key[row, :prompt] += ours[1][0].transpose(0, 1)
                grad_value[row, :prompt] += ours[2][0].transpose(0, 1)
        states = [_gather(x, slot_NC) for x in (grad, query, key, value, output, logsum[..., None])]
        # Where a completion has no token, another's gradient was gathered.
        states[0] = states[0].masked_fill(~present_NC[:, None, :, None], 0)
        ours = _backward(*states[:5], states[5][..., 0], 0.0, True, scale=scaling)
        _scatter(grad_query, ours[0], slot_NC, present_NC, add=True)
        _scatter(grad_key, ours[1], slot_NC, present_NC)
        _scatter(grad_value, ours[2], slot_NC, present_NC)
        return grad_query, grad_key, grad_value, None, None, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which the kernels sum."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _block_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention to one block of keys, on a CPU.

    Output (B, H, T, D) and log-sum-exp (B, H, T) of query (B, H, T, D), key and value (B, K, S, D); K divides H.
    """
    output, logsum = _forward(query, key, value, 0.0, causal, scale=scaling)[:2]
    return output, logsum


def _join(output: Tensor, logsum: Tensor, other: Tensor, other_logsum: Tensor) -> None:
    """Make (output, logsum) of one block those of the softmax over both, in place."""
    both = torch.logaddexp(logsum, other_logsum)
    output.mul_((logsum - both).exp()[..., None]).add_(other * (other_logsum - both).exp()[..., None])
    logsum.copy_(both)


def _gather(states: Tensor, slot_NC: Tensor) -> Tensor:
    """Completions out of (R, S, H, D) as (N, H, C, D)."""
    taken = states.reshape(-1, states.shape[2] * states.shape[3]).index_select(0, slot_NC.flatten())
    return taken.view(*slot_NC.shape, *states.shape[2:]).transpose(1, 2)


def _scatter(target: Tensor, states: Tensor, slot_NC: Tensor, present_NC: Tensor, add: bool = False) -> None:
    """Completions (N, H, C, D) to their places in the contiguous (R, S, H, D)."""
    flat = target.view(-1, target.shape[2] * target.shape[3])
    present = present_NC.flatten()
    source = states.transpose(1, 2).reshape(len(present), -1).to(target.dtype)
    if not present.all():
        source, slots = source[present], slot_NC.flatten()[present]
    else:
        slots = slot_NC.flatten()
    (flat.index_add_ if add else flat.index_copy_)(0, slots, source)


def _heads_first(row: int, start: int, end: int, *states: Tensor) -> list[Tensor]:
    """Tokens `start` to `end` of one row of (R, S, H, …), as the kernels take them: (1, H, T, …)."""
    return [x[row : row + 1, start:end].transpose(1, 2) for x in states]
