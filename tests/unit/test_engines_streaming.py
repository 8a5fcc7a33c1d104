"""A completion that is shown while it comes: the same as one that comes whole, whatever breaks on the way."""

from pathlib import Path
from typing import Any

import pytest
import torch

from faulty_server import FaultyServer, chat_reply
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.cache import ResponseCache
from medr1.engines.endpoint import EndpointEngine
from medr1.engines.engine import Request, SamplingParams, request_for
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS

ASKED = Request(key="q", text="Which?")


def piece(end: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}


def streamed(answer: Any, request: Request = ASKED, **changes: Any) -> tuple[Any, list[str], FaultyServer]:
    """The completion, what was shown of it, and the server that was asked."""
    shown: list[str] = []
    with FaultyServer(answer=lambda body: answer) as server:
        given = {"base_url": server.url, "model": "m", "first_delay": 0.001, "max_retries": 2, **changes}
        completion = EndpointEngine(**given).stream(request, SamplingParams(), shown.append)
    return completion, shown, server


USAGE = {"choices": [], "usage": {"completion_tokens": 7}}


def test_pieces_are_shown_as_they_come_and_read_as_a_whole() -> None:
    pieces = [piece(role="assistant", content=""), piece(content="<answer>"), piece(content="B</answer>")]
    completion, shown, server = streamed([*pieces, piece("stop"), USAGE, "[DONE]"])
    assert (completion.text, completion.finish_reason, completion.num_tokens) == ("<answer>B</answer>", "stop", 7)
    assert shown == ["<answer>", "B</answer>"]
    assert server.bodies[0]["stream"] is True
    assert server.bodies[0]["temperature"] == 0


def test_thinking_that_stands_apart_is_shown_in_its_tags() -> None:
    pieces = [piece(reasoning_content="Dark"), piece(reasoning_content=" lung."), piece(content="B"), piece("stop")]
    completion, shown, _ = streamed(pieces)
    assert "".join(shown) == completion.text == "<think>Dark lung.</think>\nB"


@pytest.mark.parametrize("end", [None, "length"])
def test_a_completion_that_was_cut(end: str | None) -> None:
    completion, shown, server = streamed([piece(content="B bec"), *([piece(end)] if end else [])])
    assert shown == ["B bec"]
    assert len(server.bodies) == 1, "what was shown is not asked for again"
    assert completion.finish_reason == ("length" if end else "error")
    assert end or "broke off before its end" in completion.text


def test_a_line_that_breaks_is_tried_again_before_anything_was_shown() -> None:
    answers = iter([[None], [piece(content="B"), None], [piece(content="C"), piece("stop")]])
    shown: list[str] = []
    with FaultyServer(answer=lambda body: next(answers)) as server:
        engine = EndpointEngine(base_url=server.url, model="m", first_delay=0.001)
        completion = engine.stream(ASKED, SamplingParams(), shown.append)
        assert shown == ["B"]
        assert completion.finish_reason == "error"
        assert "the connection broke" in completion.text
        assert len(server.bodies) == 2


@pytest.mark.parametrize("wrong", ["{", '{"choices": 3}', '{"error": {"message": "no room", "code": 400}}'])
def test_what_is_no_piece_is_a_failure_with_its_reason(wrong: str) -> None:
    completion, shown, _ = streamed([wrong])
    assert shown == []
    assert completion.finish_reason == "error"
    assert "no piece of a completion" in completion.text or "no room" in completion.text


def test_a_server_that_does_not_stream_and_a_cache_show_all_at_once(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    completion, shown, _ = streamed(chat_reply("<answer>B</answer>"), cache=cache)
    assert shown == [completion.text] == ["<answer>B</answer>"]
    assert list(tmp_path.iterdir())


def test_what_is_shown_of_a_local_model_is_what_it_draws() -> None:
    engine = TransformersEngine(WARM_START, device="cpu")
    sample = phantom("test", 3).sample
    request = request_for(PROMPTS["bare"], sample, map(open_image, sample.images), key="k", completion_prefix="<think>")
    for params in (SamplingParams(max_new_tokens=40), SamplingParams(max_new_tokens=40, temperature=1.0, seed=3)):
        shown: list[str] = []
        completion = engine.stream(request, params, shown.append)
        whole = engine.generate([request], params)[0][0]
        assert completion == whole
        assert "".join(shown) == whole.text
        assert len(shown) > 3


def test_nothing_is_shown_of_what_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(WARM_START, device="cpu")
    shown: list[str] = []
    refused = engine.stream(Request(key="k", text="a\udce9"), SamplingParams(), shown.append)
    assert (refused.finish_reason, refused.failure, shown) == ("error", "text", [])
    assert torch.is_grad_enabled()
