"""The endpoint engine against a real HTTP server that misbehaves: nothing is lost, and every failure is counted."""

import asyncio
import base64
import io
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluated import evaluate as _evaluate
from faulty_server import (
    BROKEN_JSON,
    CUT,
    DROP,
    HANG,
    HTML,
    NO_CHOICES,
    NO_TEXT,
    FaultyServer,
    chat_reply,
    prompt_of,
    refuse_as_openai,
)
from medr1.answers import PROTOCOLS
from medr1.data.images import png_bytes
from medr1.engines import endpoint
from medr1.engines.cache import ResponseCache
from medr1.engines.endpoint import API_KEY_VARIABLE, LOST_AFTER, EndpointEngine, chat_body
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.settings import EndpointSettings
from medr1.errors import ConfigError, DataError, EngineError
from medr1.eval.files import read_failures
from medr1.types import Completion, ImageRef, Sample
from written import as_written

evaluate = as_written(_evaluate)

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
GREEDY = SamplingParams()


def engine_for(server: FaultyServer, **changes: Any) -> EndpointEngine:
    return EndpointEngine(**{"base_url": server.url, "model": "m", "timeout": 30.0, "first_delay": 0.001} | changes)


def requests_for(count: int) -> list[Request]:
    return [Request(key=f"q{number}:", text=f"t{number}") for number in range(count)]


def texts(result: Sequence[Sequence[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in draws] for draws in result]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the engine, which do not take place."""
    seen: list[float] = []

    async def note(seconds: float) -> None:
        seen.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(endpoint, "sleep", note)
    return seen


def test_every_sampling_field_is_sent() -> None:
    params = SamplingParams(
        max_new_tokens=17, temperature=0.7, top_p=0.9, top_k=5, min_p=0.05, repetition_penalty=1.1, seed=3, num_draws=4
    )
    request = Request(key="q:", text="What?", images=(NOISE, NOISE), system="Be brief.")
    body = chat_body(request, params, 2, "m", "vllm")
    further = body.pop("extra_body")
    system, user = body.pop("messages")
    seed = body.pop("seed")
    assert further == {"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.1}
    assert body == {
        "model": "m",
        "n": 1,
        "max_tokens": 17,
        "temperature": 0.7,
        "top_p": 0.9,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][2]["text"] == "What?"
    seeds = {chat_body(request, params, draw, "m", "vllm")["seed"] for draw in range(4)}
    seeds |= {chat_body(replace(request, key="r:"), params, 2, "m", "vllm")["seed"]}
    seeds |= {chat_body(request, replace(params, seed=4), 2, "m", "vllm")["seed"]}
    assert seed in seeds
    assert len(seeds) == 6
    assert all(0 <= one < 2**31 for one in seeds)


def test_images_stand_behind_the_text_where_asked() -> None:
    request = Request(key="q:", text="What?", images=(NOISE, NOISE), image_first=False)
    (user,) = chat_body(request, GREEDY, 0, "m", "vllm")["messages"]
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url"]


def test_filters_that_are_off_are_said_to_be_off() -> None:
    assert chat_body(requests_for(1)[0], GREEDY, 0, "m", "vllm")["extra_body"] == {
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    assert [message["role"] for message in chat_body(requests_for(1)[0], GREEDY, 0, "m", "vllm")["messages"]] == [
        "user"
    ]


def test_openai_gets_its_own_fields_only() -> None:
    body = chat_body(requests_for(1)[0], GREEDY, 0, "m", "openai")
    assert body["max_completion_tokens"] == 256
    assert not {"extra_body", "max_tokens"} & body.keys()
    engine = EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", dialect="openai")
    for params in (SamplingParams(top_k=5), SamplingParams(min_p=0.1), SamplingParams(repetition_penalty=1.2)):
        with pytest.raises(ConfigError, match="dialect openai has no"):
            engine.generate(requests_for(1), params)
    with pytest.raises(ConfigError, match="begun already"):
        engine.generate([Request(key="q", text="t", completion_prefix="<think>")], GREEDY)


def test_pixels_arrive_unchanged() -> None:
    with FaultyServer() as server:
        engine_for(server).generate([Request(key="q:", text="t", images=(NOISE,))], GREEDY)
    url = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert (sent.mode, sent.format) == ("RGB", "PNG")
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(NOISE))


def test_results_keep_the_order_of_requests_and_draws() -> None:
    params = SamplingParams(num_draws=3, temperature=1.0)
    with FaultyServer(answer=lambda body: f"{prompt_of(body)} {body['seed']}") as server:
        result = engine_for(server).generate(requests_for(12), params)
    expected = [
        [f"t{n} {chat_body(Request(key=f'q{n}:', text=''), params, draw, 'm', 'vllm')['seed']}" for draw in range(3)]
        for n in range(12)
    ]
    assert texts(result) == expected
    assert {(c.finish_reason, c.num_tokens) for draws in result for c in draws} == {("stop", 3)}


def test_as_many_requests_are_under_way_as_allowed_and_no_more() -> None:
    three, seen, inside = threading.Barrier(3), [], set()

    def answer(body: dict[str, Any]) -> str:
        inside.add(prompt_of(body))
        three.wait(timeout=120)  # breaks, and fails the test, where fewer than three come together
        seen.append(len(inside))
        inside.discard(prompt_of(body))
        return "x"

    with FaultyServer(answer=answer) as server:
        result = engine_for(server, concurrency=3, timeout=300.0).generate(requests_for(21), GREEDY)
    assert texts(result) == [["x"]] * 21
    assert max(seen) == 3


def test_a_begun_completion_is_continued() -> None:
    with FaultyServer(answer=lambda body: " so B") as server:
        begun = Request(key="q:", text="t", completion_prefix="<think>It is")
        assert texts(engine_for(server).generate([begun], GREEDY)) == [["<think>It is so B"]]
    (body,) = server.bodies
    assert body["messages"][-1] == {"role": "assistant", "content": "<think>It is"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize("fault", [408, 429, 500, 503, DROP, CUT, HTML, NO_CHOICES, BROKEN_JSON])
def test_what_may_pass_is_tried_again(fault: Any) -> None:
    with FaultyServer(lambda prompt, attempt: fault if prompt == "t1" and attempt < 2 else None) as server:
        result = engine_for(server, max_retries=2).generate(requests_for(3), GREEDY)
    assert texts(result) == [["re: t0"], ["re: t1"], ["re: t2"]]
    assert server.attempts == {"t0": 1, "t1": 3, "t2": 1}
    same = [body for body in server.bodies if prompt_of(body) == "t1"]
    assert same[0] == same[1] == same[2], "another try is the same request"


@pytest.mark.parametrize(
    ("fault", "tries", "reason"),
    [
        (500, 3, "HTTP 500: .*fault 500"),
        (429, 3, "HTTP 429"),
        (DROP, 3, "the connection failed or broke"),
        (CUT, 3, "the connection failed or broke"),
        (HTML, 3, "no chat completion .body: Invalid JSON"),
        (BROKEN_JSON, 3, "no chat completion .body: Invalid JSON"),
        (NO_CHOICES, 3, "no chat completion .choices"),
        (400, 1, "HTTP 400: .*fault 400"),
        (404, 1, "HTTP 404"),
        (NO_TEXT, 1, "no text .finish reason 'content_filter'"),
        ((429, {"Retry-After": "3600"}), 1, "HTTP 429"),
    ],
)
def test_a_failure_is_recorded_and_touches_nothing_else(fault: Any, tries: int, reason: str) -> None:
    with FaultyServer(lambda prompt, attempt: fault if prompt == "t1" else None) as server:
        first, failed, last = engine_for(server, max_retries=2).generate(requests_for(3), GREEDY)
    assert texts([first, last]) == [["re: t0"], ["re: t2"]]
    assert failed[0].finish_reason == "error"
    assert re.search(reason, failed[0].text), failed[0].text
    assert server.attempts == {"t0": 1, "t1": tries, "t2": 1}


def test_a_hanging_request_is_given_up() -> None:
    with FaultyServer(lambda prompt, attempt: HANG if prompt == "t1" else None) as server:
        result = engine_for(server, timeout=3.0, max_retries=0).generate(requests_for(3), GREEDY)
    assert texts(result) == [["re: t0"], ["no reply within 3 s"], ["re: t2"]]
    assert [draws[0].finish_reason for draws in result] == ["stop", "error", "stop"]


def test_the_wish_of_the_server_is_obeyed_by_all(waits: list[float]) -> None:
    fault = lambda prompt, attempt: (429, {"Retry-After": "20"}) if (prompt, attempt) == ("t0", 0) else None  # noqa: E731
    with FaultyServer(fault) as server:
        result = engine_for(server, concurrency=1).generate(requests_for(2), GREEDY)
    assert texts(result) == [["re: t0"], ["re: t1"]]
    # First try; the wait, and the hold of the pace, which the clock of this test does not pass; the other request.
    assert waits[:2] == [0.0, 20.0]
    assert all(19 < wait <= 20 for wait in waits[2:])
    assert len(waits) == 4


def test_waits_double_and_requests_are_spaced(waits: list[float]) -> None:
    with FaultyServer(lambda prompt, attempt: 500) as server:
        engine_for(server, first_delay=8.0, max_retries=3, requests_per_minute=60).generate(requests_for(1), GREEDY)
    back_off, pace = waits[1::2], waits[0::2]
    assert [0.75 * full <= wait <= full for wait, full in zip(back_off, (8.0, 16.0, 32.0), strict=True)] == [True] * 3
    assert pace == sorted(pace)
    assert pace[0] == 0.0
    assert 2 < pace[-1] <= 3.0, "failed tries count for the limit: three seconds later, less what the test took"


def test_a_lost_server_is_not_asked_for_ever() -> None:
    with FaultyServer(lambda prompt, attempt: 500 if prompt != "t0" else None) as server:
        engine = engine_for(server, max_retries=1, concurrency=1)
        result = engine.generate(requests_for(LOST_AFTER + 11), GREEDY)
        assert sum(server.attempts.values()) == 1 + 2 * LOST_AFTER
        assert texts(engine.generate(requests_for(1), GREEDY))[0][0].startswith("not asked")
    reasons = [draws[0].text for draws in result]
    assert reasons[0] == "re: t0"
    assert [reason.startswith("HTTP 500") for reason in reasons[1:-10]] == [True] * LOST_AFTER
    assert [reason.startswith("not asked") for reason in reasons[-10:]] == [True] * 10


def test_a_server_that_recovers_is_not_lost() -> None:
    with FaultyServer(lambda prompt, attempt: 500 if int(prompt[1:]) % (LOST_AFTER - 1) else None) as server:
        engine_for(server, max_retries=0, concurrency=1).generate(requests_for(3 * LOST_AFTER), GREEDY)
    assert len(server.attempts) == 3 * LOST_AFTER


def test_refused_requests_do_not_make_a_server_lost() -> None:
    with FaultyServer(lambda prompt, attempt: 400) as server:
        engine_for(server, concurrency=1).generate(requests_for(LOST_AFTER + 5), GREEDY)
    assert len(server.attempts) == LOST_AFTER + 5


def test_the_key_comes_from_its_variable_and_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-somebody-else")
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    with FaultyServer() as server:
        engine_for(server).generate(requests_for(1), GREEDY)
        monkeypatch.setenv(API_KEY_VARIABLE, "very-secret")
        server.fault = lambda prompt, attempt: (401, {}) if prompt == "t1" else None
        engine = engine_for(server)
        engine.generate(requests_for(2), GREEDY)
    assert "somebody" not in str(server.headers)
    assert server.headers[1]["authorization"] == "Bearer very-secret"
    assert "very-secret" not in f"{engine} {engine.describe()}"


def test_a_key_that_the_server_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "fault")  # what this server says in every error
    with FaultyServer(lambda prompt, attempt: 400) as server:
        assert "fault" not in texts(engine_for(server).generate(requests_for(1), GREEDY))[0][0]


def test_check_finds_a_server_that_is_not_there_or_refuses_the_key() -> None:
    with FaultyServer() as server:
        engine = engine_for(server)
        engine.check()
        server.fault = lambda prompt, attempt: 404
        engine.check()
        server.fault = lambda prompt, attempt: 401
        with pytest.raises(EngineError, match=f"refuses the key .HTTP 401.; set {API_KEY_VARIABLE}"):
            engine.check()
        server.fault = lambda prompt, attempt: HANG
        with pytest.raises(EngineError, match="nobody answers"):
            replace(engine, timeout=0.2).check()
    with pytest.raises(EngineError, match=r"nobody answers at http://127.0.0.1:\d+/v1; start the server"):
        engine.check()


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://me:word@host/v1"])
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(ConfigError, match="address") as caught:
        EndpointEngine(base_url=address, model="m")
    assert "me:word" not in str(caught.value)


def test_works_inside_a_running_event_loop() -> None:
    async def notebook() -> list[list[Completion]]:
        return engine_for(server).generate(requests_for(2), GREEDY)

    with FaultyServer() as server:
        assert texts(asyncio.run(notebook())) == [["re: t0"], ["re: t1"]]


def test_a_request_is_not_paid_twice(tmp_path: Path) -> None:
    params = SamplingParams(num_draws=2, temperature=1.0)
    fault = lambda prompt, attempt: 400 if prompt == "t1" else None  # noqa: E731
    with FaultyServer(fault) as server:
        engine = engine_for(server, cache=ResponseCache(tmp_path))
        before = engine.generate(requests_for(3), params)
        server.fault = lambda prompt, attempt: None
        again = engine_for(server, cache=ResponseCache(tmp_path)).generate(requests_for(4), params)
        assert server.attempts == {"t0": 2, "t1": 4, "t2": 2, "t3": 2}, "what failed and what is new is asked, no more"
        assert [again[0], again[2]] == [before[0], before[2]]
        assert texts(again)[1] == ["re: t1"] * 2
        engine_for(server, cache=ResponseCache(tmp_path), model="n").generate(requests_for(1), params)
        assert server.attempts["t0"] == 4
    other = EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", cache=ResponseCache(tmp_path), max_retries=0)
    assert other.generate(requests_for(1), params)[0][0].finish_reason == "error", "another server, another answer"


def questions(count: int) -> list[Sample]:
    picture = ImageRef(data=png_bytes(NOISE))
    return [
        Sample(id=f"q{i}", images=(picture,), question=f"t{i}", options=("x", "y"), answer_index=i % 2, group=f"g{i}")
        for i in range(count)
    ]


FAULTS: dict[int, Any] = {
    1: 500,
    3: CUT,
    4: HTML,
    6: 429,
    9: NO_CHOICES,
    10: 400,
    12: DROP,
    13: NO_TEXT,
    14: BROKEN_JSON,
}


def number_of(prompt: str) -> int:
    return int(prompt.split()[0][1:])


@pytest.mark.parametrize("hang", [False, True], ids=["errors", "with time-outs"])
def test_an_evaluation_counts_failures_and_mends_them_when_called_again(tmp_path: Path, hang: bool) -> None:
    faults = FAULTS | ({7: HANG} if hang else {})

    def run(server: FaultyServer, out: str) -> dict[str, Any]:
        engine = engine_for(server, max_retries=1, timeout=3.0 if hang else 30.0)
        settings = {"params": GREEDY, "batch_size": 6, "seed": 0}
        return evaluate(questions(20), engine, out=tmp_path / out, prompt="nothink", **settings)

    answer: Callable[[dict[str, Any]], str] = lambda body: f"<answer>{'AB'[number_of(prompt_of(body)) % 2]}</answer>"  # noqa: E731
    with FaultyServer(answer=answer) as server:
        whole = run(server, "whole")
        server.fault = lambda prompt, attempt: faults.get(number_of(prompt))
        partly = run(server, "faulty")
        assert (partly["n"], partly["failed"], partly["accuracy"]) == (20 - len(faults), len(faults), 1.0)
        failures = read_failures(tmp_path / "faulty")
        assert sorted(failure.id for failure in failures) == sorted(f"q{number}" for number in faults)
        assert all(failure.message and failure.kind == "engine" for failure in failures)
        server.fault = lambda prompt, attempt: None
        assert run(server, "faulty") == whole
    lines = [json.loads(line) for line in (tmp_path / "faulty" / "predictions.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(sample.id for sample in questions(20))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_picture_is_never_posted_to_another_host(status: int) -> None:
    request = Request(key="q:", text="t0", images=(NOISE,))
    with FaultyServer() as other:
        away = (status, {"Location": f"{other.url}/chat/completions"})
        with FaultyServer(lambda prompt, attempt: away) as server:
            engine = engine_for(server, max_retries=2)
            (completion,) = engine.generate([request], GREEDY)[0]
            with pytest.raises(EngineError, match=f"sends requests on to {other.url.removesuffix('/v1')}"):
                engine.check()
        assert other.bodies == []
        assert server.attempts == {"t0": 1}
    assert completion.finish_reason == "error"
    assert "nothing was sent there" in completion.text


def test_a_redirect_on_the_same_host_is_followed() -> None:
    with FaultyServer() as server:
        there = (307, {"Location": f"{server.url}/other/chat/completions"})
        server.fault = lambda prompt, attempt: there if attempt == 0 else None
        assert texts(engine_for(server).generate(requests_for(1), GREEDY)) == [["re: t0"]]


KEY = "sk-proj-Ab3dEf6hIj9kLm2nOp5q"


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-proj-****************Op5q.",
        "key 'sk-proj-Ab3dEf' is unknown",
        "no such token (* nOp5q)",
        f"{'x' * 290}{KEY}",
    ],
)
def test_no_part_of_a_key_is_kept_wherever_a_server_says_it(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    faults = {
        "t0": (401, {"X-Said": said}),
        "t1": {"error": {"message": said, "code": 401}},
        "t2": chat_reply(f"You sent {KEY}."),
        "t3": chat_reply("B", f"stop {said}"),
    }
    with FaultyServer(lambda prompt, attempt: faults[prompt]) as server:
        replies = texts(engine_for(server, max_retries=0).generate(requests_for(4), GREEDY))
    for (text,) in replies:
        assert not any(KEY[start : start + 4] in text for start in range(len(KEY) - 3)), text
    assert replies[2] == ["You sent …."]
    assert "HTTP 401" in replies[0][0]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Retry-After": "7200"}, "asks to wait 2 h .Retry-After., and a request waits at most 10 min in all"),
        ({"Retry-After": "198300"}, "asks to wait 2 days 7 h"),
        ({"retry-after-ms": "7200000"}, "asks to wait 2 h"),
        ({"Retry-After": "inf"}, "asks to wait for ever"),
    ],
)
def test_hours_of_patience_are_refused_in_a_sentence(headers: dict[str, str], said: str, waits: list[float]) -> None:
    with FaultyServer(lambda prompt, attempt: (429, headers)) as server:
        (completion,) = engine_for(server).generate(requests_for(1), GREEDY)[0]
    assert completion.finish_reason == "error"
    assert re.search(rf"HTTP 429: fault 429; the server {said}", completion.text), completion.text
    assert server.attempts == {"t0": 1}
    assert sum(waits) == 0


def test_waits_add_up_to_the_patience_and_no_further(waits: list[float]) -> None:
    with FaultyServer(lambda prompt, attempt: (503, {"Retry-After": "25"})) as server:
        (completion,) = engine_for(server, patience=60.0, max_retries=9).generate(requests_for(1), GREEDY)[0]
    assert server.attempts == {"t0": 3}, "25 + 25 seconds, and a third wait would pass the minute"
    assert "a request waits at most 1 min in all: call again later" in completion.text
    with FaultyServer(lambda prompt, attempt: 500) as server:
        engine_for(server, patience=60.0, first_delay=30.0, max_retries=9).generate(requests_for(1), GREEDY)
    assert server.attempts["t0"] in (2, 3)


def test_a_server_from_which_only_failures_come_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(lambda prompt, attempt: 500 if prompt == "t0" else None) as server:
        engine = engine_for(server, max_retries=0)
        answered = replace(engine, concurrency=1)
        for one in (engine, answered):
            one.generate(requests_for(1), GREEDY)
        answered.generate(requests_for(3)[2:], GREEDY)
        later = endpoint.time.monotonic() + endpoint.SILENCE + 1
        monkeypatch.setattr(endpoint.time, "monotonic", lambda: later)
        (late,) = engine.generate(requests_for(2)[1:], GREEDY)[0]
        assert (late.finish_reason, server.attempts["t1"]) == ("error", 0)
        assert late.text == "not asked: nothing but failures had come from the server for 30 min"
        assert answered.generate(requests_for(2)[1:], GREEDY)[0][0].text == "re: t1", "an answer had come since"


def test_the_patience_of_a_run_is_told() -> None:
    told = EndpointSettings(max_retries=2, timeout=45).told_patience()
    assert "tried up to 3 times, 45 s each" in told
    assert "at most 10 min between them (12 min in all)" in told
    assert "after 50 failures in a row, or 30 min of failures only" in told


def test_fields_that_a_model_refuses_are_left_out() -> None:
    omit = ("temperature", "presence_penalty", "top_k", "seed")
    body = chat_body(requests_for(1)[0], GREEDY, 0, "m", "vllm", omit)
    assert not {"temperature", "presence_penalty", "seed"} & body.keys()
    assert body["extra_body"] == {"min_p": 0.0, "repetition_penalty": 1.0}
    assert {"top_p", "frequency_penalty", "max_tokens", "n", "messages"} <= body.keys()
    assert "temperature" not in chat_body(requests_for(1)[0], GREEDY, 0, "m", "openai", ("temperature",))
    engine = EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", omit=("top_p", "temperature"))
    assert engine.describe()["omit"] == "temperature,top_p"
    assert "omit" not in replace(engine, omit=()).describe()


def test_what_is_left_out_must_be_a_field_and_not_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"no field 'messages' to omit; choose of n, seed, temperature"):
        EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", omit=("messages",))
    with pytest.raises(ConfigError, match="dialect openai sends no field 'top_k'"):
        EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", omit=("top_k",), dialect="openai")
    engine = EndpointEngine(base_url="http://127.0.0.1:9/v1", model="m", omit=("temperature", "top_k"))
    with pytest.raises(ConfigError, match=r"--temperature 0.7 is not sent, since --omit names temperature"):
        engine.generate(requests_for(1), SamplingParams(temperature=0.7))
    with pytest.raises(ConfigError, match=r"--top-k 5 is not sent"):
        engine.generate(requests_for(1), SamplingParams(top_k=5))


def test_draws_of_a_model_without_temperature_are_kept_apart(tmp_path: Path) -> None:
    params = SamplingParams(num_draws=2)
    with FaultyServer(answer=lambda body: str(body["seed"])) as server:
        cache = ResponseCache(tmp_path)
        drawn = engine_for(server, cache=cache, omit=("temperature",), concurrency=1).generate(requests_for(1), params)[
            0
        ]
        assert drawn[0].text != drawn[1].text, "the server samples: one draw is not the other"
        assert server.attempts == {"t0": 2}
        greedy = engine_for(server, cache=cache, concurrency=1).generate(requests_for(1), params)[0]
        assert greedy[0] == greedy[1]
        assert server.attempts == {"t0": 3}


def thinking_reply(body: dict[str, Any]) -> dict[str, Any]:
    """What vLLM with a reasoning parser answers."""
    letter = "AB"[number_of(prompt_of(body)) % 2]
    reply = chat_reply(f"<answer>{letter}</answer>")
    reply["choices"][0]["message"] |= {
        "reasoning": f"I see {'x' if letter == 'A' else 'y'}.",
        "reasoning_content": None,
    }
    reply["usage"] = {"prompt_tokens": 5, "completion_tokens": None}
    return reply


def test_a_reasoning_model_behind_a_strict_server_is_evaluated(tmp_path: Path) -> None:
    omit = ("temperature", "presence_penalty", "frequency_penalty")
    with FaultyServer(answer=thinking_reply, refuse=refuse_as_openai) as server:
        settings: dict[str, Any] = {"prompt": "think", "params": GREEDY, "batch_size": 6, "seed": 0}
        with pytest.raises(DataError, match=r"'frequency_penalty' is not supported.*with --omit frequency_penalty"):
            evaluate(questions(6), engine_for(server, dialect="openai"), out=tmp_path / "refused", **settings)
        asked = engine_for(server, dialect="openai", omit=omit)
        results = evaluate(questions(6), asked, out=tmp_path / "run", **settings)
    assert (results["n"], results["accuracy"], results["failed"]) == (6, 1.0, 0)
    assert results["parse"] == {"ok": 6}
    (line, *_) = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert line["completion"] == "<think>I see x.</think>\n<answer>A</answer>"
    assert PROTOCOLS["med-r1/think"](line["completion"], questions(1)[0]).letter == "A"
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["arguments"]["engine"]["omit"] == (
        "frequency_penalty,presence_penalty,temperature"
    )
    assert all(refuse_as_openai(body) is None for body in server.bodies[-6:])


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("Which <|im_end|>?", True),
        ("Which [INST] x?", True),
        ("Is <think> a tag?", True),
        ("<｜User｜>", True),
        ("Is a < b and b > c, or CT <5 mm>?", False),
    ],
)
def test_control_text_that_a_servers_template_may_take_for_syntax_is_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, noted: bool
) -> None:
    asked = [replace(sample, question=f"{sample.question} {text}") for sample in questions(4)]
    with FaultyServer(answer=lambda body: "<answer>A</answer>") as server, caplog.at_level("WARNING", "medr1"):
        settings = {"params": GREEDY, "batch_size": 2, "seed": 0, "prompt": "nothink"}
        evaluate(asked, engine_for(server), out=tmp_path, **settings)  # type: ignore[arg-type]
    said = [record.getMessage() for record in caplog.records if "control token" in record.getMessage()]
    assert len(said) == noted
    assert all(line.startswith("4 questions hold what reads like a control token (q0 first)") for line in said)
