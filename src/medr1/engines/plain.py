"""The parts of a decoding step in fixed buffers, in plain PyTorch: for machines without Triton, and what defines them.

Nothing here asks a tensor for a number, so a graph of calls can be captured from it.

Axes: B batch rows, H query heads, K key-value heads, Q query heads per key-value head, D head size, L room for a
prompt, S room for a completion, V vocabulary.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from medr1.engines.buffers import Draws, States
from medr1.engines.engine import SamplingParams


def _cumulative(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Cumulative sums, on a GPU under `--full_determinism` too: their last bits, which may differ, choose no token."""
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        return numbers.cumsum(-1, dtype=dtype)
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)


class _TopP(TopPLogitsWarper):
    """The parent's sort leaves open which of equal logits at the bound it keeps; here they are the last ones."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores without the improbable tokens."""
        ascending, order = scores.sort(dim=-1, stable=True)
        removed = _cumulative(ascending.softmax(-1), scores.dtype) <= 1 - self.top_p
        removed[..., -1] = False
        return scores.masked_fill(removed.scatter(-1, order, removed), self.filter_value)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What decides a token beside its logits; draws of equal values share a graph."""

    temperature: float = 1.0
    """0 is greedy decoding."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, params: SamplingParams) -> "Sampling":
        """From the settings of an engine; greedy decoding takes the most probable token, which no cut removes."""
        if params.temperature == 0:
            return cls(0.0, repetition_penalty=params.repetition_penalty)
        return cls(params.temperature, params.top_k, params.top_p, params.min_p, params.repetition_penalty)

    @property
    def cuts(self) -> bool:
        """Whether improbable tokens are never drawn."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0

    @property
    def looks_back(self) -> bool:
        """Whether it matters what was said."""
        return self.repetition_penalty != 1.0

    def processors(self) -> LogitsProcessorList:
        """The same as filters of transformers' own `generate`, in its order."""
        chain = LogitsProcessorList()
        if self.looks_back:
            chain.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.temperature not in (0.0, 1.0):
            chain.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k > 0:
            chain.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1.0:
            chain.append(_TopP(self.top_p))
        if self.min_p > 0:
            chain.append(MinPLogitsWarper(self.min_p))
        return chain


def norm(hidden_BE: Tensor, weight_E: Tensor, epsilon: float) -> Tensor:
    """RMSNorm of every row."""
    return rms_norm(hidden_BE, weight_E.shape, weight_E, epsilon)


def gated(gate_up_BF: Tensor) -> Tensor:
    """silu(first half) times second half of every row."""
    gate, up = gate_up_BF.chunk(2, -1)
    return silu(gate) * up


def _rotated(heads_BHD: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine_B1D, sine_B1D = (torch.cat([part, part], -1)[:, None].to(heads_BHD.dtype) for part in rotation)
    first, second = heads_BHD.chunk(2, -1)
    return heads_BHD * cosine_B1D + torch.cat([-second, first], -1) * sine_B1D


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
    own_keys, own_values = states.own_keys[layer], states.own_values[layer]
    kv_heads, size = own_keys.shape[1], own_keys.shape[-1]
    query_BHD, key_BKD, value_BKD = states_BXD.split([states_BXD.shape[1] - 2 * kv_heads, kv_heads, kv_heads], 1)
    if norms is not None:
        query_BHD = norm(query_BHD, norms[0], norms[2])
        key_BKD = norm(key_BKD, norms[1], norms[2])
    query_BKQD = _rotated(query_BHD, rotation).unflatten(1, (kv_heads, -1))
    own_keys[slots_B, :, draws.step] = _rotated(key_BKD, rotation)
    own_values[slots_B, :, draws.step] = value_BKD

    prompt_B = draws.prompt[slots_B]
    keys = torch.cat([states.prompt_keys[layer][prompt_B], own_keys[slots_B]], 2)
    values = torch.cat([states.prompt_values[layer][prompt_B], own_values[slots_B]], 2)
    place_L = torch.arange(states.prompt_room, device=keys.device)
    first_B1, last_B1 = states.bounds[prompt_B].split(1, 1)
    seen_BL = (place_L >= first_B1) & (place_L < last_B1)
    seen_BS = (torch.arange(states.room, device=keys.device) <= draws.step).expand(len(slots_B), -1)
    hidden = ~torch.cat([seen_BL, seen_BS], 1)[:, None, None]
    scores = (query_BKQD @ keys.mT * size**-0.5).masked_fill(hidden, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
    return (weights @ values).flatten(1)


def draw(logits_BV: Tensor, sampling: Sampling, draws: Draws, slots_B: Tensor) -> None:
    """Draw the next token of every row, the most probable one at temperature 0, and write it down.

    The distribution is the softmax of the logits behind transformers' filters, without the tokens that are not allowed.
    """
    logits_BV = logits_BV.float().masked_fill(draws.allowed == 0, -torch.inf)
    if sampling.looks_back:
        penalty = sampling.repetition_penalty
        lower_BV = torch.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
        logits_BV = torch.where(draws.said[slots_B].bool(), lower_BV, logits_BV)
    filters = replace(sampling, repetition_penalty=1.0).processors()
    logits_BV = filters(draws.tokens[slots_B], logits_BV)  # type: ignore[arg-type]
    choose(logits_BV, draws, slots_B, greedy=sampling.temperature == 0)


def pick(probabilities_NV: Tensor, uniform_N: Tensor | None) -> Tensor:
    """Tokens by inverse transform sampling; the most probable ones when there are no random numbers."""
    if uniform_N is None:
        return probabilities_NV.argmax(-1)
    cumulative_NV = _cumulative(probabilities_NV, torch.float64)
    total_N = cumulative_NV[:, -1]
    # Rounded up to the total, a number would point behind the last token that has any probability.
    target_N = torch.minimum(uniform_N * total_N, torch.nextafter(total_N, torch.zeros_like(total_N)))
    return torch.searchsorted(cumulative_NV, target_N[:, None], right=True)[:, 0]


def choose(logits_BV: Tensor, draws: Draws, slots_B: Tensor, *, greedy: bool) -> None:
    """Draw a token of every row from the softmax of its logits, and write down what is known of it."""
    log_BV = logits_BV.log_softmax(-1)
    probabilities_BV = log_BV.exp()
    step = draws.step.expand(len(slots_B))
    token_B = pick(probabilities_BV, None if greedy else draws.uniform[slots_B, step])
    ended_B = draws.ended[slots_B].bool()
    line_B = slots_B.masked_fill(ended_B, draws.spare)
    draws.tokens[line_B, step] = token_B
    draws.said[slots_B, token_B] = 1
    draws.logprobs[line_B, step] = log_BV.gather(1, token_B[:, None])[:, 0]
    draws.entropies[line_B, step] = torch.special.entr(probabilities_BV).sum(-1)
    draws.lengths[line_B] = step + 1
    draws.ended[slots_B] = (ended_B | torch.isin(token_B, draws.ends)).to(torch.int8)
