"""What every engine promises: completions in the order of the requests, as many as were asked for, and what they were.

The same requests go to transformers on the shipped tiny model, to an endpoint with the stock `generate` behind it, and
to a script; vLLM has an environment and tests of its own.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import ThreadingHTTPServer

import pytest

from engine_cases import requests_for
from medr1.data.phantom import phantom
from medr1.engines.endpoint import EndpointEngine
from medr1.engines.engine import Engine, Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny import WARM_START
from openai_server import Checkpoint, Handler

GREEDY = SamplingParams(max_new_tokens=40)
SAMPLED = SamplingParams(max_new_tokens=12, temperature=1.5, num_draws=3, seed=5)
NAMES = ("transformers", "endpoint", "scripted")


def answer(request: Request, draw: int) -> str:
    """Words that differ between questions and draws, and go on after what was begun."""
    begun = len(request.completion_prefix.split())
    return " ".join(f"{request.key}-{draw}-{number}" for number in range(begun, 20))


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    Handler.checkpoint = Checkpoint(str(WARM_START))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield {
        "transformers": TransformersEngine(WARM_START, device="cpu", dtype="float32", batch_size=4),
        "endpoint": EndpointEngine(base_url=f"http://127.0.0.1:{server.server_port}/v1", model="tiny", concurrency=2),
        "scripted": ScriptedEngine(answer),
    }
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Three questions about a picture each, one about two pictures, one about none."""
    made = requests_for([phantom("test", index).sample for index in range(4)])
    return [*made[:3], replace(made[0], key="two", images=made[0].images * 2), replace(made[3], key="none", images=())]


Told = tuple[str, tuple[int, ...], int, str]


def generate(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> list[list[Told]]:
    """What every engine tells alike; log-probabilities have a floating-point noise of the batch."""
    answers = engine.generate(requests, params)
    return [[(one.text, one.token_ids, one.num_tokens, one.finish_reason) for one in draws] for draws in answers]


@pytest.mark.parametrize("name", NAMES)
def test_completions_come_in_order_whatever_is_asked_beside(
    engines: dict[str, Engine], requests: list[Request], name: str
) -> None:
    together = generate(engines[name], requests, GREEDY)
    assert [len(draws) for draws in together] == [1] * len(requests)
    assert len({draws[0][0] for draws in together}) > 2, "the answers do not depend on the question"
    assert generate(engines[name], requests[::-1], GREEDY) == together[::-1]
    assert generate(engines[name], requests[1:2], GREEDY) == together[1:2]
    assert generate(engines[name], [], GREEDY) == []


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_counted_and_ends_are_told(engines: dict[str, Engine], requests: list[Request], name: str) -> None:
    whole = [draws[0] for draws in generate(engines[name], requests, GREEDY)]
    assert {finish for _, _, _, finish in whole} == {"stop"}
    assert all("<|" not in text and count > 3 for text, _, count, _ in whole)
    for limit in (1, 3):
        cut = [draws[0] for draws in generate(engines[name], requests, replace(GREEDY, max_new_tokens=limit))]
        assert [(finish, count) for _, _, count, finish in cut] == [("length", limit)] * len(requests)
        assert all(all_of_it[0].startswith(part[0]) for all_of_it, part in zip(whole, cut, strict=True))
    for request, told in zip(requests, whole, strict=True):
        just_fits = replace(GREEDY, max_new_tokens=told[2])
        assert generate(engines[name], [request], just_fits) == [[told]], "an answer that just fits is whole"


@pytest.mark.parametrize("name", NAMES)
def test_draws_follow_seed_and_key(engines: dict[str, Engine], requests: list[Request], name: str) -> None:
    drawn = generate(engines[name], requests[:2], SAMPLED)
    assert [len(draws) for draws in drawn] == [3, 3]
    assert len({text for text, *_ in drawn[0]}) > 1, "draws differ"
    assert generate(engines[name], requests[:2], SAMPLED) == drawn
    assert generate(engines[name], requests[1:2], SAMPLED) == drawn[1:]
    assert [draws[:1] for draws in generate(engines[name], requests[:2], replace(SAMPLED, num_draws=1))] == [
        draws[:1] for draws in drawn
    ]
    renamed = generate(engines[name], [replace(requests[0], key="other")], SAMPLED)
    assert renamed != drawn[:1]
    if name != "scripted":  # its words are those of the script
        assert generate(engines[name], requests[:2], replace(SAMPLED, seed=6)) != drawn


@pytest.mark.parametrize("name", NAMES)
def test_what_a_completion_is_forced_to_begin_with_is_its_text_but_not_its_tokens(
    engines: dict[str, Engine], requests: list[Request], name: str
) -> None:
    ((text, _, count, _),) = generate(engines[name], requests[:1], GREEDY)[0]
    prefix = text[: text.index(" ") + 1] if name == "scripted" else "<think>"
    ((forced, _, fewer, finish),) = generate(engines[name], [replace(requests[0], completion_prefix=prefix)], GREEDY)[0]
    assert (forced, finish) == (text, "stop"), "a greedy answer goes on as it would have"
    assert fewer == count - 1


def test_both_engines_of_one_checkpoint_say_the_same(engines: dict[str, Engine], requests: list[Request]) -> None:
    ours, served = (
        [(text, count, finish) for ((text, _, count, finish),) in generate(engines[name], requests, GREEDY)]
        for name in ("transformers", "endpoint")
    )
    assert served == ours


@pytest.mark.parametrize("name", NAMES)
def test_facts_for_the_manifest_stay_and_name_no_machine(engines: dict[str, Engine], name: str) -> None:
    facts = dict(engines[name].describe())
    assert facts["engine"] == name
    assert facts["model"]
    assert all(isinstance(value, str) for value in facts.values())
    assert "127.0.0.1" not in str(facts)
    assert dict(engines[name].describe()) == facts
