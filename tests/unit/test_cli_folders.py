"""Folders of `rescore`, `compare`, `rewards fuzz`, `reasoning`, `models tiny`: done is done, other input is refused."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from faulty_server import FaultyServer, prompt_of
from medr1.cli import app
from medr1.errors import DataError
from medr1.eval.judge import read_judgements
from medr1.records import read_json, write_json, write_samples
from medr1.runs import stored_manifest
from run_faults import Moment, assert_same, files, heals, moments, refusal, stamps, stopped
from stored_runs import questions, store

ROWS = [
    {"question": f"Which {i}?", "A": "CT", "B": "MRI", "answer": "AB"[i % 2], "response": text}
    for i, text in enumerate(["A", "<answer>B</answer>", "MRI", "both", "A", "B"])
]


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations."""
    folder = tmp_path_factory.mktemp("made")
    for name, right in (("base", 0.3), ("tuned", 0.9)):
        store(folder / name, questions(12), right=right)
    return folder


@pytest.fixture
def inputs(tmp_path: Path, made: Path) -> Path:
    """What the commands read: a kit's results, training data, two evaluations, a reward."""
    (tmp_path / "kit.json").write_text(json.dumps(ROWS))
    write_samples(tmp_path / "train", questions(8))
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        for path in (made / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "reward.py").write_text("def pay(completion, sample):\n    return float('B' in completion)\n")
    return tmp_path


def command(name: str, folder: Path, out: Path, *flags: object) -> str:
    words: dict[str, tuple[object, ...]] = {
        "rescore": ("rescore", folder / "kit.json"),
        "compare": ("compare", folder / "base", folder / "tuned"),
        "fuzz": ("rewards", "fuzz", f"{folder / 'reward.py'}:pay", "--no-time"),
        "reasoning": ("reasoning", folder / "base"),
        "tiny": ("models", "tiny"),
    }
    return call(*words[name], "--out", out, *flags)


def other_answer(folder: Path) -> None:
    rows = [dict(ROWS[0], response="B"), *ROWS[1:]]
    (folder / "kit.json").write_text(json.dumps(rows))


def other_gold(folder: Path) -> None:
    (folder / "kit.json").write_text(json.dumps([dict(ROWS[0], answer="B"), *ROWS[1:]]))


def other_evaluation(folder: Path) -> None:
    store(folder / "base", questions(12), right=0.8, overwrite=True)


def other_reward(folder: Path) -> None:
    (folder / "reward.py").write_text("def pay(completion, sample):\n    return 1.0\n")


def nothing(folder: Path) -> None:
    """The data stay."""


CASES: list[tuple[str, Callable[[Path], object], tuple[object, ...], str]] = [
    ("rescore", other_answer, (), "other predictions"),
    ("rescore", other_gold, (), "other gold answers; other predictions"),
    ("rescore", nothing, ("--limit", 4), "limit was None, now 4"),
    ("rescore", nothing, ("--seed", 1), "seed was 0, now 1"),
    ("rescore", nothing, ("--train-data", "train"), "other train data"),
    ("compare", other_evaluation, (), "other base"),
    ("compare", nothing, ("--by", "source"), "by was ['modality', 'task'], now ['source']"),
    ("compare", nothing, ("--across", "backend"), "across was [], now ['backend']"),
    ("fuzz", other_reward, (), "other reward files"),
    ("fuzz", nothing, ("accuracy",), "rewards was ['reward.py:pay'], now ['reward.py:pay', 'accuracy']"),
    ("fuzz", nothing, ("--time",), "with time was False, now True"),
    ("reasoning", other_evaluation, (), "other predictions"),
    ("tiny", nothing, ("--random",), "made was 'shipped', now 'random'"),
    ("tiny", nothing, ("--random", "--family", "qwen2_vl"), "family was 'qwen2_5_vl', now 'qwen2_vl'; made was"),
    ("tiny", nothing, ("--seed", 1), "seed was 0, now 1"),
]
TIMED = ("manifest.json", "rescore.json")


@pytest.mark.parametrize(("name", "change", "flags", "named"), CASES)
def test_other_input_is_refused_by_name_and_may_replace(
    inputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Path], object],
    flags: tuple[object, ...],
    named: str,
) -> None:
    monkeypatch.chdir(inputs)
    out = inputs / "out"
    command(name, inputs, out)
    change(inputs)
    said = refusal(lambda: command(name, inputs, out, *flags), inputs)
    assert f"out holds another run ({named}" in said
    command(name, inputs, out, *flags, "--overwrite")
    out.rename(inputs / "replaced")
    command(name, inputs, out, *flags)
    assert_same(inputs / "replaced", out, but=TIMED)


NAMES = ("rescore", "compare", "fuzz", "reasoning", "tiny")


@pytest.mark.parametrize("name", NAMES)
def test_called_again_it_prints_what_is_there_and_touches_nothing(inputs: Path, name: str) -> None:
    flags = () if name == "tiny" else ("--json",)
    first = command(name, inputs, inputs / "out", *flags)
    before = stamps(inputs)
    assert command(name, inputs, inputs / "out", *flags) == first
    assert stamps(inputs) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_place_of_somebody_else_is_left_alone(inputs: Path, name: str) -> None:
    again = partial(command, name, inputs, inputs / "kit.json")
    assert "kit.json is a file; name a folder" in refusal(again, inputs)
    assert "data-00000.parquet is there" in refusal(partial(command, name, inputs, inputs / "train"), inputs)
    if name not in ("rescore", "reasoning"):
        assert "holds a run of `medr1 eval`" in refusal(partial(command, name, inputs, inputs / "tuned"), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_stopped_at_every_publication(inputs: Path, name: str) -> None:
    heals(lambda out: command(name, inputs, out), inputs / "runs", but=("rescore.json",))


def test_rescoring_and_reasoning_stand_beside_the_evaluation(inputs: Path) -> None:
    run = inputs / "base"
    evaluation = {name: (run / name).read_bytes() for name in ("manifest.json", "results.json", "predictions.jsonl")}
    call("rescore", run, "--out", run)
    call("reasoning", run)
    assert {name: (run / name).read_bytes() for name in evaluation} == evaluation
    for name in ("rescore", "reasoning"):
        stored = stored_manifest(run, f"{name}.manifest.json")
        assert stored is not None
        assert (stored.command, stored.state) == (name, "done")
    before = stamps(run)
    call("rescore", run, "--out", run)
    call("reasoning", run)
    assert stamps(run) == before
    assert "all as stored" in call("verify", run, "--predictions", run)
    (run / "predictions.jsonl").write_bytes(b"".join(evaluation["predictions.jsonl"].splitlines(keepends=True)[1:]))
    for words in (("rescore", run, "--out", run), ("reasoning", run)):
        assert "other predictions" in refusal(lambda words=words: call(*words), run)
        call(*words, "--overwrite")
    assert {name: (run / name).read_bytes() for name in ("manifest.json", "results.json")}.items() <= evaluation.items()


def test_answers_of_an_unfinished_evaluation_are_refused(inputs: Path) -> None:
    manifest = read_json(inputs / "base" / "manifest.json")
    write_json(inputs / "base" / "manifest.json", {**manifest, "state": "whole"})
    for words in (
        ("compare", inputs / "base", inputs / "tuned"),
        ("rescore", inputs / "base", "--out", inputs / "out"),
        ("rescore", inputs / "base" / "predictions.jsonl", "--out", inputs / "out"),
        ("reasoning", inputs / "base"),
    ):
        with pytest.raises(DataError, match=r"is not finished \(its `medr1 eval` was stopped or still runs\)"):
            call(*words)
    assert not (inputs / "out").exists()


def judged(folder: Path, out: Path, server: FaultyServer, model: str = "m") -> dict[str, Any]:
    flags = ("--judge-endpoint", server.url, "--judge-model", model, "--concurrency", 1, "--json")
    return json.loads(call("rescore", folder / "kit.json", "--out", out, *flags))


def answer(body: dict[str, Any]) -> str:
    return f"<judge>{len(prompt_of(body)) % 2}</judge>"


def test_a_judge_is_further_work_on_the_same_rescoring(inputs: Path) -> None:
    out = inputs / "out"
    alone = json.loads(call("rescore", inputs / "kit.json", "--out", out, "--json"))
    with FaultyServer(answer=answer) as server:
        with_judge = judged(inputs, out, server)
        assert {name: value for name, value in with_judge.items() if name != "judge"} == alone
        before = stamps(out)
        assert judged(inputs, out, server) == with_judge
        assert stamps(out) == before
        assert len(server.bodies) == len(ROWS)
        judged(inputs, out, server, model="another")
        assert len(server.bodies) == 2 * len(ROWS)
        assert judged(inputs, out, server) == with_judge
    assert len(server.bodies) == 2 * len(ROWS), "the first verdicts are still there"
    assert json.loads(call("rescore", inputs / "kit.json", "--out", out, "--json")) == alone


def test_a_judged_rescoring_heals(inputs: Path) -> None:
    with FaultyServer(answer=answer) as server:
        every = moments(lambda: judged(inputs, inputs / "whole" / "out", server))
        assert [moment.point for moment in every if moment.side == "after"].count("line") == len(ROWS)
        asked = len(server.bodies)
        for moment in every:
            check_judged(inputs, server, moment)
    assert len(server.bodies) <= asked * (1 + 2 * len(every))


def check_judged(inputs: Path, server: FaultyServer, moment: Moment) -> None:
    out = inputs / f"{moment.number}-{moment.side}" / "out"
    assert stopped(lambda: judged(inputs, out, server), moment)
    known = len(read_judgements(out)) if (out / "judgements.jsonl").exists() else 0
    before = len(server.bodies)
    judged(inputs, out, server)
    assert len(server.bodies) - before == len(ROWS) - known, "what was answered is not asked again"
    assert_same(out, inputs / "whole" / "out", but=("rescore.json",))
    assert files(out).keys() == {"rescore.json", "judgements.jsonl", "manifest.json"}
