"""The scripted engine."""

from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine


def test_completions_come_from_the_function_in_order() -> None:
    engine = ScriptedEngine(lambda request, draw: f"{request.key} {draw}")
    result = engine.generate([Request(key="a", text=""), Request(key="b", text="")], SamplingParams(num_draws=2))
    assert [[c.text for c in draws] for draws in result] == [["a 0", "a 1"], ["b 0", "b 1"]]
    assert result[0][0].num_tokens == 2
    assert engine.describe()["engine"] == "scripted"


def test_long_answers_are_cut() -> None:
    engine = ScriptedEngine(lambda request, draw: "one two three")
    (completion,) = engine.generate([Request(key="a", text="")], SamplingParams(max_new_tokens=2))[0]
    assert (completion.text, completion.num_tokens, completion.finish_reason) == ("one two", 2, "length")
