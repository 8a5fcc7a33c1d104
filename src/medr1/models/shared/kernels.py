"""Norms, rotary embeddings and gated units on a GPU, forward and backward: one Triton kernel each.

Spelt out operation by operation they are most of the calls of a training step, and calls are what limits it. Sums are
in float32, whatever the type of the tensors. Those with gradients around these: `models/shared/layers.py`.

Axes: N rows, E width of the states, T tokens, H heads, D head size.
"""

# A launch takes more than the signature of its kernel says, and other types.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 1024
"""Elements that one program of an elementwise kernel takes."""
PARTS = 256
"""Programs that share the rows of a norm, each with a sum of its own for the weight's gradient."""


@triton.jit
def _norm(states, weight, out, inverse, width, epsilon, WIDTH: tl.constexpr):
    row, place = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    inside = place < width
    values = tl.load(states + row * width + place, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / width + epsilon)
    tl.store(inverse + row, scale)
    factor = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + place, (values * scale * factor).to(out.dtype.element_ty), mask=inside)


def norm(states_NE: Tensor, weight_E: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """RMSNorm of every row, and what each was multiplied by (N).

    Args:
        states_NE: contiguous.
    """
    rows, width = states_NE.shape
    out_NE, inverse_N = torch.empty_like(states_NE), states_NE.new_empty(rows, dtype=torch.float32)
    size = triton.next_power_of_2(width)
    _norm[(rows,)](states_NE, weight_E, out_NE, inverse_N, width, epsilon, WIDTH=size, num_warps=8)
    return out_NE, inverse_N


@triton.jit
def _norm_back(grad, states, weight, inverse, grad_states, grad_weight, rows, width, WIDTH: tl.constexpr):
    part, parts, place = tl.program_id(0), tl.num_programs(0), tl.arange(0, WIDTH)
    inside = place < width
    scale = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((WIDTH,), tl.float32)
    for row in range(part, rows, parts):
        at = (tl.zeros((WIDTH,), tl.int64) + row) * width + place
        given = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        by = tl.load(inverse + row)
        normed = tl.load(states + at, mask=inside, other=0.0).to(tl.float32) * by
        total += given * normed
        given *= scale
        along = tl.sum(given * normed, 0) / width
        tl.store(grad_states + at, ((given - normed * along) * by).to(grad_states.dtype.element_ty), mask=inside)
    tl.store(grad_weight + part * width + place, total, mask=inside)


def norm_back(grad_NE: Tensor, states_NE: Tensor, weight_E: Tensor, inverse_N: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the states and of the weight of `norm`, all contiguous."""
    rows, width = states_NE.shape
    parts = min(PARTS, rows)
    grad_states_NE = torch.empty_like(states_NE)
    sums = states_NE.new_empty(parts, width, dtype=torch.float32)
    size = triton.next_power_of_2(width)
    given = grad_NE, states_NE, weight_E, inverse_N, grad_states_NE, sums
    _norm_back[(parts,)](*given, rows, width, WIDTH=size, num_warps=8)
    return grad_states_NE, sums.sum(0).to(weight_E.dtype)


@triton.jit
def _turn(
    states, cosine, sine, out, stride, heads, size,
    HEADS: tl.constexpr, SIZE: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, SIZE)[None, :]
    head = tl.arange(0, HEADS)[:, None]
    half = size // 2
    partner = tl.where(place < half, place + half, place - half)
    here, there = place < size, (head < heads) & (place < size)
    sign = tl.where(place < half, -1.0, 1.0)
    start = states + token * stride + head * size
    value = tl.load(start + place, mask=there, other=0.0).to(tl.float32)
    other = tl.load(start + partner, mask=there, other=0.0).to(tl.float32)
    by = tl.load(cosine + token * size + place, mask=here, other=0.0).to(tl.float32)
    if BACK:
        across = -sign * tl.load(sine + token * size + partner, mask=here, other=0.0).to(tl.float32)
    else:
        across = sign * tl.load(sine + token * size + place, mask=here, other=0.0).to(tl.float32)
    at = (token * heads + head) * size + place
    tl.store(out + at, (value * by + other * across).to(out.dtype.element_ty), mask=there)


def turn(states_THD: Tensor, cosine_TD: Tensor, sine_TD: Tensor, *, back: bool = False) -> Tensor:
    """Heads turned by the angles of their token; `back`: the gradient of that.

    Args:
        states_THD: the heads of a token side by side; tokens may stand apart.
        cosine_TD: contiguous, like `sine_TD`.
    """
    tokens, heads, size = states_THD.shape
    out_THD = states_THD.new_empty(tokens, heads, size)
    sizes = dict(HEADS=triton.next_power_of_2(heads), SIZE=triton.next_power_of_2(size), BACK=back)
    _turn[(tokens,)](states_THD, cosine_TD, sine_TD, out_THD, states_THD.stride(0), heads, size, **sizes)
    return out_THD


@triton.jit
def _gate(gate, other, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    value = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, (value * tl.sigmoid(value) * factor).to(out.dtype.element_ty), mask=inside)


def gate(gate: Tensor, other: Tensor) -> Tensor:
    """silu(gate) times other, both contiguous and of one shape."""
    out = torch.empty_like(gate)
    count = gate.numel()
    _gate[(triton.cdiv(count, ELEMENTS),)](gate, other, out, count, BLOCK=ELEMENTS)
    return out


@triton.jit
def _gate_back(grad, gate, other, grad_gate, grad_other, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    given = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    open = tl.sigmoid(value)
    slope = open * (1 + value * (1 - open))
    tl.store(grad_gate + place, (given * factor * slope).to(grad_gate.dtype.element_ty), mask=inside)
    tl.store(grad_other + place, (given * value * open).to(grad_other.dtype.element_ty), mask=inside)


def gate_back(grad: Tensor, gate: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of both arguments of `gate`, all contiguous."""
    grad_gate, grad_other = torch.empty_like(gate), torch.empty_like(other)
    count = gate.numel()
    _gate_back[(triton.cdiv(count, ELEMENTS),)](grad, gate, other, grad_gate, grad_other, count, BLOCK=ELEMENTS)
    return grad_gate, grad_other
