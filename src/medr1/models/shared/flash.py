"""Attention of sequences that stand one behind another, by the flash kernels that PyTorch carries (Dao 2023).

The kernels take bfloat16 and float16 on a GPU. `torch.nn.attention.varlen` has them too, without the log-sum-exp of
what a query saw by parts, which joins the parts.

Axes: T tokens, H query heads, K key-value heads, D head size, P tokens of all prompts, C tokens of all completions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_HEAD = 256
"""Head size up to which the kernels go."""


def flash_fits(*states: Tensor) -> bool:
    """Whether the kernels take the states; not where equal bits are asked for, which their backward does not give."""
    dtypes = {torch.bfloat16, torch.float16}
    return (
        all(x.is_cuda and x.dtype == states[0].dtype and x.dtype in dtypes for x in states)
        and states[0].shape[-1] <= LARGEST_HEAD
        and states[0].shape[-1] % 8 == 0
        and not torch.are_deterministic_algorithms_enabled()
        and torch.cuda.get_device_capability(states[0].device) >= (8, 0)
    )


@dataclass(frozen=True, slots=True)
class Sequences:
    """Where sequences begin and end that stand one behind another."""

    ends: Tensor
    """0 and the end of each, int32."""
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Sequences":
        """From their lengths."""
        ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(ends, max(lengths))


def attention(
    query_THD: Tensor,
    key_TKD: Tensor,
    value_TKD: Tensor,
    asking: Sequences,
    seen: Sequences,
    scaling: float,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Output (T, H, D), log-sum-exp (H, T), and what the backward of the kernel wants of its dropout.

    Args:
        asking: the sequences of the queries.
        seen: of the keys and values that each of them sees.
    """
    sizes = asking.ends, seen.ends, asking.longest, seen.longest
    output, logsumexp, first, second, _ = torch.ops.aten._flash_attention_forward(
        query_THD, key_TKD, value_TKD, *sizes, 0.0, causal, False, scale=scaling
    )
    return output, logsumexp, (first, second)


def attention_back(
    grad_THD: Tensor,
    states: tuple[Tensor, Tensor, Tensor],
    output_THD: Tensor,
    logsumexp_HT: Tensor,
    dropout: tuple[Tensor, Tensor],
    asking: Sequences,
    seen: Sequences,
    scaling: float,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values; output and log-sum-exp may be those of all that a query saw."""
    sizes = asking.ends, seen.ends, asking.longest, seen.longest
    found = torch.ops.aten._flash_attention_backward(
        grad_THD, *states, output_THD, logsumexp_HT, *sizes, 0.0, causal, *dropout, scale=scaling
    )
    return cast(tuple[Tensor, Tensor, Tensor], found)


class VariedAttention(torch.autograd.Function):
    """Attention within each of several sequences.

    Arguments: queries (T, H, D), keys and values (T, K, D), the sequences, the scaling, whether it is causal.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, scaling: float, causal: bool
    ) -> Tensor:
        """See the class."""
        output, logsumexp, dropout = attention(query, key, value, sequences, sequences, scaling, causal=causal)
        ctx.save_for_backward(query, key, value, output, logsumexp, *dropout)
        ctx.settings = sequences, scaling, causal
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of queries, keys and values."""
        *states, output, logsumexp, first, second = ctx.saved_tensors
        sequences, scaling, causal = ctx.settings
        given = grads[0].contiguous(), tuple(states), output, logsumexp, (first, second), sequences, sequences, scaling
        return *attention_back(*given, causal=causal), None, None, None


@dataclass(frozen=True, slots=True)
class Packing:
    """All prompts one behind another, and behind them all completions, those of a prompt together."""

    prompts: Sequences
    completions: Sequences
    groups: Sequences
    """All completions of a prompt as one sequence."""

    @classmethod
    def of(cls, prompts: Sequence[int], completions: Sequence[Sequence[int]], device: torch.device) -> "Packing":
        """From the length of every prompt and the lengths of its completions."""
        flat = [length for group in completions for length in group]
        groups = Sequences.of([sum(group) for group in completions], device)
        return cls(Sequences.of(prompts, device), Sequences.of(flat, device), groups)


class PackedFlash(torch.autograd.Function):
    """Prompts that see themselves, completions that see their prompt and themselves, causally.

    A completion's output is that over its prompt and that over itself, weighted by what each had seen; the backward of
    either part takes the output and the log-sum-exp of both, with which its weights are those of the whole softmax.

    Arguments: queries (T, H, D), keys and values (T, K, D), P, the packing, the scaling.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, prompt_tokens: int, packing: Packing, scaling: float
    ) -> Tensor:
        """See the class."""
        P = prompt_tokens
        output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        prompt = query[:P], key[:P], value[:P]
        first, logsumexp_HP, drop_1 = attention(*prompt, packing.prompts, packing.prompts, scaling, causal=True)
        own = query[P:], key[P:], value[P:]
        within, within_HC, drop_2 = attention(*own, packing.completions, packing.completions, scaling, causal=True)
        before, before_HC, drop_3 = attention(
            query[P:], *prompt[1:], packing.groups, packing.prompts, scaling, causal=False
        )
        share_C1 = torch.sigmoid(within_HC - before_HC).t()[..., None]
        output[:P] = first
        output[P:] = torch.lerp(before.to(share_C1.dtype), within.to(share_C1.dtype), share_C1)
        both_HC = torch.logaddexp(within_HC, before_HC)
        ctx.save_for_backward(query, key, value, output, logsumexp_HP, both_HC, *drop_1, *drop_2, *drop_3)
        ctx.settings = prompt_tokens, packing, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of queries, keys and values."""
        query, key, value, output, logsumexp_HP, both_HC, *drops = ctx.saved_tensors
        P, packing, scaling = ctx.settings
        grad = grads[0].contiguous()
        prompt, own = (query[:P], key[:P], value[:P]), (query[P:], key[P:], value[P:])
        of_prompt = attention_back(
            grad[:P], prompt, output[:P], logsumexp_HP, (drops[0], drops[1]), packing.prompts, packing.prompts, scaling,
            causal=True,
        )  # fmt: skip
        within = attention_back(
            grad[P:], own, output[P:], both_HC, (drops[2], drops[3]), packing.completions, packing.completions, scaling,
            causal=True,
        )  # fmt: skip
        before = attention_back(
            grad[P:], (query[P:], *prompt[1:]), output[P:], both_HC, (drops[4], drops[5]), packing.groups,
            packing.prompts, scaling, causal=False,
        )  # fmt: skip
        grad_query = torch.cat([of_prompt[0], within[0] + before[0]])
        grad_key = torch.cat([of_prompt[1] + before[1], within[1]])
        grad_value = torch.cat([of_prompt[2] + before[2], within[2]])
        return grad_query, grad_key, grad_value, None, None, None
