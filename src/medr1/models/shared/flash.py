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


@dataclass(frozen=True, slots=True)
class Span:
    """Which keys and values each sequence of queries sees."""

    asking: Sequences
    """The sequences of the queries."""
    seen: Sequences
    """Of the keys and values that each of them sees."""
    causal: bool

    @property
    def sizes(self) -> tuple[Tensor, Tensor, int, int]:
        """As the kernels take them."""
        return self.asking.ends, self.seen.ends, self.asking.longest, self.seen.longest


Attended = tuple[Tensor, Tensor, tuple[Tensor, Tensor]]
"""Output (T, H, D), log-sum-exp (H, T), and what the backward of the kernel wants of its dropout."""


def attention(query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, span: Span, scaling: float) -> Attended:
    """What queries see."""
    output, logsumexp, first, second, _ = torch.ops.aten._flash_attention_forward(
        query_THD, key_TKD, value_TKD, *span.sizes, 0.0, span.causal, False, scale=scaling
    )
    return output, logsumexp, (first, second)


def attention_back(
    grad_THD: Tensor, states: tuple[Tensor, Tensor, Tensor], attended: Attended, span: Span, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values; output and log-sum-exp may be those of all that a query saw."""
    output, logsumexp, dropout = attended
    found = torch.ops.aten._flash_attention_backward(
        grad_THD, *states, output, logsumexp, *span.sizes, 0.0, span.causal, *dropout, scale=scaling
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
        span = Span(sequences, sequences, causal)
        output, logsumexp, dropout = attention(query, key, value, span, scaling)
        ctx.save_for_backward(query, key, value, output, logsumexp, *dropout)
        ctx.settings = span, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of queries, keys and values."""
        query, key, value, output, logsumexp, *dropout = ctx.saved_tensors
        attended = output, logsumexp, (dropout[0], dropout[1])
        found = attention_back(grads[0].contiguous(), (query, key, value), attended, *ctx.settings)
        return *found, None, None, None


@dataclass(frozen=True, slots=True)
class Packing:
    """All prompts one behind another, and behind them all completions, those of a prompt together."""

    prompts: Span
    """Every prompt sees itself."""
    within: Span
    """Every completion sees itself."""
    before: Span
    """All completions of a prompt, as one sequence, see it."""

    @classmethod
    def of(cls, prompts: Sequence[int], completions: Sequence[Sequence[int]], device: torch.device) -> "Packing":
        """From the length of every prompt and the lengths of its completions."""
        each = Sequences.of(prompts, device)
        own = Sequences.of([length for group in completions for length in group], device)
        groups = Sequences.of([sum(group) for group in completions], device)
        return cls(Span(each, each, causal=True), Span(own, own, causal=True), Span(groups, each, causal=False))


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
        prompt, own = (query[:P], key[:P], value[:P]), (query[P:], key[P:], value[P:])
        first, logsumexp_HP, drop_1 = attention(*prompt, packing.prompts, scaling)
        within, within_HC, drop_2 = attention(*own, packing.within, scaling)
        before, before_HC, drop_3 = attention(query[P:], *prompt[1:], packing.before, scaling)
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
        seen, both = (output[:P], logsumexp_HP, (drops[0], drops[1])), (output[P:], both_HC)
        of_prompt = attention_back(grad[:P], prompt, seen, packing.prompts, scaling)
        within = attention_back(grad[P:], own, (*both, (drops[2], drops[3])), packing.within, scaling)
        asked = query[P:], *prompt[1:]
        before = attention_back(grad[P:], asked, (*both, (drops[4], drops[5])), packing.before, scaling)
        grad_query = torch.cat([of_prompt[0], within[0] + before[0]])
        grad_key = torch.cat([of_prompt[1] + before[1], within[1]])
        grad_value = torch.cat([of_prompt[2] + before[2], within[2]])
        return grad_query, grad_key, grad_value, None, None, None
