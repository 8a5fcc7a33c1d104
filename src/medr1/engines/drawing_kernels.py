"""Kernels that draw the next tokens, Triton's: two passes over the logits, and a search where improbable ones are cut.

`engines/plain.py` says in PyTorch what they compute.

Axes: B batch rows, V vocabulary, X blocks of the vocabulary.
"""

# A launch takes more than the signature of its kernel says, and other types.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from medr1.engines.buffers import Draws
from medr1.engines.plain import Sampling

VOCABULARY_BLOCK = 2048
"""Logits that one program of the first pass over them sees."""
CUT_BLOCK = 1024
"""Logits that the search takes at once."""


@triton.jit
def _logits(row, allowed, said, place, vocabulary, penalty, PENALTY: tl.constexpr):
    """Logits of a row, less where the token has been said; none where it is not allowed or there is none."""
    inside = place < vocabulary
    may = tl.load(allowed + place, mask=inside, other=0) != 0
    value = tl.load(row + place, mask=inside & may, other=-float("inf")).to(tl.float32)
    if PENALTY:
        lower = tl.where(value < 0, value * penalty, value / penalty)
        value = tl.where(tl.load(said + place, mask=inside, other=0) != 0, lower, value)
    return value


@triton.jit
def _ordered(value):
    """Whole numbers in the order of float32 numbers; the last 16 bits are zero of what was bfloat16."""
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


@triton.jit
def _bound(
    row, allowed, said, vocabulary, penalty, sharpness, top, least, limit,
    MASS: tl.constexpr, LOWEST: tl.constexpr, PENALTY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The largest number of which at most `limit` lies below, among logits that are at least `least`, by their order.

    What lies below is counted, or its mass is summed. Four bits of the number are found by every pass over the row.
    """
    bound = tl.full((), -2147483648, tl.int32)
    for digit in range(0, (32 - LOWEST) // 4):
        step = 28 - 4 * digit
        pivots = bound + (tl.arange(0, 16) << step)  # up to the largest number, across the sign
        below = tl.zeros((16,), tl.float64)
        for begin in range(0, vocabulary, BLOCK):
            place = begin + tl.arange(0, BLOCK)
            value = _logits(row, allowed, said, place, vocabulary, penalty, PENALTY)
            number = _ordered(value)
            weight = tl.where((place < vocabulary) & (number >= least), 1.0, 0.0)
            if MASS:
                weight *= tl.exp((value - top) * sharpness)
            part = tl.where(number[:, None] < pivots[None, :], weight[:, None], 0.0)
            below += tl.sum(part, 0).to(tl.float64)
        bound += (tl.sum((below <= limit).to(tl.int32), 0) - 1) << step
    return bound


@triton.jit
def _cut(
    logits, allowed, said, slots, cuts, firsts, vocabulary, penalty, sharpness, top_k, rest, below_top,
    TOP_K: tl.constexpr, TOP_P: tl.constexpr, MIN_P: tl.constexpr, LOWEST: tl.constexpr, PENALTY: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The least logit of a row that may be drawn, and of those equal to it the place of the first that may.

    Of logits equal to the least one, top-p keeps as many as it needs, the last ones: as sorting them would.
    """
    row, slot = tl.program_id(0).to(tl.int64), tl.load(slots + tl.program_id(0))
    start, words = logits + row * vocabulary, said + slot * vocabulary
    top = -float("inf")
    for begin in range(0, vocabulary, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        top = tl.maximum(top, tl.max(_logits(start, allowed, words, place, vocabulary, penalty, PENALTY), 0))
    least = tl.full((), -2147483648, tl.int32)
    first = tl.zeros((), tl.int32)
    if TOP_K:
        beyond = tl.maximum(vocabulary - top_k, 0).to(tl.float64)
        least = _bound(
            start, allowed, words, vocabulary, penalty, sharpness, top, least, beyond, False, LOWEST, PENALTY, BLOCK
        )
    if TOP_P:
        total = tl.zeros((), tl.float64)
        for begin in range(0, vocabulary, BLOCK):
            value = _logits(start, allowed, words, begin + tl.arange(0, BLOCK), vocabulary, penalty, PENALTY)
            weight = tl.where(_ordered(value) >= least, tl.exp((value - top) * sharpness), 0.0)
            total += tl.sum(weight, 0).to(tl.float64)
        limit = total * rest
        kept = least
        least = _bound(
            start, allowed, words, vocabulary, penalty, sharpness, top, kept, limit, True, LOWEST, PENALTY, BLOCK
        )
        least = tl.minimum(least, _ordered(top))
        before, equal, share = tl.zeros((), tl.float64), tl.zeros((), tl.int32), tl.zeros((), tl.float32)
        for begin in range(0, vocabulary, BLOCK):
            place = begin + tl.arange(0, BLOCK)
            value = _logits(start, allowed, words, place, vocabulary, penalty, PENALTY)
            number, weight = _ordered(value), tl.exp((value - top) * sharpness)
            before += tl.sum(tl.where((number >= kept) & (number < least), weight, 0.0), 0).to(tl.float64)
            same = (number == least) & (place < vocabulary)
            equal += tl.sum(same.to(tl.int32), 0)
            share = tl.maximum(share, tl.max(tl.where(same, weight, 0.0), 0))
        left_out = tl.minimum(((limit - before) / share).to(tl.int32), equal - 1)
        if left_out > 0:
            passed = tl.zeros((), tl.int32)
            for begin in range(0, vocabulary, BLOCK):
                place = begin + tl.arange(0, BLOCK)
                value = _logits(start, allowed, words, place, vocabulary, penalty, PENALTY)
                same = ((_ordered(value) == least) & (place < vocabulary)).to(tl.int32)
                number = passed + tl.cumsum(same, 0)
                first += tl.sum(((number <= left_out) & (place < vocabulary)).to(tl.int32), 0)
                passed += tl.sum(same, 0)
    if MIN_P:
        lowest = _ordered(top + below_top)
        first = tl.where(lowest > least, 0, first)
        least = tl.maximum(least, lowest)
    tl.store(cuts + row, least)
    tl.store(firsts + row, first)


@triton.jit
def _kept(value, place, cuts, firsts, row, CUT: tl.constexpr):
    """Logits without those that are cut off."""
    if CUT:
        least, number = tl.load(cuts + row), _ordered(value)
        stays = (number > least) | ((number == least) & (place >= tl.load(firsts + row)))
        value = tl.where(stays, value, -float("inf"))
    return value


@triton.jit
def _survey(
    logits, allowed, said, slots, cuts, firsts, largest, sums, weighted, best, vocabulary, blocks, penalty, sharpness,
    CUT: tl.constexpr, PENALTY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a block of logits: the largest, its place, and the sums of exp(x - largest) and of that times x - largest."""
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = block * BLOCK + tl.arange(0, BLOCK)
    words = said + tl.load(slots + row) * vocabulary
    value = _logits(logits + row * vocabulary, allowed, words, place, vocabulary, penalty, PENALTY)
    value = _kept(value, place, cuts, firsts, row, CUT) * sharpness
    top = tl.max(value, 0)
    # A block without an allowed token counts nothing.
    floor = tl.where(top == -float("inf"), 0.0, top)
    weight = tl.exp(value - floor)
    at = row * blocks + block
    tl.store(largest + at, top)
    tl.store(best + at, block * BLOCK + tl.argmax(value, 0))
    tl.store(sums + at, tl.sum(weight, 0))
    tl.store(weighted + at, tl.sum(weight * tl.where(weight > 0, value - floor, 0.0), 0))


@triton.jit
def _choose(
    logits, allowed, said, cuts, firsts, largest, sums, weighted, best, uniform, slots, step_at, ends,
    tokens, logprobs, entropies, lengths, ended, vocabulary, blocks, penalty, sharpness, room, spare,
    CUT: tl.constexpr, PENALTY: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr, ENDS: tl.constexpr,
    GREEDY: tl.constexpr,
):  # fmt: skip
    """Draw a token of a row by inverse transform sampling and write down what is known of it."""
    row = tl.program_id(0).to(tl.int64)
    slot, step = tl.load(slots + row), tl.load(step_at)
    start, words = logits + row * vocabulary, said + slot * vocabulary
    part = tl.arange(0, BLOCKS)
    there = part < blocks
    tops = tl.load(largest + row * blocks + part, mask=there, other=-float("inf"))
    top = tl.max(tops, 0)
    below = tl.where(tops == -float("inf"), 0.0, tops - top)
    shrink = tl.exp(tops - top)
    mass = tl.load(sums + row * blocks + part, mask=there, other=0.0)
    moment = ((tl.load(weighted + row * blocks + part, mask=there, other=0.0) + mass * below) * shrink).to(tl.float64)
    mass = (mass * shrink).to(tl.float64)
    total = tl.sum(mass, 0)
    spread = tl.log(total.to(tl.float32))
    entropy = spread - (tl.sum(moment, 0) / total).to(tl.float32)
    if GREEDY:
        first = tl.argmax(tops, 0)
        token = tl.load(best + row * blocks + first)
    else:
        number = tl.load(uniform + slot * room + step)
        cumulative = tl.cumsum(mass, 0)
        target = number * total
        # The first block whose end lies beyond the target; where rounding leaves none, the last with any mass.
        last = tl.max(tl.where(mass > 0, part, 0), 0)
        chosen = tl.minimum(tl.sum(tl.where(there & (cumulative <= target), 1, 0), 0), last)
        before = tl.sum(tl.where(part < chosen, mass, 0.0), 0)
        place = chosen * BLOCK + tl.arange(0, BLOCK)
        value = _logits(start, allowed, words, place, vocabulary, penalty, PENALTY)
        value = _kept(value, place, cuts, firsts, row, CUT) * sharpness
        weight = tl.exp(value - top).to(tl.float64)
        reached = tl.cumsum(weight, 0) + before
        last_place = tl.max(tl.where(weight > 0, place, 0), 0)
        beyond = tl.min(tl.where((reached > target) & (weight > 0), place, vocabulary), 0)
        token = tl.minimum(beyond, last_place)
    logit = _logits(start, allowed, words, token, vocabulary, penalty, PENALTY) * sharpness
    if PENALTY:
        tl.store(words + token, 1)
    over = tl.load(ended + slot) != 0
    line = tl.where(over, spare, slot)
    at = line * room + step
    end = tl.load(ends + tl.arange(0, ENDS))
    finished = tl.max((end == token).to(tl.int32), 0) != 0
    tl.store(tokens + at, token.to(tl.int64))
    tl.store(logprobs + at, logit - top - spread)
    tl.store(entropies + at, entropy)
    tl.store(lengths + line, step + 1)
    tl.store(ended + slot, (over | finished).to(tl.int8))


def draw(logits_BV: Tensor, sampling: Sampling, draws: Draws, slots_B: Tensor) -> None:
    """Draw the next token of every row, the most probable one at temperature 0, and write it down.

    The distribution is the softmax of the logits behind transformers' filters, without the tokens that are not allowed.
    """
    rows, vocabulary = logits_BV.shape
    blocks = triton.cdiv(vocabulary, VOCABULARY_BLOCK)
    largest, sums, weighted = (logits_BV.new_empty(rows, blocks, dtype=torch.float32) for _ in range(3))
    best = logits_BV.new_empty(rows, blocks, dtype=torch.int32)
    greedy, penalty = sampling.temperature == 0, sampling.repetition_penalty
    sharpness = 1.0 if greedy else 1.0 / sampling.temperature
    cuts = [logits_BV.new_empty(rows, dtype=torch.int32) for _ in range(2)]
    seen = logits_BV, draws.allowed, draws.said
    fixed: dict[str, Any] = dict(PENALTY=sampling.looks_back)
    if sampling.cuts:
        whole = logits_BV.dtype == torch.bfloat16 and not sampling.looks_back
        below_top = math.log(sampling.min_p) / sharpness if sampling.min_p > 0 else 0.0
        _cut[(rows,)](
            *seen, slots_B, *cuts, vocabulary, penalty, sharpness, sampling.top_k, 1.0 - sampling.top_p, below_top,
            TOP_K=sampling.top_k > 0, TOP_P=sampling.top_p < 1.0, MIN_P=sampling.min_p > 0, LOWEST=16 if whole else 0,
            BLOCK=CUT_BLOCK, num_warps=8, **fixed,
        )  # fmt: skip
    found = largest, sums, weighted, best
    fixed |= dict(CUT=sampling.cuts, BLOCK=VOCABULARY_BLOCK)
    _survey[(rows, blocks)](*seen, slots_B, *cuts, *found, vocabulary, blocks, penalty, sharpness, **fixed)
    _choose[(rows,)](
        *seen, *cuts, *found, draws.uniform, slots_B, draws.step, draws.ends,
        draws.tokens, draws.logprobs, draws.entropies, draws.lengths, draws.ended,
        vocabulary, blocks, penalty, sharpness, draws.room, draws.spare,
        BLOCKS=triton.next_power_of_2(blocks), ENDS=len(draws.ends), GREEDY=greedy, **fixed,
    )  # fmt: skip
