"""Probabilities of the option letters after the model's own thinking, from one more forward over its completion.

Axes: N completions, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch

from medr1.models.prefix import left_padded
from medr1.rollout.engine import AnswerPlace
from medr1.rollout.transformers import TransformersEngine
from medr1.types import LETTERS


def letter_token_ids(tokenizer: Any, letter: str, head: str = "") -> list[int]:
    """Ids of the single tokens that are `head` and the letter, without and with a space between; often two or one.

    `head` is what a token has before the letter: Qwen's tokenizer writes `<answer>B` as `<`, `answer`, `>B`.
    """
    variants = [tokenizer(head + space + letter, add_special_tokens=False).input_ids for space in ("", " ")]
    return [ids[0] for ids in variants if len(ids) == 1]


def split_at(tokenizer: Any, token_ids: Sequence[int], start: int) -> tuple[int, int]:
    """The token that holds the character at `start` of the decoded ids: its index, and the character it begins at."""
    for count in reversed(range(len(token_ids))):
        begin = len(tokenizer.decode(token_ids[:count], skip_special_tokens=True))
        if begin <= start:
            return count, begin
    raise AssertionError("no tokens, so no character to find")


class TransformersOptionScorer:
    """Option log-probabilities from the model of a `TransformersEngine`.

    They are those of the whole vocabulary at temperature 1, before the token with which the answer begins: for every
    letter the sum over the tokens that stand for it there. They need not add up to 1 over the options. Prompt and
    completion go through the model as they were, token by token; nothing is tokenized anew.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    def option_logprobs(self, places: Sequence[AnswerPlace]) -> list[tuple[float, ...] | None]:
        """Log-probabilities of the K letters of every completion.

        None where the answer began in what the completion was forced to begin with, or where the tokenizer has no
        single token for a letter.
        """
        results: list[tuple[float, ...] | None] = []
        for start in range(0, len(places), self.engine.batch_size):
            results += self._score_batch(places[start : start + self.engine.batch_size])
        return results

    @torch.no_grad()
    def _score_batch(self, places: Sequence[AnswerPlace]) -> list[tuple[float, ...] | None]:
        engine, tokenizer = self.engine, self.engine.tokenizer
        found = [self._candidates(place) for place in places]
        rows = [n for n, candidates in enumerate(found) if candidates is not None]
        results: list[tuple[float, ...] | None] = [None] * len(places)
        if not rows:
            return results
        prompts = engine.prompts([places[n].request for n in rows])
        continued = []
        for n, prompt in zip(rows, prompts, strict=True):
            before, _ = found[n]  # type: ignore[misc]
            continued.append(prompt.followed_by(places[n].completion.token_ids[:before]).to(engine.model.device))
        batch = left_padded(continued, tokenizer.pad_token_id)
        log_NV = engine.model(**batch, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
        for n, log_V in zip(rows, log_NV, strict=True):
            _, ids_of_letters = found[n]  # type: ignore[misc]
            results[n] = tuple(float(log_V[ids].logsumexp(0)) for ids in ids_of_letters)
        return results

    def _candidates(self, place: AnswerPlace) -> tuple[int, list[list[int]]] | None:
        """How many tokens come before the answer's first one, and the ids that stand for each letter in its place."""
        completion, tokenizer = place.completion, self.engine.tokenizer
        start = place.start - len(place.request.completion_prefix)
        if start < 0:
            return None
        before, begin = split_at(tokenizer, completion.token_ids, start)
        generated = completion.text.removeprefix(place.request.completion_prefix)
        head = generated[begin:start].rstrip()
        ids = [letter_token_ids(tokenizer, letter, head) for letter in LETTERS[: place.num_options]]
        return (before, ids) if all(ids) else None
