"""Buffers of fixed size and place, in which a GPU decodes: what a captured graph of calls reads and writes.

Every draw has a slot for its keys, values, tokens and random numbers, from its first token to its last. A batch row
names the slot that it decodes, so that draws leave a batch by naming fewer slots: nothing is copied. The last slot is
nobody's: rows without a draw decode it, and draws that have ended write there.

Axes: P prompts, L room for a prompt, S room for a completion, K key-value heads, D head size, V vocabulary. N counts
the slots, the spare one included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PROMPT_STEP = 256
"""Room for prompts is a multiple of this many tokens."""
ROOM_STEP = 64
"""Room for completions is a multiple of this many tokens."""
ENDS = 8
"""Room for tokens that end a completion, at first."""


def rounded_up(number: int, step: int) -> int:
    """The next multiple of `step`.

    >>> rounded_up(302, 256), rounded_up(256, 256)
    (512, 256)
    """
    return -(-number // step) * step


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampled completion."""

    token_ids: list[int]
    """Up to and including the end token, where there is one."""
    logprobs: list[float]
    """Of each token under the distribution that it was drawn from."""
    entropies: list[float]
    """Of that distribution, in nats."""
    finished: bool
    """Ended by itself, not by the limit."""


class States:
    """Keys and values of prompts and of what is drawn from them, layer by layer."""

    def __init__(
        self, layers: int, prompts: int, prompt_room: int, slots: int, room: int, heads: int, size: int, *, like: Tensor
    ) -> None:
        self.prompt_room, self.room = prompt_room, room
        held, own = (prompts, heads, prompt_room, size), (slots, heads, room, size)
        self.prompt_keys, self.prompt_values = ([like.new_zeros(held) for _ in range(layers)] for _ in range(2))
        self.own_keys, self.own_values = ([like.new_zeros(own) for _ in range(layers)] for _ in range(2))
        self.bounds = torch.zeros(prompts, 2, dtype=torch.int32, device=like.device)
        """Of every prompt: where its tokens begin and end in its room."""

    @property
    def nbytes(self) -> int:
        """Of all layers."""
        parts = (self.prompt_keys, self.prompt_values, self.own_keys, self.own_values)
        return sum(tensor.nbytes for part in parts for tensor in part)

    def take(self, prefill: Any, prompt_mask_PL: Tensor) -> None:
        """Copy the keys and values of a prefill with padding on the left."""
        prompts, length = prompt_mask_PL.shape
        held = [(layer.keys, layer.values) for layer in prefill.layers]
        for index, (keys, values) in enumerate(held):
            self.prompt_keys[index][:prompts, :, :length].copy_(keys)
            self.prompt_values[index][:prompts, :, :length].copy_(values)
        self.bounds[:prompts, 0] = (length - prompt_mask_PL.sum(1)).to(torch.int32)
        self.bounds[:prompts, 1] = length


class Draws:
    """The tokens of every slot, and all that decides them beside the model."""

    def __init__(self, slots: int, room: int, vocabulary: int, ends: int, device: torch.device) -> None:
        self.spare, self.room = slots - 1, room
        whole: dict[str, Any] = dict(dtype=torch.long, device=device)
        self.step = torch.zeros(1, **whole)
        """Place of the newest tokens."""
        self.prompt = torch.zeros(slots, **whole)
        self.position = torch.zeros(slots, **whole)
        """Of the first token of a completion; the others follow."""
        self.uniform = torch.zeros(slots, room, dtype=torch.float64, device=device)
        self.tokens = torch.zeros(slots, room, **whole)
        self.logprobs, self.entropies = (torch.zeros(slots, room, device=device) for _ in range(2))
        self.lengths = torch.zeros(slots, **whole)
        self.ended = torch.zeros(slots, dtype=torch.int8, device=device)
        self.allowed = torch.ones(vocabulary, dtype=torch.int8, device=device)
        self.ends = torch.full((max(ENDS, 1 << (ends - 1).bit_length()),), -1, **whole)
        """Tokens that end a completion, and -1; a power of two of them."""
        self.said = torch.zeros(slots, vocabulary, dtype=torch.int8, device=device)
        """1 at every token that the prompt or the completion of a slot has, where that matters."""

    def begin(
        self,
        prompt_N: Tensor,
        position_N: Tensor,
        uniform_NT: Tensor | None,
        said_NL: Tensor | None = None,
        *,
        ends: Sequence[int],
        forbidden: Sequence[int],
    ) -> None:
        """Forget what was drawn and take up other draws.

        Args:
            prompt_N: the prompt of every draw.
            position_N: of its first token.
            uniform_NT: its random numbers; None for greedy decoding.
            said_NL: the tokens of its prompt; None where it does not matter what was said.
            ends: tokens that end a completion.
            forbidden: tokens that are never drawn.
        """
        count = len(prompt_N)
        self.step.zero_()
        self.ended.fill_(1)
        self.ended[:count] = 0
        self.prompt[:count], self.position[:count] = prompt_N, position_N
        if uniform_NT is not None:
            self.uniform[:count, : uniform_NT.shape[1]] = uniform_NT[:count]
        if said_NL is not None:
            self.said.zero_()
            self.said[:count].scatter_(1, said_NL, 1)
        self.allowed.fill_(1)
        self.allowed[list(forbidden)] = 0
        self.ends.fill_(-1)
        self.ends[: len(ends)] = self.ends.new_tensor(list(ends))

    @property
    def going_on(self) -> Tensor:
        """Whether each draw goes on; not the spare slot."""
        return self.ended[: self.spare] == 0

    def per_prompt(self, sizes: Sequence[int]) -> list[list[Draw]]:
        """The completions, grouped by prompt.

        Args:
            sizes: how many draws each prompt has.
        """
        count = sum(sizes)
        ended = self.ended.bool()
        parts = (part[:count].tolist() for part in (self.tokens, self.logprobs, self.entropies, self.lengths, ended))
        lines = zip(*parts, strict=True)
        draws = iter([Draw(ids[:size], logs[:size], nats[:size], done) for ids, logs, nats, size, done in lines])
        return [[next(draws) for _ in range(size)] for size in sizes]
