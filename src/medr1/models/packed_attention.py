"""Attention of packed rows on a CPU: one softmax over two blocks of keys, by torch's own flash kernels.

A completion token sees its prompt and its own completion. Each block is a dense or causal attention without a mask.
The two outputs are joined by their log-sum-exps, and the kernels' backward, given the joined output and log-sum-exp,
returns the gradient of the joined softmax (Dao et al., FlashAttention, 2022, section 3.1 and appendix B.4). Nothing is
repeated per completion, and the gradients of all blocks are written into one buffer.

Axes: R packed rows, S tokens of a row, N completions, C completion tokens, T tokens, B batch, H query heads,
K key-value heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor

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
