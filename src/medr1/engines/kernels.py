"""The parts of a decoding step that are worth kernels of their own on a GPU: Triton's.

Calls, not arithmetic, limit a decoding step of a few billion weights. Between two matrix products stands one kernel:
a norm; rotation, cache write and attention together; a gated unit. `engines/drawing_kernels.py` draws the next tokens.
`engines/plain.py` says in PyTorch what each of them computes.

Products are computed in the type of the tensors with sums in float32; float32 products in full precision.

Axes: B batch rows, H query heads, K key-value heads, Q query heads per key-value head, D head size, L room for a
prompt, S room for a completion.
"""

# A launch takes more than the signature of its kernel says, and other types.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from medr1.engines.buffers import Draws, States
from medr1.engines.drawing_kernels import draw
from medr1.models.shared import kernels

__all__ = ["attend", "draw", "gated", "norm", "supports"]

KEY_BLOCK = 64
"""Keys that an attention program takes at once; half of them in float32, for the small shared memory of some GPUs."""
SMALLEST_DOT = 16
"""Rows and columns that a product of Triton's has at least."""


def supports(head_size: int, dtype: torch.dtype) -> bool:
    """Whether attention with heads of a size can be computed here."""
    power = head_size & (head_size - 1) == 0
    return power and head_size >= SMALLEST_DOT and dtype in (torch.float32, torch.bfloat16, torch.float16)


def norm(hidden_BE: Tensor, weight_E: Tensor, epsilon: float) -> Tensor:
    """RMSNorm of every row."""
    return kernels.norm(hidden_BE, weight_E, epsilon)[0]


@triton.jit
def _gated(gate_up, out, width, BLOCK: tl.constexpr):
    row, place = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < width
    gate = tl.load(gate_up + row * 2 * width + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + place, (gate / (1 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=inside)


def gated(gate_up_BF: Tensor) -> Tensor:
    """silu(first half) times second half of every row."""
    rows, both = gate_up_BF.shape
    width, block = both // 2, 1024
    out = gate_up_BF.new_empty(rows, width)
    _gated[(rows, triton.cdiv(width, block))](gate_up_BF, out, width, BLOCK=block)
    return out


@triton.jit
def _rotated(start, head, angles, weight, epsilon, inside, NORMED: tl.constexpr, D: tl.constexpr):
    """Heads (rows of `head`) rotated, normalised before where the family does so."""
    cosine, sine = angles
    place = tl.arange(0, D)[None, :]
    partner = (place + D // 2) % D
    values = tl.load(start + head * D + place, mask=inside, other=0.0).to(tl.float32)
    others = tl.load(start + head * D + partner, mask=inside, other=0.0).to(tl.float32)
    if NORMED:
        size = tl.rsqrt(tl.sum(values * values, 1) / D + epsilon)[:, None]
        values = values * size * tl.load(weight + place).to(tl.float32)
        others = others * size * tl.load(weight + partner).to(tl.float32)
    return values * cosine + others * tl.where(place < D // 2, -sine, sine)


@triton.jit
def _seen(
    query, keys, values, first, last, softmax, scale, D: tl.constexpr, BLOCK: tl.constexpr, EXACT: tl.constexpr
):  # fmt: skip
    """Take keys and values into a running softmax, block by block (Dao et al. 2022, FlashAttention, section 3.1)."""
    largest, total, output = softmax
    precision: tl.constexpr = "ieee" if EXACT else "tf32"  # type: ignore[assignment]
    place = tl.arange(0, D)[None, :]
    for begin in range(first, last, BLOCK):
        places = begin + tl.arange(0, BLOCK)
        valid = places < last
        at = places[:, None] * D + place
        key = tl.load(keys + at, mask=valid[:, None], other=0.0)
        value = tl.load(values + at, mask=valid[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision=precision) * scale
        scores = tl.where(valid[None, :], scores, -float("inf"))
        now = tl.maximum(largest, tl.max(scores, 1))
        shrink, weights = tl.exp(largest - now), tl.exp(scores - now[:, None])
        added = tl.dot(weights.to(value.dtype), value, input_precision=precision)
        largest, total, output = now, total * shrink + tl.sum(weights, 1), output * shrink[:, None] + added
    return largest, total, output


@triton.jit
def _attend(
    states, cosine, sine, query_norm, key_norm, prompt_keys, prompt_values, own_keys, own_values, out,
    step_at, slots, prompts, bounds, scale, epsilon, prompt_room, room,
    H: tl.constexpr, K: tl.constexpr, Q: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    NORMED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    slot, step = tl.load(slots + row), tl.load(step_at)
    prompt = tl.load(prompts + slot)
    first, last = tl.load(bounds + 2 * prompt).to(tl.int32), tl.load(bounds + 2 * prompt + 1).to(tl.int32)
    place = tl.arange(0, D)[None, :]
    angle = row * (D // 2) + place % (D // 2)
    angles = tl.load(cosine + angle), tl.load(sine + angle)

    start = states + row.to(tl.int64) * (H + 2 * K) * D
    queries = tl.arange(0, ROWS)[:, None]
    inside = (queries < Q) & (place < D)
    query = _rotated(start + head * Q * D, queries, angles, query_norm, epsilon, inside, NORMED, D)
    query = query.to(own_keys.dtype.element_ty)
    only = tl.zeros((1, 1), tl.int32)
    new = _rotated(start + (H + head) * D, only, angles, key_norm, epsilon, place < D, NORMED, D)
    new = new.to(own_keys.dtype.element_ty)
    value = tl.load(start + (H + K + head) * D + place)
    own = (slot.to(tl.int64) * K + head) * room * D
    tl.store(own_keys + own + step * D + place, new)
    tl.store(own_values + own + step * D + place, value)

    # The new token first, so that nothing is read that this program has just written.
    largest = tl.sum(query.to(tl.float32) * new.to(tl.float32), 1) * scale
    output = tl.zeros((ROWS, D), tl.float32) + value.to(tl.float32)
    softmax = largest, tl.full((ROWS,), 1.0, tl.float32), output
    held = (prompt.to(tl.int64) * K + head) * prompt_room * D
    softmax = _seen(query, prompt_keys + held, prompt_values + held, first, last, softmax, scale, D, BLOCK, EXACT)
    length = step.to(tl.int32)
    softmax = _seen(query, own_keys + own, own_values + own, 0, length, softmax, scale, D, BLOCK, EXACT)
    at = row.to(tl.int64) * H * D + (head * Q + queries) * D + place
    tl.store(out + at, (softmax[2] / softmax[1][:, None]).to(out.dtype.element_ty), mask=inside)


def attend(
    states_BXD: Tensor,
    rotation: tuple[Tensor, Tensor],
    norms: tuple[Tensor, Tensor, float] | None,
    layer: int,
    states: States,
    draws: Draws,
    slots_B: Tensor,
) -> Tensor:
    """Outputs (B, H D) of the attention of one layer; the new keys and values are written to their places.

    Args:
        states_BXD: queries, keys and values of the new tokens: X = H + 2 K heads.
        rotation: cosines and sines (B, D / 2).
        norms: weights (D) of the norms of queries and keys and their epsilon, for families that have them.
    """
    rows, _, size = states_BXD.shape
    kv_heads = states.own_keys[layer].shape[1]
    heads = states_BXD.shape[1] - 2 * kv_heads
    group = heads // kv_heads
    out, exact = states_BXD.new_empty(rows, heads * size), states_BXD.dtype == torch.float32
    query_norm, key_norm, epsilon = norms or (states_BXD, states_BXD, 0.0)
    held = (states.prompt_keys, states.prompt_values, states.own_keys, states.own_values)
    sizes: dict[str, Any] = dict(H=heads, K=kv_heads, Q=group, D=size)
    sizes |= dict(ROWS=max(SMALLEST_DOT, triton.next_power_of_2(group)), BLOCK=KEY_BLOCK // 2 if exact else KEY_BLOCK)
    _attend[(rows, kv_heads)](
        states_BXD, *rotation, query_norm, key_norm, *(part[layer] for part in held), out,
        draws.step, slots_B, draws.prompt, states.bounds, size**-0.5, epsilon, states.prompt_room, states.room,
        **sizes, NORMED=norms is not None, EXACT=exact, num_warps=4,
    )  # fmt: skip
    return out
