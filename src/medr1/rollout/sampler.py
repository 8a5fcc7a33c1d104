"""Draws completions: every prompt is prefilled once, its cache expanded per draw, and rows that ended leave the batch.

The random numbers of a row come from the seed and the row's own key alone, so a sample does not depend on what else is
in the batch, on the batch size or on the process.

Axes: P prompts, N rows (the draws of all prompts), V vocabulary, T new tokens, A axes of M-RoPE.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from medr1.models.prefix import PromptTensors, left_padded
from medr1.rollout.engine import SamplingParams

# Compacting the cache copies it; below this share of finished rows carrying them along is cheaper.
COMPACT_AT = 0.25


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


def uniform_numbers(seed: int, key: str, count: int) -> np.ndarray:
    """The `count` numbers in [0, 1) that decide the tokens of one row."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).random(count)


def logits_processors(
    params: SamplingParams, forbidden_token_ids: Sequence[int], device: torch.device
) -> LogitsProcessorList:
    """The filters of transformers' own `generate`, in its order."""
    chain = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if forbidden_token_ids:
        chain.append(SuppressTokensLogitsProcessor(list(forbidden_token_ids), device=device.type))
    if params.temperature > 0:
        if params.temperature != 1.0:
            chain.append(TemperatureLogitsWarper(params.temperature))
        if params.top_k > 0:
            chain.append(TopKLogitsWarper(params.top_k))
        if params.top_p < 1.0:
            chain.append(TopPLogitsWarper(params.top_p))
        if params.min_p > 0:
            chain.append(MinPLogitsWarper(params.min_p))
    return chain


def pick(logits_NV: Tensor, uniform_N: Tensor | None) -> Tensor:
    """Tokens by inverse transform sampling; the most probable ones when there are no random numbers."""
    if uniform_N is None:
        return logits_NV.argmax(-1)
    cumulative_NV = logits_NV.double().softmax(-1).cumsum(-1)
    total_N = cumulative_NV[:, -1]
    # Rounded up to the total, a number would point behind the last token that has any probability.
    target_N = torch.minimum(uniform_N * total_N, torch.nextafter(total_N, torch.zeros_like(total_N)))
    return torch.searchsorted(cumulative_NV, target_N[:, None], right=True)[:, 0]


class _Drawn:
    """The tokens of every row as they are drawn, with what was probable when they were.

    Rows keep their number here while finished ones leave the batch: `alive_N` says whose turn each batch row is.
    """

    def __init__(self, rows: int, limit: int, pad_token_id: int, eos_token_ids: Sequence[int], device: Any) -> None:
        self.tokens_NT = torch.full((rows, limit), pad_token_id, device=device)
        self.logprobs_NT = torch.zeros(rows, limit, device=device)
        self.entropies_NT = torch.zeros(rows, limit, device=device)
        self.lengths_N = torch.zeros(rows, dtype=torch.long, device=device)
        self.finished_N = torch.zeros(rows, dtype=torch.bool, device=device)
        self.alive_N = torch.arange(rows, device=device)
        self.eos = torch.tensor(list(eos_token_ids), device=device)

    def note(self, step: int, token_N: Tensor, logits_NV: Tensor) -> Tensor:
        """Take up one token per batch row; returns which batch rows have finished."""
        running = ~self.finished_N[self.alive_N]
        live, tokens = self.alive_N[running], token_N[running]
        log_NV = logits_NV[running].log_softmax(-1)
        self.tokens_NT[live, step] = tokens
        self.logprobs_NT[live, step] = log_NV.gather(1, tokens[:, None])[:, 0]
        finite_NV = log_NV.clamp(min=torch.finfo(log_NV.dtype).min)  # 0 log 0 is 0
        self.entropies_NT[live, step] = -(log_NV.exp() * finite_NV).sum(-1)
        self.lengths_N[live] += 1
        self.finished_N[live] |= torch.isin(tokens, self.eos)
        return self.finished_N[self.alive_N]

    def per_prompt(self, prompt_N: Tensor, num_prompts: int) -> list[list[Draw]]:
        """The completions, grouped by prompt."""
        results: list[list[Draw]] = [[] for _ in range(num_prompts)]
        tokens, logprobs = self.tokens_NT.tolist(), self.logprobs_NT.tolist()
        entropies, lengths, finished = self.entropies_NT.tolist(), self.lengths_N.tolist(), self.finished_N.tolist()
        for row, prompt in enumerate(prompt_N.tolist()):
            size = lengths[row]
            draw = Draw(tokens[row][:size], logprobs[row][:size], entropies[row][:size], finished[row])
            results[prompt].append(draw)
        return results


def _uniform(params: SamplingParams, keys: Sequence[Sequence[str]], device: Any) -> Tensor | None:
    """Random numbers of every row and step; None for greedy decoding."""
    if params.temperature == 0:
        return None
    numbers = [uniform_numbers(params.seed, key, params.max_new_tokens) for draws in keys for key in draws]
    return torch.from_numpy(np.stack(numbers)).to(device)


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
) -> list[list[Draw]]:
    """Completions of every prompt, one per key: `result[prompt][draw]`.

    Args:
        model: in evaluation mode, with prompts on its device.
        keys: for every prompt the stable names of its draws, from which their random numbers come.
        params: `num_draws` is not used: the keys say how many.
        forbidden_token_ids: never sampled (image placeholders: the next forward would miss their pixels).
    """
    device = prompts[0].input_ids_L.device
    prompt_N = torch.tensor([p for p, draws in enumerate(keys) for _ in draws], device=device)
    batch = left_padded(prompts, pad_token_id)
    output = model(**batch, use_cache=True, logits_to_keep=1)
    cache, logits_NV = output.past_key_values, output.logits[prompt_N, -1]
    if len(prompt_N) != len(prompts):
        cache.batch_select_indices(prompt_N)
    ids_N, mask_N = batch["input_ids"][prompt_N], batch["attention_mask"][prompt_N]
    position_N = torch.tensor([prompt.next_position for prompt in prompts], device=device)[prompt_N]
    uniform_NT = _uniform(params, keys, device)
    filters = logits_processors(params, forbidden_token_ids, device)
    drawn = _Drawn(len(prompt_N), params.max_new_tokens, pad_token_id, eos_token_ids, device)

    for step in range(params.max_new_tokens):
        logits_NV = filters(ids_N, logits_NV.float())  # type: ignore[arg-type]
        token_N = pick(logits_NV, None if uniform_NT is None else uniform_NT[drawn.alive_N, step])
        done_N = drawn.note(step, token_N, logits_NV)
        if done_N.all() or step == params.max_new_tokens - 1:
            break
        if done_N.float().mean() >= COMPACT_AT:
            keep = (~done_N).nonzero()[:, 0]
            cache.batch_select_indices(keep)
            drawn.alive_N, token_N, position_N = drawn.alive_N[keep], token_N[keep], position_N[keep]
            ids_N, mask_N = ids_N[keep], mask_N[keep]
        ids_N = torch.cat([ids_N, token_N[:, None]], 1)
        mask_N = torch.cat([mask_N, mask_N.new_ones(len(mask_N), 1)], 1)
        output = model(
            input_ids=token_N[:, None],
            attention_mask=mask_N,
            position_ids=(position_N + step)[None, :, None].expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        )
        logits_NV = output.logits[:, -1]
    return drawn.per_prompt(prompt_N, len(prompts))
