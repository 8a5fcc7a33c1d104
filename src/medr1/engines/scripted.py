"""An engine whose completions come from a function: for tests, examples and the resuming of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medr1.engines.engine import Request, SamplingParams
from medr1.types import Completion


@dataclass(frozen=True, slots=True)
class ScriptedEngine:
    """Answers every request with `answer(request, draw)`; words count as tokens."""

    answer: Callable[[Request, int], str]
    name: str = "scripted"

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request, in order: `result[request][draw]`, cut after `max_new_tokens` words."""
        return [[self._complete(request, draw, params) for draw in range(params.num_draws)] for request in requests]

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest."""
        return {"engine": "scripted", "model": self.name}

    def _complete(self, request: Request, draw: int, params: SamplingParams) -> Completion:
        text = self.answer(request, draw)
        words = text.split()
        if len(words) <= params.max_new_tokens:
            return Completion(text=request.completion_prefix + text, num_tokens=len(words))
        cut = request.completion_prefix + " ".join(words[: params.max_new_tokens])
        return Completion(text=cut, num_tokens=params.max_new_tokens, finish_reason="length")
