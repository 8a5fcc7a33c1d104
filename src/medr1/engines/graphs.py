"""Decoding on a GPU: a step is one captured graph of calls over fixed buffers, replayed token after token.

A step of a few billion weights takes a tenth of the time that Python needs to call its kernels one by one, so the
calls are recorded once for each *bucket*, a number of batch rows, and replayed. Draws that have ended leave by way of
a smaller bucket. The host looks for ends every few tokens only; what a row draws beyond its end is written to nobody's
line. Buffers and graphs stay with the model from rollout to rollout, as long as they are not large.

The same step without a graph, by `engines/plain.py`, is what runs in the tests on a CPU.

Axes: N slots, B batch rows, V vocabulary.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from medr1.engines.buffers import PROMPT_STEP, ROOM_STEP, Draws, States, rounded_up
from medr1.engines.plain import Sampling
from medr1.engines.text_model import TextModel

KEPT_SHARE = 0.05
"""Share of a GPU's memory that states may keep between rollouts; larger ones, and their graphs, are made anew."""
LOOK_EVERY = 8
"""Tokens between two looks at which draws have ended."""


def bucket(rows: int) -> int:
    """Rows of the graph that decodes so many: a power of two, from 16 on also one and a half of one.

    >>> [bucket(rows) for rows in (1, 3, 9, 17, 25, 100, 128, 129)]
    [1, 4, 16, 24, 32, 128, 128, 192]
    """
    power = 1 << max(0, rows - 1).bit_length()
    return power * 3 // 4 if power > 16 and rows <= power * 3 // 4 else power


class GraphDecoder:
    """The buffers and graphs of one model.

    Args:
        model: one for which `can_capture` holds.
        dtype: of products and states.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.text = TextModel(model, dtype)
        self.states: States
        self.draws: Draws
        self.slots: Tensor
        """The slot of every row."""
        self.graphs: dict[Any, torch.cuda.CUDAGraph] = {}
        self.pool: Any = None
        self.room = (0, 0, 0, 0, 0)
        """For prompts, their tokens, draws, their tokens, and tokens that end a completion."""

    def make_room(self, *wanted: int) -> None:
        """See that the buffers are large enough, in the order of `room`; larger ones make the graphs void."""
        if all(there >= need for there, need in zip(self.room, wanted, strict=True)):
            return
        prompts, length, draws, tokens, ends = (max(pair) for pair in zip(self.room, wanted, strict=True))
        if any(self.room):  # what is too small gives its memory back first
            self.graphs.clear()
            del self.states, self.draws
        text, weight = self.text, self.text.embedding
        length, tokens = rounded_up(length, PROMPT_STEP), rounded_up(tokens, ROOM_STEP)
        sizes = prompts, length, draws + 1, tokens, text.kv_heads, text.head_size
        self.states = States(len(text.layers), *sizes, like=weight)
        self.draws = Draws(draws + 1, tokens, len(text.head.weight_XE), ends, weight.device)
        self.slots = torch.full((bucket(draws),), draws, device=weight.device)
        self.room = prompts, length, draws, tokens, ends

    @property
    def is_large(self) -> bool:
        """Whether the states take more memory than may be kept from what comes between two rollouts."""
        device = self.slots.device
        if device.type != "cuda":
            return False
        return self.states.nbytes > KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory

    def draw(self, logits_BV: Tensor, sampling: Sampling, slots_B: Tensor) -> None:
        """The next token of every row."""
        self.text.kernels.draw(logits_BV, sampling, self.draws, slots_B)

    def step(self, rows: int, sampling: Sampling) -> None:
        """One more token in each of the first rows."""
        draws, slots_B = self.draws, self.slots[:rows]
        logits_BV = self.text(self.states, draws, slots_B)
        draws.step += 1
        self.draw(logits_BV, sampling, slots_B)

    def replay(self, rows: int, sampling: Sampling) -> None:
        """The step as a graph of calls; on a CPU the calls themselves."""
        if self.slots.device.type != "cuda":
            self.step(rows, sampling)
            return
        key = rows, sampling
        if key not in self.graphs:
            self.graphs[key] = self._captured(rows, sampling)
        self.graphs[key].replay()

    def _captured(self, rows: int, sampling: Sampling) -> torch.cuda.CUDAGraph:
        """A graph of a step of so many rows; what is in the buffers stays."""
        slots, step = self.slots.clone(), self.draws.step.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are built and libraries set up outside a capture
            self.slots.fill_(self.draws.spare)
            self.step(rows, sampling)
            self.slots.copy_(slots)
            self.draws.step.copy_(step)
        torch.cuda.current_stream().wait_stream(aside)
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            self.step(rows, sampling)
        return graph

    def decode(self, sampling: Sampling, limit: int) -> None:
        """Go on from first tokens until every draw has ended or has `limit` tokens."""
        rows = self._seat()
        for count in range(1, limit):
            if (count - 1) % LOOK_EVERY == 0:
                alive = int(self.draws.going_on.sum())
                if not alive:
                    return
                if bucket(alive) < rows:
                    rows = self._seat()
            self.replay(rows, sampling)

    def _seat(self) -> int:
        """Give the draws that go on the first rows; how many rows there are now."""
        alive = self.draws.going_on.nonzero()[:, 0]
        self.slots.fill_(self.draws.spare)
        self.slots[: len(alive)] = alive
        return bucket(len(alive))


_DECODERS: WeakKeyDictionary[nn.Module, tuple[Any, GraphDecoder]] = WeakKeyDictionary()
"""Of every model that has been decoded: what it consisted of then, and its buffers and graphs."""


def decoder_of(model: Any, dtype: torch.dtype) -> GraphDecoder:
    """The decoder of a model with its weights as they are now.

    Args:
        model: one for which `can_capture` holds.
        dtype: of products and states.
    """
    before = _DECODERS.get(model)
    if before is None or before[0] != _made_of(model, dtype):
        _DECODERS.pop(model, None)
        decoder = GraphDecoder(model, dtype)  # moves weights together, so what it is made of is asked afterwards
        _DECODERS[model] = before = _made_of(model, dtype), decoder
    decoder = before[1]
    decoder.text.weights.refresh()
    return decoder


def _made_of(model: Any, dtype: torch.dtype) -> Any:
    """What a decoder depends on: types, places of the weights, and which adapters are at work."""
    adapters = [
        (tuple(module.active_adapters), module.disable_adapters, tuple(module.scaling.values()))
        for module in model.modules()
        if hasattr(module, "base_layer")
    ]
    return dtype, adapters, [(id(weight), weight.data_ptr(), weight.dtype) for weight in model.parameters()]


def give_back(model: nn.Module) -> None:
    """Let go of the buffers and graphs of a model."""
    _DECODERS.pop(model, None)
