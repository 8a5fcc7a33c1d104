"""The demo, stopped or without room anywhere, goes on; another demo in its folder is refused. Trainings are faked."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medr1.engines.engine import Request
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError
from medr1.flows import demo
from medr1.flows.demo import run_demo as _run_demo
from medr1.flows.settings import DemoSettings
from medr1.flows.trainings import Training
from medr1.runs import Run
from medr1.settings import recipe_values
from run_faults import Call, Moment, contents, full_disk, moments, only_published, refusal, stamps, stopped
from written import as_written

run_demo = as_written(_run_demo)

trained: list[str] = []
"""Names of the trainings that were run."""


def train(trainings: Sequence[Training], *, workers: int, progress: Callable[[Training, int], None]) -> None:
    """A run in the place of each training; what is finished is not run again."""
    for training in trainings:
        if training.finished:
            continue
        trained.append(training.name)
        with Run(
            training.folder, command="train", arguments={}, identity={}, seed=0, owns=("final", "train_log.jsonl")
        ) as run:
            run.start()
            run.write_jsonl("train_log.jsonl", [{"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.6}])
            run.write_json("final/config.json", {})
            run.reach("done")


def answer(request: Request, draw: int) -> str:
    """A letter by the question, so that some are right."""
    letter = "AB"[hash_of(request.key) % 2]
    return f"<think>It is {letter}.</think><answer>{letter}</answer>"


def hash_of(text: str) -> int:
    return sum(text.encode())


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    trained.clear()
    monkeypatch.setattr(demo, "run_trainings", train)
    monkeypatch.setattr(
        demo, "TransformersEngine", lambda model, **settings: ScriptedEngine(answer, name=model.parent.name)
    )
    monkeypatch.setattr(demo, "os", type("OneCore", (), {"cpu_count": staticmethod(lambda: 1)}))


def settings(out: Path) -> DemoSettings:
    return DemoSettings(out=out, num_train=12, num_test=12, num_colour=12)


def run(out: Path, **changes: Any) -> dict[str, Any]:
    return run_demo(settings(out).model_copy(update=changes), Console(quiet=True))[0]


def without_times(folder: Path) -> dict[str, Any]:
    """What a demo holds, but for its seconds; the page, which shows them too, need only be there."""
    found = contents(folder)
    found["report.html"] = found.get("report.html") is not None
    found["summary.json"] = found.get("summary.json", b"").split(b'"seconds"')[0]
    return found


def chosen(every: list[Moment]) -> list[Moment]:
    """Some of the first and last of those that lie one after the other at the same kind of place."""
    groups = [list(group) for _, group in groupby(every, key=lambda moment: (moment.point, moment.name))]
    return [moment for group in groups for moment in (group[0], group[-1])]


@pytest.mark.parametrize("end", [stopped, full_disk])
def test_it_goes_on_wherever_it_was_ended(tmp_path: Path, end: Callable[[Call, Moment], bool]) -> None:
    whole = tmp_path / "whole" / "out"
    whole.parent.mkdir()
    with only_published(whole.parent):
        every = moments(lambda: run(whole))
    wanted = without_times(whole)
    for moment in chosen(every)[5 * (end is full_disk) :: 13]:
        out = tmp_path / f"{moment.number}-{moment.side}" / "out"
        out.parent.mkdir()
        trained.clear()
        assert end(lambda out=out: run(out), moment)
        run(out)
        assert without_times(out) == wanted, f"not healed after {moment}"
        assert len(trained) <= 3, "what had been trained was trained again"


def test_a_finished_demo_is_not_touched(tmp_path: Path) -> None:
    summary = run(tmp_path / "out")
    before = stamps(tmp_path)
    assert run(tmp_path / "out", workers=2) == summary
    assert stamps(tmp_path) == before


def test_a_second_demo_in_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_beside(*arguments: Any, **keywords: Any) -> None:
        with pytest.raises(ConfigError, match="another command is writing out; wait for it"):
            run(tmp_path / "out")
        train(*arguments, **keywords)

    monkeypatch.setattr(demo, "run_trainings", train_beside)
    run(tmp_path / "out")
    assert trained == ["grpo", "blind_twin"]


def test_further_seeds_are_further_work(tmp_path: Path) -> None:
    run(tmp_path / "out")
    trained.clear()
    summary = run(tmp_path / "out", seeds=2, shuffled=True)
    assert trained == ["grpo_seed1", "shuffled_images"]
    assert summary["seeds"].keys() == {"grpo", "grpo_seed1"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_train": 13}, "num train was 12, now 13"),
        ({"num_test": 13}, "num test was 12, now 13"),
        ({"data_seed": 4}, "seed was 3, now 4"),
        ({"train_arguments": ("--max_steps", "7")}, "train arguments was"),
    ],
)
def test_another_demo_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    run(tmp_path / "out")
    assert named in refusal(lambda: run(tmp_path / "out", **changes), tmp_path)
    run(tmp_path / "out", overwrite=True, **changes)


def test_other_weights_or_another_recipe_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "out")
    recipe = recipe_values("grpo", "demo")
    monkeypatch.setattr(demo, "recipe_values", lambda *names: recipe | {"learning_rate": 1.0})
    assert "(other recipe)" in refusal(lambda: run(tmp_path / "out"), tmp_path)
    monkeypatch.setattr(demo, "recipe_values", recipe_values)
    monkeypatch.setattr(demo, "checkpoint_identity", lambda model: {"weights": "0" * 16, "processor": "0" * 16})
    assert "(other processor; other weights)" in refusal(lambda: run(tmp_path / "out"), tmp_path)
