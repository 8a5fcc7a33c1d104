"""What an attack pushes on: the letter that a model would write, behind words that it is made to have written.

A model that thinks before it answers is not attacked at its first token: `<think>` carries no answer. The words before
the letter are forced (a *surrogate* of free generation), and success is never read from a surrogate.

Axes: N samples, K options, T forced tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from medr1.answers import AnswerFormat
from medr1.answers.tags import answer_start
from medr1.attack.settings import Mode
from medr1.types import LETTERS

Loss = Literal["margin", "ce", "targeted"]
ANSWER_TAG = "<answer>"
EMPTY_THINKING = "<think></think><answer>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """Words forced behind the prompt of one sample, and what of them counts."""

    ids: tuple[int, ...]
    """Forced tokens; the letter comes after the last of them."""
    option_ids: tuple[int, ...]
    """First token that tells the letters apart, one an option, all of the same form ("C" and " C" are two tokens)."""
    gold: int
    """Position of the right option: the attack leads away from it, never from the model's own guess."""
    text_sign: int = 0
    """+1: the forced words are made likelier, -1: unlikelier, 0: they do not count."""
    target: int | None = None
    """Option that the targeted loss leads to."""


def letter_fork(tokenizer: Any, text: str, num_options: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens that `text` followed by any option letter has in common, and the first token behind them per letter.

    Encoded together, since a tokenizer may join the last sign of the text with the letter.
    """
    spelt = [tokenizer.encode(text + letter, add_special_tokens=False) for letter in LETTERS[:num_options]]
    shared = 0
    while len({tuple(ids[: shared + 1]) for ids in spelt}) == 1:
        shared += 1
    forks = tuple(ids[shared] for ids in spelt)
    assert len(set(forks)) == num_options, "letters that share a token cannot be told apart"
    return tuple(spelt[0][:shared]), forks


def text_before_letter(completion: str, letter: str, answer_format: AnswerFormat) -> str | None:
    """The completion up to the letter that answers; None where the answer is not given as a letter.

    >>> text_before_letter("<think>cyst</think><answer> (B)</answer>", "B", "think")
    '<think>cyst</think><answer> ('
    """
    start = answer_start(completion, answer_format)
    if start is None:
        return None
    while start < len(completion) and not completion[start].isalnum():
        start += 1
    is_letter = completion[start : start + 1] == letter and not completion[start + 1 : start + 2].isalnum()
    return completion[:start] if is_letter else None


def surrogate(
    mode: Mode,
    tokenizer: Any,
    *,
    num_options: int,
    gold: int,
    answer_format: AnswerFormat,
    completion: str,
    letter: str | None,
) -> Surrogate:
    """The forced words of a mode, from the model's latest completion and the letter that was read from it.

    Modes that build on the model's own words fall back on the bare answer tag where there is no letter in them.
    """
    bare = "" if answer_format == "letter" else ANSWER_TAG
    own = text_before_letter(completion, letter, answer_format) if letter is not None else None
    if mode == "stop":
        text, sign = EMPTY_THINKING, 1
    elif mode == "direct" or own is None:
        text, sign = bare, 0
    else:
        text, sign = own, -1 if mode == "joint" else 0
    ids, option_ids = letter_fork(tokenizer, text, num_options)
    return Surrogate(ids=ids, option_ids=option_ids, gold=gold, text_sign=sign)


def with_target(one: Surrogate, wrong: int) -> Surrogate:
    """The same words, leading to the wrong option number `wrong`, counted from behind the right one."""
    options = len(one.option_ids)
    return replace(one, target=(one.gold + 1 + wrong % (options - 1)) % options)


def option_logits(last_NV: Tensor, surrogates: Sequence[Surrogate]) -> Tensor:
    """Logits of the option letters `(N, K)`; minus infinity where a sample has fewer options."""
    most = max(len(one.option_ids) for one in surrogates)
    device = last_NV.device
    ids_NK = torch.tensor([[*one.option_ids, *[0] * (most - len(one.option_ids))] for one in surrogates], device=device)
    there_NK = torch.tensor([[k < len(one.option_ids) for k in range(most)] for one in surrogates], device=device)
    return last_NV.gather(1, ids_NK).masked_fill(~there_NK, -torch.inf)


def margin(logits_NK: Tensor, index_N: Tensor) -> Tensor:
    """Largest other logit minus that of the option: positive once another letter wins; works from K = 2 on.

    >>> margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([0]))
    tensor([2.])
    """
    others_NK = logits_NK.masked_fill(one_hot(index_N, logits_NK.shape[1]).bool(), -torch.inf)
    return others_NK.amax(1) - logits_NK.gather(1, index_N[:, None])[:, 0]


def letter_loss(loss: Loss, logits_NK: Tensor, surrogates: Sequence[Surrogate]) -> Tensor:
    """What the attack makes large, per sample: margin, cross-entropy of the right option, or the lead of the target."""
    gold_N = torch.tensor([one.gold for one in surrogates], device=logits_NK.device)
    if loss == "ce":
        return cross_entropy(logits_NK, gold_N, reduction="none")
    if loss == "margin":
        return margin(logits_NK, gold_N)
    targets = [one.target for one in surrogates if one.target is not None]
    assert len(targets) == len(surrogates), "the targeted loss needs a target for every sample"
    return -margin(logits_NK, torch.tensor(targets, device=logits_NK.device))


def text_logprob(logits_NTV: Tensor, surrogates: Sequence[Surrogate]) -> Tensor:
    """Sum of the log-probabilities of the forced words, times their sign; zero where they do not count.

    `logits_NTV` are those of the last T columns, T - 1 being the largest number of forced tokens.
    """
    width = logits_NTV.shape[1]
    totals = []
    for logits_TV, one in zip(logits_NTV, surrogates, strict=True):
        if one.text_sign == 0 or not one.ids:
            totals.append(logits_TV.new_zeros(()))
            continue
        start = width - 1 - len(one.ids)
        ids = torch.tensor(one.ids, device=logits_TV.device)
        logprobs = logits_TV[start : width - 1].log_softmax(-1).gather(1, ids[:, None])
        totals.append(one.text_sign * logprobs.sum())
    return torch.stack(totals)
