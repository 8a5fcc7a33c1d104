"""Attention of packed rows on a CPU: one softmax over two blocks of keys, by torch's own flash kernels.

A completion token sees its prompt and its own completion. Each block is a dense or causal attention without a mask.
The two outputs are joined by their log-sum-exps, and the kernels' backward, given the joined output and log-sum-exp,
returns the gradient of the joined softmax (Dao et al., FlashAttention, 2022, section 3.1 and appendix B.4). Nothing is
repeated per completion, and the gradients of all blocks are written into one buffer.

Axes: R packed rows, S tokens of a row, N completions, C completion tokens, T tokens, B batch, H query heads,
K key-value heads, Q query heads per key-value head, D head size.
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
        queries, keys, values = (_gather(states, slot_NC) for states in (query, key, value))
        repeats = query.shape[2] // key.shape[2]
        own, own_logsum = _attend(queries, _repeated(keys, repeats), _repeated(values, repeats), True, scaling)
        _scatter(output, own, slot_NC, present_NC)
        _scatter(logsum[..., None], own_logsum[..., None], slot_NC, present_NC)
        for row, (prompt, end) in enumerate(spans):
            states = [x[row : row + 1, :prompt].transpose(1, 2) for x in (query, key, value)]
            seen, seen_logsum = _attend(
                states[0], _repeated(states[1], repeats), _repeated(states[2], repeats), True, scaling
            )
            output[row, :prompt], logsum[row, :prompt] = seen[0].transpose(0, 1), seen_logsum[0].transpose(0, 1)
            if end > prompt:  # all completions of the row may be masked
                folded = _folded(query[row, prompt:end], repeats)
                seen, seen_logsum = _attend(folded, states[1], states[2], False, scaling)
                _join(output[row, prompt:end], logsum[row, prompt:end], _unfolded(seen, repeats),
                      _unfolded(seen_logsum[..., None], repeats)[..., 0])  # fmt: skip
        ctx.save_for_backward(query, key, value, output, logsum, slot_NC, present_NC)
        ctx.spans, ctx.scaling = spans, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, output, logsum, slot_NC, present_NC = ctx.saved_tensors
        grad, scaling = grads[0], ctx.scaling
        repeats = query.shape[2] // key.shape[2]
        grad_query, grad_key, grad_value = (torch.zeros_like(x) for x in (query, key, value))
        for row, (prompt, end) in enumerate(ctx.spans):
            states = [x[row : row + 1, :prompt].transpose(1, 2) for x in (grad, query, key, value, output)]
            states[2:4] = (_repeated(x, repeats) for x in states[2:4])
            ours = _backward(*states, logsum[row : row + 1, :prompt].transpose(1, 2), 0.0, True, scale=scaling)
            grad_query[row, :prompt] = ours[0][0].transpose(0, 1)
            grad_key[row, :prompt] = _summed(ours[1], repeats)[0].transpose(0, 1)
            grad_value[row, :prompt] = _summed(ours[2], repeats)[0].transpose(0, 1)
            if end > prompt:
                folded = [_folded(x[row, prompt:end], repeats) for x in (grad, query, output, logsum[..., None])]
                seen = [x[row : row + 1, :prompt].transpose(1, 2) for x in (key, value)]
                ours = _backward(*folded[:2], *seen, folded[2], folded[3][..., 0], 0.0, False, scale=scaling)
                grad_query[row, prompt:end] = _unfolded(ours[0], repeats)
                grad_key[row, :prompt] += ours[1][0].transpose(0, 1)
                grad_value[row, :prompt] += ours[2][0].transpose(0, 1)
        states = [_gather(x, slot_NC) for x in (grad, query, key, value, output)]
        states[2:4] = (_repeated(x, repeats) for x in states[2:4])
        # Where a completion has no token, another's gradient was gathered.
        states[0] = states[0].masked_fill(~present_NC[:, None, :, None], 0)
        ours = _backward(*states, _gather(logsum[..., None], slot_NC)[..., 0], 0.0, True, scale=scaling)
        _scatter(grad_query, ours[0], slot_NC, present_NC, add=True)
        _scatter(grad_key, _summed(ours[1], repeats), slot_NC, present_NC)
        _scatter(grad_value, _summed(ours[2], repeats), slot_NC, present_NC)
        return grad_query, grad_key, grad_value, None, None, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which the kernels sum."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float) -> tuple[Tensor, Tensor]:
    """Output (B, H, T, D) and log-sum-exp (B, H, T) of one block."""
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


def _repeated(states_BKTD: Tensor, repeats: int) -> Tensor:
    """Every key-value head once per query head."""
    return states_BKTD if repeats == 1 else states_BKTD.repeat_interleave(repeats, 1)


def _summed(grad_BHTD: Tensor, repeats: int) -> Tensor:
    """The gradient of `_repeated`."""
    return grad_BHTD if repeats == 1 else grad_BHTD.unflatten(1, (-1, repeats)).sum(2)


def _folded(states_THD: Tensor, repeats: int) -> Tensor:
    """Query heads that read one key-value head as further queries of it: (1, K, Q * T, D)."""
    tokens, heads, size = states_THD.shape
    return states_THD.transpose(0, 1).reshape(1, heads // repeats, repeats * tokens, size)


def _unfolded(states: Tensor, repeats: int) -> Tensor:
    """(T, H, D) out of `_folded`."""
    _, kv_heads, rows, size = states.shape
    return states.reshape(kv_heads * repeats, rows // repeats, size).transpose(0, 1)
