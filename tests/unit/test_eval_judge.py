"""A judge over a scripted server: every answer is asked about once, and what is no verdict counts as none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from faulty_server import FaultyServer, prompt_of
from medr1.cli import app
from medr1.engines.endpoint import EndpointEngine
from medr1.errors import ConfigError, DataError, EngineError
from medr1.eval.judge import FILE, cohens_kappa, judge_prompt, read_judgements, read_verdict
from medr1.eval.judge import judge as _judge
from medr1.eval.stored import StoredRun, read_stored
from medr1.records import read_json, read_jsonl
from medr1.runs import Run
from medr1.types import Sample
from written import as_written

judge = as_written(_judge)

OPEN = [
    {"question": "Where 0?", "answer": "Left lung", "response": "left lung"},
    {"question": "Where 1?", "answer": "Left lung", "response": "right lung"},
    {"question": "Where 2?", "answer": "Left lung", "response": "the lung on the left side"},
    {"question": "Where 3?", "answer": "Left lung", "response": "<think>left lung</think>No idea."},
]
CLOSED = [
    {"question": f"Which {i}?", "A": "CT", "B": "MRI", "answer": "B", "response": text}
    for i, text in enumerate(["B", "A", "<answer>A or B</answer>", "MRI", "A", "A"])
]
REPLIES = {
    "Where 0?": "<judge>0</judge>",
    "Where 1?": "<think>Is it <judge>0</judge>?</think>\n<judge> 1 </judge>",
    "Where 2?": "<judge>0</judge>",
    "Where 3?": "It is neither right nor wrong.",
    "Which 0?": "<judge>0</judge>",
    "Which 1?": "<judge>0</judge>",
    "Which 2?": "<judge>1</judge>",
    "Which 3?": "<judge>0</judge> or <judge>1</judge>",
    "Which 4?": "<judge>1</judge>",
    "Which 5?": "<judge>1</judge>",
}


def question_of(prompt: str) -> str:
    return prompt.split("Question: ")[1].splitlines()[0]


def reply(body: dict[str, Any]) -> str:
    return REPLIES[question_of(prompt_of(body))]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(json.dumps([*OPEN, *CLOSED]))
    return tmp_path / "results.json"


@pytest.fixture
def run(stored: Path) -> StoredRun:
    return read_stored(stored)


def ask(server: FaultyServer, run: StoredRun, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {"base_url": server.url, "model": "m", "max_retries": 0, "timeout": 60.0} | changes
    with Run(out, command="rescore", arguments={}, identity={}, seed=0, owns=(FILE,)) as folder:
        return judge(run, EndpointEngine(**settings), run=folder, batch_size=3)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "judged"


def test_the_judge_sees_question_right_answer_and_given_answer_and_no_thinking() -> None:
    sample = Sample(id="q", images=(), question="Which {right}?", options=("CT", "MRI"), answer_index=1)
    prompt = judge_prompt(sample, "<think>CT it is</think> {given} <answer>MRI</answer>")
    assert "Question: Which {right}?\nA) CT\nB) MRI\n" in prompt
    assert "Right answer: B) MRI\n" in prompt
    assert "\n----------\n{given} <answer>MRI</answer>\n----------\n" in prompt
    assert "CT it is" not in prompt
    assert "\n----------\n\n----------\n" in judge_prompt(sample, "<think>It is B, no doubt"), "no answer came"


def test_several_right_answers_are_alternatives_unless_all_are_wanted() -> None:
    sample = Sample(id="q", images=(), question="What?", answer_type="text", answers=("mass", "tumour"))
    assert "Right answer: mass\nor: tumour\n" in judge_prompt(sample, "x")
    assert "Right answer: mass; tumour\n" in judge_prompt(replace(sample, answer_type="multi"), "x")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("<judge>0</judge>", "right"),
        ("The same.\n<JUDGE>\n1\n</JUDGE>", "wrong"),
        ("<think><judge>1</judge></think><judge>0</judge>", "right"),
        ("thought</think><judge>1</judge>", "wrong"),
        ("<think><judge>0</judge>", "unparsable"),
        ("<judge>0</judge><judge>0</judge>", "unparsable"),
        ("<judge>0</judge><judge>1</judge>", "unparsable"),
        ("<judge>0", "unparsable"),
        ("<judge>2</judge>", "unparsable"),
        ("<judge></judge>", "unparsable"),
        ("0", "unparsable"),
        ("", "unparsable"),
    ],
)
def test_verdicts(text: str, verdict: str) -> None:
    assert read_verdict(text) == verdict


def test_scores_and_agreement(run: StoredRun, out: Path) -> None:
    with FaultyServer(answer=reply) as server:
        scores = ask(server, run, out)
    assert {(body["temperature"], body["model"]) for body in server.bodies} == {(0.0, "m")}
    assert scores["engine"] == {"engine": "endpoint", "model": "m", "dialect": "vllm"}
    opened, closed = scores["open"], scores["closed"]
    assert (opened["n"], opened["decided"], opened["unparsable"], opened["failed"]) == (4, 3, 1, 0)
    assert opened["accuracy"] == pytest.approx(2 / 3)
    assert (closed["n"], closed["decided"], closed["unparsable"], closed["failed"]) == (6, 5, 1, 0)
    assert closed["accuracy"] == pytest.approx(2 / 5)
    assert closed["ci95"][0] < 0.4 < closed["ci95"][1]
    agreement = scores["agreement"]
    # Readable and decided: right/right, right/wrong, wrong/wrong twice; chance 2/4 * 1/4 + 2/4 * 3/4 = 1/2.
    assert agreement["default"]["n"] == 4
    assert (agreement["default"]["agreement"], agreement["default"]["kappa"]) == (0.75, pytest.approx(0.5))
    # The judge: right, wrong, right; the rule: right, wrong, wrong. Chance 2/3 * 1/3 + 1/3 * 2/3 = 4/9.
    exact = agreement["medevalkit-em@9b12e3b"]
    assert (exact["n"], exact["agreement"], exact["kappa"]) == (3, pytest.approx(2 / 3), pytest.approx(0.4))
    assert "medevalkit-f1@9b12e3b" not in agreement


def test_kappa() -> None:
    def pairs(both: int, first: int, second: int, none: int) -> tuple[list[bool], list[bool]]:
        a = [True] * (both + first) + [False] * (second + none)
        return a, [True] * both + [False] * first + [True] * second + [False] * none

    assert cohens_kappa(*pairs(20, 5, 10, 15)) == pytest.approx(0.4)  # observed 0.7, by chance 0.5
    assert cohens_kappa(*pairs(0, 3, 3, 0)) == pytest.approx(-1)
    assert cohens_kappa(*pairs(4, 4, 0, 0)) == pytest.approx(0), "one who says the same always tells nothing"
    assert cohens_kappa(*pairs(0, 4, 0, 0)) == pytest.approx(0)
    assert cohens_kappa(*pairs(4, 0, 0, 0)) is None


def test_verdicts_are_kept_and_only_what_is_missing_is_asked(run: StoredRun, out: Path) -> None:
    failing: Callable[[str, int], Any] = lambda prompt, attempt: 500 if question_of(prompt) == "Where 0?" else None  # noqa: E731
    with FaultyServer(failing, answer=reply) as server:
        first = ask(server, run, out)
        assert (first["open"]["failed"], first["open"]["decided"], first["open"]["unparsable"]) == (1, 2, 1)
        assert [line["id"] for line in read_jsonl(out / FILE)] == [p.id for p in run.predictions[1:]]
        with (out / FILE).open("a") as file:
            file.write('{"id": "torn')
        server.fault = lambda prompt, attempt: None
        server.bodies.clear()
        whole = ask(server, run, out)
        assert [question_of(prompt_of(body)) for body in server.bodies] == ["Where 0?"]
        assert ask(server, run, out) == whole
        assert len(server.bodies) == 1
    assert whole["open"]["failed"] == 0
    verdicts = {line["reply"]: line["verdict"] for line in read_jsonl(out / FILE)}
    assert verdicts == {text: str(read_verdict(text)) for text in REPLIES.values()}


def test_verdicts_about_something_else_do_not_count(run: StoredRun, out: Path) -> None:
    with FaultyServer(answer=reply) as server:
        before = ask(server, run, out)
        other = ask(server, run, out, model="n")
        assert len(server.bodies) == 20, "another judge has its own verdicts"
        changed = [replace(run.predictions[0], completion="no lung"), *run.predictions[1:]]
        ask(server, replace(run, predictions=changed), out)
        assert len(server.bodies) == 21, "another answer is another case"
        assert ask(server, run, out) == before, "the first ones are still there"
        assert len(server.bodies) == 21
    assert {**other, "engine": before["engine"]} == before


def test_every_draw_is_judged(run: StoredRun, out: Path) -> None:
    second = [replace(p, draw=1) for p in run.predictions]
    with FaultyServer(answer=reply) as server:
        scores = ask(server, replace(run, predictions=[*run.predictions, *second]), out)
    assert (scores["open"]["n"], scores["open"]["decided"]) == (8, 6)
    assert len({judgement.case for judgement in read_judgements(out)}) == 20


def test_a_judge_that_answers_nothing_stops_the_command_and_leaves_nothing(stored: Path, tmp_path: Path) -> None:
    with FaultyServer(lambda prompt, attempt: 404 if prompt != "GET" else None) as server:
        flags = ["--judge-endpoint", server.url, "--judge-model", "none", "--max-retries", "0", "--concurrency", "1"]
        result = CliRunner().invoke(app, ["rescore", str(stored), "--out", str(tmp_path / "out"), *flags])
        assert len(server.bodies) == 8, "the first batch, not the two after it"
    assert isinstance(result.exception, EngineError)
    assert "answered none of the first 8 requests (HTTP 404" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_an_address_where_nobody_answers_is_named_before_anything_is_asked(stored: Path, tmp_path: Path) -> None:
    with FaultyServer() as server:
        address = server.url
    flags = ["--judge-endpoint", address, "--judge-model", "m"]
    result = CliRunner().invoke(app, ["rescore", str(stored), "--out", str(tmp_path / "out"), *flags])
    assert isinstance(result.exception, EngineError)
    assert f"nobody answers at {address}; start the server" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_questions_that_a_known_judge_keeps_failing_do_not_stop_the_scores(run: StoredRun, out: Path) -> None:
    failing: Callable[[str, int], Any] = lambda prompt, attempt: 400 if question_of(prompt) == "Which 5?" else None  # noqa: E731
    with FaultyServer(failing, answer=reply) as server:
        before = ask(server, run, out)
        assert ask(server, run, out) == before
    assert before["closed"]["failed"] == 1


def test_a_lost_server_gives_no_accuracy(run: StoredRun, out: Path) -> None:
    failing: Callable[[str, int], Any] = lambda prompt, attempt: 400 if "Where" in question_of(prompt) else None  # noqa: E731
    other_first = replace(run, predictions=run.predictions[::-1])
    with FaultyServer(failing, answer=reply) as server:
        scores = ask(server, other_first, out)
    assert scores["open"] == {
        "n": 4,
        "decided": 0,
        "accuracy": None,
        "ci95": None,
        "unparsable": 0,
        "failed": 4,
    }
    assert list(scores["agreement"]) == ["default"]


def test_questions_are_needed(run: StoredRun, out: Path) -> None:
    nameless = replace(run, samples=[replace(run.samples[0], question=""), *run.samples[1:]])
    with FaultyServer() as server, pytest.raises(DataError, match=r"1 of 10 predictions do not tell .*--data"):
        ask(server, nameless, out)
    assert server.bodies == []


def test_foreign_lines_are_refused(run: StoredRun, out: Path) -> None:
    with FaultyServer(answer=reply) as server:
        ask(server, run, out)
    (out / FILE).write_text('{"id": "q"}\n')
    with FaultyServer() as server, pytest.raises(DataError, match="is no judgement"):
        ask(server, run, out)


def test_the_command(stored: Path, tmp_path: Path) -> None:
    with FaultyServer(answer=reply) as server:
        flags = ["--judge-endpoint", server.url, "--judge-model", "m", "--cache", str(tmp_path / "cache")]
        command = ["rescore", str(stored), "--out", str(tmp_path / "out"), *flags]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        results = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
        assert len(server.bodies) == 10
        (tmp_path / "out" / FILE).unlink()
        assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout) == results
        assert len(server.bodies) == 10, "the cache has them, too"
    for text in ("Judged by m", "open questions", "unparsable", "25.0", "Cohen's kappa", "0.50", "0.40"):
        assert text in result.output, text
    written = read_json(tmp_path / "out" / "rescore.json")
    assert written["judge"] == results["judge"]
    assert results["judge"]["open"]["accuracy"] == pytest.approx(2 / 3)
    assert server.url.split("/")[2] not in json.dumps(written), "an address may name a machine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--judge-endpoint", "http://127.0.0.1:9/v1"), "both --judge-endpoint and --judge-model"),
        (("--judge-model", "m"), "both --judge-endpoint and --judge-model"),
        (("--concurrency", "3"), "--concurrency is for a judge"),
        (("--max-retries", "3"), "--max-retries is for a judge"),
        (("--cache", "folder"), "--cache is for a judge"),
        (("--judge-endpoint", "127.0.0.1", "--judge-model", "m"), "'127.0.0.1' is no address"),
    ],
)
def test_options_that_do_not_go_together(stored: Path, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["rescore", str(stored), "--out", str(tmp_path / "out"), *flags])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()
