"""Draws completions: every prompt is prefilled once and its cache held once, and draws that ended leave the batch.

The random numbers of a draw come from the seed and its own key alone, so a sample does not depend on what else is
in the batch, on the batch size or on the process.

Axes: P prompts, G draws of a prompt, N batch rows (the grid P × G), V vocabulary, T new tokens, A axes of M-RoPE.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medr1.engines.buffers import Draw
from medr1.engines.decode import FusedDecoder, ModelDecoder, SharedPrefixCache, can_fuse, is_small
from medr1.engines.engine import SamplingParams
from medr1.engines.graphs import decoder_of, give_back
from medr1.engines.plain import Sampling, pick
from medr1.engines.text_model import can_capture
from medr1.models.sharding import is_sharded, largest_of_all
from medr1.models.shared.attention import SHARED_PREFIX, attention_of, product_type
from medr1.models.shared.pack import PromptTensors, backbone, left_padded
from medr1.streams import stream

logger = logging.getLogger(__name__)

CAPTURED = {"cuda"}
"""Kinds of devices on which decoding is a captured graph of calls."""
COMPACT_AT = 0.25
"""Share of the grid that has to be free before it shrinks: shrinking copies the cache of what was drawn."""


def uniform_numbers(seed: int, key: str, count: int) -> np.ndarray:
    """The `count` numbers in [0, 1) that decide the tokens of one row."""
    return stream(seed, key).random(count)


class _Drawn:
    """The tokens of every draw, with what was probable when they were drawn.

    `draw_N` says whose turn each batch row is. Rows without a draw, or whose draw has ended, write into a last line
    that nobody reads.
    """

    def __init__(self, sizes: Sequence[int], limit: int, eos_token_ids: Sequence[int], device: torch.device) -> None:
        self.sizes, self.count = list(sizes), sum(sizes)
        grid_PG = torch.full((len(sizes), max(sizes)), self.count, device=device)
        grid_PG[torch.arange(max(sizes), device=device) < torch.tensor(self.sizes, device=device)[:, None]] = (
            torch.arange(self.count, device=device)
        )
        self.draw_N = grid_PG.flatten()
        self.done_N = self.draw_N == self.count
        lines = self.count + 1
        self.tokens = torch.zeros(lines, limit, dtype=torch.long, device=device)
        self.logprobs, self.entropies = (torch.zeros(lines, limit, device=device) for _ in range(2))
        self.lengths = torch.zeros(lines, dtype=torch.long, device=device)
        self.finished = torch.zeros(lines, dtype=torch.bool, device=device)
        self.eos = torch.tensor(list(eos_token_ids), device=device)

    def note(self, step: int, token_N: Tensor, log_NV: Tensor, probabilities_NV: Tensor) -> None:
        """Take up one token per batch row."""
        ended_N = torch.isin(token_N, self.eos)
        line_N = self.draw_N.masked_fill(self.done_N, self.count)
        self.tokens[line_N, step] = token_N
        self.logprobs[line_N, step] = log_NV.gather(1, token_N[:, None])[:, 0]
        self.entropies[line_N, step] = torch.special.entr(probabilities_NV).sum(-1)
        self.lengths[line_N] = step + 1
        self.finished[line_N] = ended_N
        self.done_N = self.done_N | ended_N

    def smaller_grid(self, draws: int) -> tuple[Tensor, Tensor] | None:
        """Prompts (P') and columns (P', G') of a grid without most of the ended draws; None where it gains little.

        None also when all have ended: then the rows run along for other processes, and nothing of them is kept.
        """
        done_PG = self.done_N.view(-1, draws)
        alive_P = (~done_PG).sum(1)
        prompts, draws_left = alive_P.nonzero()[:, 0], int(alive_P.max())
        if not draws_left or len(prompts) * draws_left > (1 - COMPACT_AT) * done_PG.numel():
            return None
        first_alive = done_PG[prompts].to(torch.uint8).argsort(dim=1, stable=True)
        return prompts, first_alive[:, :draws_left]

    def keep(self, rows: Tensor) -> None:
        """Go on with these batch rows."""
        self.draw_N, self.done_N = self.draw_N[rows], self.done_N[rows]

    def per_prompt(self) -> list[list[Draw]]:
        """The completions, grouped by prompt."""
        parts = (self.tokens, self.logprobs, self.entropies, self.lengths, self.finished)
        lines = zip(*(part[: self.count].tolist() for part in parts), strict=True)
        draws = iter([Draw(ids[:size], logs[:size], nats[:size], done) for ids, logs, nats, size, done in lines])
        return [[next(draws) for _ in range(size)] for size in self.sizes]


def _uniform(params: SamplingParams, keys: Sequence[Sequence[str]], device: torch.device) -> Tensor | None:
    """Random numbers of every draw and step, and a line for rows without a draw; None for greedy decoding."""
    if params.temperature == 0:
        return None
    numbers = [uniform_numbers(params.seed, key, params.max_new_tokens) for draws in keys for key in draws]
    return torch.from_numpy(np.stack([*numbers, np.zeros(params.max_new_tokens)])).to(device)


def threads_sleep() -> bool:
    """Whether OpenMP's threads sleep between two calls; waking them takes longer than a small product."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


@contextmanager
def decoding_threads(*, single: bool) -> Iterator[None]:
    """One thread inside the block, or as many as before."""
    before = torch.get_num_threads()
    if single:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _decoder(model: nn.Module, cache: SharedPrefixCache, rows: int) -> Iterator[FusedDecoder | ModelDecoder]:
    """The cheaper way to a next token of every row, with threads and modes as it needs them."""
    text_config = backbone(model).language_model.config
    small = is_small(text_config, rows, cache.no_bias.device)
    fused = small and can_fuse(model)
    with (
        attention_of(text_config, SHARED_PREFIX),
        decoding_threads(single=small and threads_sleep()),
        # Calls cost less in it, but a model's own modules may keep a tensor that training could not use afterwards.
        torch.inference_mode() if fused else nullcontext(),
    ):
        yield FusedDecoder(model, cache) if fused else ModelDecoder(model, cache)


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """What decoding begins with."""

    prompts: Sequence[PromptTensors]
    keys: Sequence[Sequence[str]]
    params: SamplingParams
    ends: list[int]
    forbidden: list[int]
    batch: dict[str, Tensor]
    """The prompts, padded on the left."""
    output: Any
    """Of the model over them: logits behind the last token, keys and values."""

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.batch["input_ids"].device

    def ids_without_padding(self) -> Tensor:
        """Ids (P, L) for the repetition penalty, with a token of the prompt again where there is padding.

        It must not take padding for something said, or draws would depend on their batch.
        """
        ids_PL = self.batch["input_ids"]
        return torch.where(self.batch["attention_mask"].bool(), ids_PL, ids_PL[:, -1:])


@torch.no_grad()
def sample(
    model: nn.Module,
    prompts: Sequence[PromptTensors],
    keys: Sequence[Sequence[str]],
    params: SamplingParams,
    *,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    forbidden_token_ids: Sequence[int] = (),
    on_tokens: Callable[[Tensor], None] | None = None,
) -> list[list[Draw]]:
    """Completions of every prompt, one per key: `result[prompt][draw]`.

    Args:
        model: in evaluation mode, with prompts on its device.
        keys: for every prompt the stable names of its draws, from which their random numbers come.
        params: `num_draws` is not used: the keys say how many.
        forbidden_token_ids: never sampled (image placeholders: the next forward would miss their pixels).
        on_tokens: gets the newest token of every row (N), at once: no graph of calls is captured then.
    """
    batch = left_padded(prompts, pad_token_id)
    output = model(**batch, use_cache=True, logits_to_keep=1)
    ends, forbidden = list(eos_token_ids), list(forbidden_token_ids)
    prefilled = _Prefilled(prompts, keys, params, ends, forbidden, batch, output)
    kind, dtype = prefilled.device.type, product_type(backbone(model).language_model.norm.weight)
    sharded = is_sharded(model)
    if kind in CAPTURED and on_tokens is None and not sharded and can_capture(model, dtype):
        try:
            # Graphs and kernels are of the current device.
            with torch.cuda.device_of(batch["input_ids"]), torch.autocast(kind, enabled=False):
                return _sample_in_buffers(model, dtype, prefilled)
        except torch.OutOfMemoryError:
            give_back(model)
            logger.warning(
                "The memory does not hold %d completions of %d tokens at once; decoding goes on token by token, which "
                "is slower. Lower max_completion_length or the batch size.",
                sum(map(len, keys)),
                params.max_new_tokens,
            )
    return _sample_in_grid(model, prefilled, sharded=sharded, on_tokens=on_tokens)


def _sample_in_grid(
    model: nn.Module, prefilled: _Prefilled, *, sharded: bool, on_tokens: Callable[[Tensor], None] | None = None
) -> list[list[Draw]]:
    """Token after token, in a grid of prompts and draws that shrinks."""
    device, params = prefilled.device, prefilled.params
    drawn = _Drawn([len(draws) for draws in prefilled.keys], params.max_new_tokens, prefilled.ends, device)
    draws = max(drawn.sizes)
    cache = SharedPrefixCache(prefilled.output.past_key_values, prefilled.batch["attention_mask"], draws)
    logits_NV = prefilled.output.logits[:, -1].repeat_interleave(draws, 0)
    position_P = torch.tensor([prompt.next_position for prompt in prefilled.prompts], device=device)
    position_N = position_P.repeat_interleave(draws)
    history_N = prefilled.ids_without_padding().repeat_interleave(draws, 0)
    forbidden = torch.tensor(prefilled.forbidden, dtype=torch.long, device=device)
    uniform_NT = _uniform(params, prefilled.keys, device)
    filters = Sampling.of(params).processors()

    with _decoder(model, cache, len(drawn.draw_N)) as decoder:
        for step in range(params.max_new_tokens):
            logits_NV = logits_NV.float().index_fill(1, forbidden, -torch.inf)
            log_NV = filters(history_N, logits_NV).log_softmax(-1)  # type: ignore[arg-type]
            probabilities_NV = log_NV.exp()
            token_N = pick(probabilities_NV, None if uniform_NT is None else uniform_NT[drawn.draw_N, step])
            drawn.note(step, token_N, log_NV, probabilities_NV)
            if on_tokens is not None:
                on_tokens(token_N)
            going_on = not drawn.done_N.all()
            if sharded:  # the other processes cannot run a forward without this one
                going_on = bool(largest_of_all(going_on, device))
            if not going_on or step == params.max_new_tokens - 1:
                break
            if (grid := drawn.smaller_grid(cache.num_draws)) is not None:
                rows = (grid[0][:, None] * cache.num_draws + grid[1]).flatten()
                cache.keep(*grid)
                drawn.keep(rows)
                token_N, position_N, history_N = token_N[rows], position_N[rows], history_N[rows]
            if params.repetition_penalty != 1.0:
                history_N = torch.cat([history_N, token_N[:, None]], 1)
            cache.advance()
            logits_NV = decoder(token_N, position_N + step)
    return drawn.per_prompt()


def _sample_in_buffers(model: nn.Module, dtype: torch.dtype, prefilled: _Prefilled) -> list[list[Draw]]:
    """The same by captured graphs."""
    decoder = decoder_of(model, dtype)
    mask_PL, params = prefilled.batch["attention_mask"], prefilled.params
    device, sizes = prefilled.device, [len(draws) for draws in prefilled.keys]
    prompt_N = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(device)
    position_N = torch.tensor([prompt.next_position for prompt in prefilled.prompts], device=device)[prompt_N]
    decoder.make_room(len(sizes), mask_PL.shape[1], len(prompt_N), params.max_new_tokens, len(prefilled.ends))
    decoder.states.take(prefilled.output.past_key_values, mask_PL)
    draws, sampling = decoder.draws, Sampling.of(params)
    uniform_NT = _uniform(params, prefilled.keys, device)
    said_NL = prefilled.ids_without_padding()[prompt_N] if sampling.looks_back else None
    draws.begin(prompt_N, position_N, uniform_NT, said_NL, ends=prefilled.ends, forbidden=prefilled.forbidden)
    decoder.draw(prefilled.output.logits[prompt_N, -1], sampling, torch.arange(len(prompt_N), device=device))
    decoder.decode(sampling, params.max_new_tokens)
    if decoder.is_large:
        give_back(model)
    return draws.per_prompt(sizes)
