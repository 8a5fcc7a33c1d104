"""Replies of servers: what each of them calls the end of an answer, its parts, its thinking and an error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faulty_server import chat_reply
from medr1.answers import parse_answer
from medr1.answers.tags import outside_thinking, tags_of
from medr1.answers.wording import word_rows
from medr1.engines.replies import RETRIED_STATUSES, ReplyError, completion_from, masked
from medr1.errors import EngineError
from medr1.types import Completion, Sample


def read(message: dict[str, Any], finish_reason: Any = "stop", **reply: Any) -> Completion:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish_reason}
    return completion_from(json.dumps({"choices": [choice]} | reply).encode())


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("B", "stop", Completion(text="B", num_tokens=3, finish_reason="stop")),
        ("", "stop", Completion(text="", num_tokens=3, finish_reason="stop")),
        ("B bec", "length", Completion(text="B bec", num_tokens=3, finish_reason="length")),
        (None, "length", Completion(text="", num_tokens=3, finish_reason="length")),
    ],
)
def test_replies_are_read(text: str | None, finish_reason: str, expected: Completion) -> None:
    assert completion_from(json.dumps(chat_reply(text, finish_reason)).encode()) == expected


@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [(None, "stop"), (None, None), ("B", "content_filter"), ("B", "tool_calls"), ("B", "abort")],
)
def test_replies_that_are_no_answers(text: str | None, finish_reason: str | None) -> None:
    with pytest.raises(EngineError, match="finish reason"):
        completion_from(json.dumps(chat_reply(text, finish_reason)).encode())


@pytest.mark.parametrize(
    "reason",
    [
        *("stop", "eos_token", "eos", "<|im_end|>", "end_turn", "STOP", None, "stop_sequence", "EOS_TOKEN", "", "null"),
        *(
            "</s>",
            "<|eot_id|>",
            "<end_of_turn>",
            "<\uff5cend\u2581of\u2581sentence\uff5c>",
            "FINISH_REASON_STOP",
            "COMPLETE",
        ),
        *("FinishReason.STOP", {"type": "stop", "matched": 151645}),
    ],
)
def test_a_whole_answer_under_every_servers_name_of_its_end(reason: Any) -> None:
    assert read({"content": "B"}, reason) == Completion(text="B", finish_reason="stop")


@pytest.mark.parametrize(
    "reason",
    ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", {"type": "length", "length": 9}],
)
def test_a_cut_answer(reason: Any) -> None:
    assert read({"content": "B bec"}, reason).finish_reason == "length"


@pytest.mark.parametrize(
    ("message", "reason", "said", "retry"),
    [
        ({"content": "B"}, "content_filter", "content filter", False),
        ({"content": None}, "SAFETY", "no text .*content filter", False),
        ({"content": "B"}, "tool_calls", "called a tool", False),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", "called a tool", False),
        ({"content": None, "tool_calls": [{"id": "1"}]}, None, "called a tool", False),
        ({"content": "B"}, "function_call", "called a tool", False),
        ({"content": "B"}, "abort", "gave up", True),
        ({"content": "B"}, "insufficient_system_resource", "gave up", True),
        ({"content": "B"}, "weather", "finish reason 'weather'.: medr1 does not know this end", False),
        ({"content": None}, "stop", "no text .finish reason 'stop'.", False),
        ({"content": None, "reasoning": " "}, "stop", "no text", False),
        ({}, "stop", "no text", False),
    ],
)
def test_what_is_no_answer_is_named(message: dict[str, Any], reason: str | None, said: str, retry: bool) -> None:
    with pytest.raises(ReplyError, match=said) as caught:
        read(message, reason)
    assert caught.value.retry is retry


def test_every_finish_reason_of_the_table_has_its_meaning() -> None:
    for row in word_rows("finish_reasons", "medr1.engines"):
        if row["outcome"] in ("whole", "cut"):
            expected = "stop" if row["outcome"] == "whole" else "length"
            assert read({"content": "B"}, row["words"].upper()).finish_reason == expected
        else:
            with pytest.raises(ReplyError, match="finish reason"):
                read({"content": "B"}, row["words"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "The answer is "}, {"type": "text", "text": "B"}], "The answer is B"),
        (["The ", "B"], "The B"),
        ([{"type": "output_text", "text": "B"}], "B"),
        ([{"text": "B"}], "B"),
        ({"type": "text", "text": "B"}, "B"),
        ([], ""),
        ([{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "B"}], "<think>so</think>\nB"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}, {"type": "text", "text": "B"}],
            "<think>so</think>\nB",
        ),
        ([{"type": "reasoning", "text": "so"}, {"type": "text", "text": "B"}], "<think>so</think>\nB"),
    ],
)
def test_content_in_parts(content: Any, expected: str) -> None:
    assert read({"content": content}).text == expected


@pytest.mark.parametrize(
    "field",
    [
        {"reasoning_content": "so"},
        {"reasoning": "so"},
        {"thinking": "so"},
        {"reasoning": None, "reasoning_content": "so"},
        {"reasoning": "so", "reasoning_content": "so"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "so"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "so"}]},
        {"reasoning": [{"type": "text", "text": "so"}]},
        {"reasoning_content": "<think>so</think>"},
    ],
)
def test_thinking_in_a_field_of_its_own_is_kept_as_thinking(field: dict[str, Any]) -> None:
    completion = read({"content": "<answer>B</answer>", **field}).text
    assert outside_thinking(completion) == "<answer>B</answer>"
    assert "so" in completion
    sample = Sample(id="1", images=(), question="?", options=("x", "y"), answer_index=1)
    assert parse_answer(completion, sample).letter == "B"
    assert len(tags_of(completion, "think")) == 2


def test_thinking_without_an_answer() -> None:
    assert read({"content": None, "reasoning_content": "so"}, "length").text == "<think>so"
    assert read({"content": "", "reasoning": "so"}, "stop").text == "<think>so</think>\n"
    assert read({"content": None, "reasoning": "so"}, "stop").text == "<think>so</think>\n"
    assert read({"content": "<answer>", "reasoning": "so"}, "length").text == "<think>so</think>\n<answer>"
    assert read({"content": "<think>so</think>B", "reasoning": "so"}).text == "<think>so</think>B"
    assert read({"content": None, "refusal": "I cannot help."}).text == "I cannot help."


def test_a_begun_thinking_goes_on() -> None:
    body = json.dumps(chat_reply("B")).replace('"content"', '"reasoning": "so", "content"').encode()
    assert completion_from(body, "<think>It is ").text == "<think>It is so</think>\nB"
    assert completion_from(body, "Well. ").text == "Well. <think>so</think>\nB"


@given(st.text(), st.text())
def test_no_thinking_reaches_the_answer(thinking: str, answer: str) -> None:
    plain = "".join(c for c in answer if c not in "<>")
    completion = read({"content": plain, "reasoning": f"x{thinking}"}).text
    assert outside_thinking(completion) == plain.strip()


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"completion_tokens": None}, {"completion_tokens": "many"}, {"completion_tokens": -1}, [], "none", 7],
)
def test_tokens_that_a_server_does_not_count_are_no_fault(usage: Any) -> None:
    assert read({"content": "B"}, usage=usage) == Completion(text="B", num_tokens=0)
    assert read({"content": "B"}) == Completion(text="B", num_tokens=0)
    assert read({"content": "B"}, usage={"completion_tokens": 4, "total_tokens": None}).num_tokens == 4


@pytest.mark.parametrize(
    ("reply", "said", "retry"),
    [
        ({"error": {"message": "Provider returned error", "code": 502}}, r".502.: Provider returned error", True),
        ({"error": {"message": "No endpoints found", "code": 404}}, r".404.: No endpoints found", False),
        (
            {"error": {"message": "slow down", "type": "rate_limit_error", "code": "429"}},
            "rate_limit_error.: slow",
            True,
        ),
        ({"error": {"message": "bad", "type": "invalid_request_error"}}, "invalid_request_error.: bad", False),
        ({"error": "model is loading"}, "model is loading", True),
        ({"error": {"message": None}, "choices": None}, "an error", True),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "too long", False),
        ({"detail": "Not Found"}, "Not Found", True),
        ({"choices": [], "error": {"message": "overloaded"}}, "overloaded", True),
        (
            {
                "choices": [
                    {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 503, "message": "up"}}
                ]
            },
            "503.: up",
            True,
        ),
    ],
)
def test_an_error_that_comes_as_http_200_shows_its_cause(reply: dict[str, Any], said: str, retry: bool) -> None:
    with pytest.raises(ReplyError, match=said) as caught:
        completion_from(json.dumps(reply).encode())
    assert caught.value.retry is retry


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"3", b"{}", b"<html>", b'{"choices": [{}]}', b'{"choices": [{"message": 3}]}']
)
def test_what_is_no_reply_is_tried_again(body: bytes) -> None:
    with pytest.raises(ReplyError, match="no chat completion") as caught:
        completion_from(body)
    assert caught.value.retry


def test_statuses_that_may_pass() -> None:
    assert {408, 429, 500, 503, 599} <= RETRIED_STATUSES
    assert not {200, 400, 401, 404, 422} & RETRIED_STATUSES


@given(st.text("abcdefghij-", min_size=4, max_size=20), st.text("abcdefghij-", max_size=9), st.data())
def test_no_four_characters_of_a_key_survive(key: str, around: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(key) - 4))
    text = masked(around + key[start:] + "|" + key[: start + 4] + around, key)
    assert not any(key[i : i + 4] in text for i in range(len(key) - 3))


def test_what_is_no_part_of_the_key_stays() -> None:
    assert masked("Model not found", "sk-Ab3dEf6hIj9k") == "Model not found"
    assert masked("any", None) == "any"
    assert masked("abc", "abc") == "abc", "three letters are no key"
