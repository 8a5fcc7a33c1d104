"""The demo with scripted models in the place of trained ones: what it trains, and which figure is whose.

Model and control decide how many of the 48 questions are answered rightly, so no two figures can be taken for each
other.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medr1.data.images import open_image, png_bytes
from medr1.data.phantom import phantom
from medr1.engines.engine import Request
from medr1.engines.scripted import ScriptedEngine
from medr1.eval.compare import compare
from medr1.flows import demo, demo_report
from medr1.flows.demo import DemoRun, plan
from medr1.flows.demo import run_demo as _run_demo
from medr1.flows.settings import DemoSettings
from medr1.models.tiny import WARM_START
from medr1.records import read_samples, write_json
from medr1.report.tables import Table, all_tables, comparison
from medr1.results.compared import DemoSummary
from medr1.results.evaluated import Results
from written import as_written

run_demo = as_written(_run_demo)

TEST = 48
RIGHT = {"warm_start": 20, "grpo": 36, "grpo_seed1": 33, "blind_twin": 12, "shuffled_images": 9}
"""Right answers of each model: to the first questions, so that a better model is right wherever another one is."""
BLANK = {"grpo": 10, "grpo_seed1": 7}


@dataclass(frozen=True)
class Demo:
    out: Path
    summary: dict[str, Any]
    table: Table
    workers: list[int]
    trained: list[str]
    engines: list[dict[str, Any]]
    colour_fit: list[int]

    def results(self, name: str) -> dict[str, Any]:
        return json.loads((self.out / "eval" / name / "results.json").read_text())


def scripted(out: Path, model: Path) -> ScriptedEngine:
    """Answers the first so many test questions rightly; a swapped image is answered by a letter for all."""
    name = "warm_start" if model == WARM_START else model.parent.name
    order = {sample.id: (position, sample) for position, sample in enumerate(read_samples(out / "data" / "test"))}

    def answer(request: Request, draw: int) -> str:
        key, _, variant = request.key.partition(":")
        position, sample = order[key]
        right = {"": RIGHT[name], "blank": BLANK.get(name, 0)}
        if variant == "swapped":
            letter = "A" if name == "grpo" else "B"
        else:
            letter = sample.gold if position < right[variant] else "B" if sample.gold == "A" else "A"
        return f"<think>It is {letter}.</think><answer>{letter}</answer>"

    return ScriptedEngine(answer, name=name)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo")
    ran = Demo(out, {}, Table(title="", columns=(), rows=()), [], [], [], [])

    def run_trainings(trainings: Any, *, workers: int, progress: Any) -> None:
        ran.workers.append(workers)
        for training in trainings:
            ran.trained.append(training.name)
            training.folder.mkdir(parents=True)
            (training.folder / "train_log.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.6}\n')
            write_json(training.folder / "manifest.json", {"made_by": f"training of {training.name}"})
            progress(training, 2)

    def engine(model: Path, **settings: Any) -> ScriptedEngine:
        ran.engines.append({"model": model, **settings})
        return scripted(out, model)

    def colour_baseline(train_images: Any, train: Any, test_images: Any, test: Any) -> Any:
        ran.colour_fit.extend([len(train_images), len(train), len(test_images), len(test)])
        return np.arange(len(test)) < 15

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "run_trainings", run_trainings)
        patch.setattr(demo, "TransformersEngine", engine)
        patch.setattr(demo, "colour_baseline", colour_baseline)
        settings = DemoSettings(out=out, seeds=2, shuffled=True, workers=3, num_train=40, num_test=TEST, num_colour=30)
        summary, table = run_demo(settings, Console(quiet=True))
    return replace(ran, summary=summary, table=table)


def test_the_twins_differ_in_seed_and_images_alone(tmp_path: Path) -> None:
    trainings = plan(DemoSettings(out=tmp_path, seeds=3, shuffled=True, train_arguments=("--max_steps", "7")))
    wanted = {
        "grpo": ("real", "0"),
        "blind_twin": ("blank", "0"),
        "grpo_seed1": ("real", "1"),
        "grpo_seed2": ("real", "2"),
        "shuffled_images": ("shuffled", "0"),
    }
    assert [training.name for training in trainings] == list(wanted)
    for training in trainings:
        images, seed = wanted[training.name]
        assert training.folder == tmp_path / "checkpoints" / training.name
        assert training.arguments == (
            "grpo", "--config", "demo", "--model_name_or_path", str(WARM_START),
            "--train_data", str(tmp_path / "data" / "train"), "--train_images", images, "--seed", seed,
            "--max_steps", "7",
        )  # fmt: skip
        assert training.num_steps == 450
    assert [training.name for training in plan(DemoSettings(out=tmp_path))] == ["grpo", "blind_twin"]


def test_what_is_drawn_is_the_data_of_its_seed(small: Demo) -> None:
    train, test = (list(read_samples(small.out / "data" / split)) for split in ("train", "test"))
    assert len(train) == 40
    assert [sample.id for sample in test] == [phantom("test", index, seed=3).sample.id for index in range(TEST)]
    assert train[0].id == phantom("train", 0, seed=3).sample.id


def test_every_training_is_run_and_every_checkpoint_asked_once(small: Demo) -> None:
    assert small.workers == [3]
    assert small.trained == ["grpo", "blind_twin", "grpo_seed1", "shuffled_images"]
    folders = [small.out / "checkpoints" / name / "final" for name in small.trained]
    settings = {"dtype": "float32", "device": "cpu", "batch_size": 96}
    assert small.engines == [{"model": model, **settings} for model in (WARM_START, *folders)]
    for name in RIGHT:
        seen = set(small.results(name)["controls"])
        assert seen == ({"blank", "swapped"} if name.startswith("grpo") else set())
    manifest = json.loads((small.out / "eval" / "grpo" / "manifest.json").read_text())
    assert manifest["arguments"]["prompt"] == "bare"
    assert manifest["arguments"]["sampling"]["temperature"] == 0
    assert manifest["arguments"]["sampling"]["max_new_tokens"] == 12


def test_every_figure_is_that_of_its_model(small: Demo) -> None:
    summary = small.summary
    share = {name: right / TEST for name, right in RIGHT.items()}
    assert summary["n_test"] == TEST
    assert 0.2 < summary["chance"] < 0.35
    for name in ("warm_start", "grpo", "blind_twin", "shuffled_images"):
        assert summary[name]["accuracy"] == pytest.approx(share[name])
        assert summary[name]["ci95"] == small.results(name)["ci95"]
    for name in ("blind_twin", "shuffled_images"):
        assert summary[name]["gain"]["value"] == pytest.approx(share[name] - share["warm_start"])
    assert summary["gain"]["value"] == pytest.approx(share["grpo"] - share["warm_start"])
    assert summary["mcnemar_p"] == pytest.approx(2 * 0.5**16), "16 questions more and none less"
    assert summary["blank_accuracy"] == pytest.approx(BLANK["grpo"] / TEST)
    assert summary["decomposition"]["gain"] == pytest.approx(share["grpo"] - share["warm_start"])

    results = small.results("grpo")
    assert summary["swapped_accuracy"] == results["blind"]["swapped_image"] != summary["blank_accuracy"]
    assert summary["follows_swapped_image"] == results["controls"]["swapped"]["follows"] is not None
    assert summary["by_task"] == {name: small.results(name)["by_task"] for name in ("warm_start", "grpo")}

    assert list(summary["seeds"]) == ["grpo", "grpo_seed1"]
    for name, seed in summary["seeds"].items():
        assert seed["accuracy"] == pytest.approx(share[name])
        assert seed["gain"]["value"] == pytest.approx(share[name] - share["warm_start"])
        assert seed["mcnemar_p"] == pytest.approx(2 * 0.5 ** (RIGHT[name] - RIGHT["warm_start"]))
        assert seed["blank_accuracy"] == pytest.approx(BLANK[name] / TEST)
        assert seed["swapped_accuracy"] == small.results(name)["blind"]["swapped_image"]
        assert seed["by_task"] == small.results(name)["by_task"]


def test_colours_are_fitted_on_their_share_of_the_training_images(small: Demo) -> None:
    assert small.colour_fit == [30, 30, TEST, TEST]
    assert small.summary["colour_baseline"]["accuracy"] == pytest.approx(15 / TEST)
    low, high = small.summary["colour_baseline"]["ci95"]
    assert 0.15 < low < 15 / TEST < high < 0.5


def test_the_closing_table_names_every_row(small: Demo) -> None:
    cells = {row[0]: tuple(row[1:]) for row in small.table.rows[:4]}
    first = [(row[0], row[1].split(" ")[0], row[2].split(" ")[0]) for row in small.table.rows]
    swapped = {name: f"{100 * small.summary['seeds'][name]['swapped_accuracy']:.1f}" for name in BLANK}
    assert first == [
        ("chance", f"{100 * small.summary['chance']:.1f}", ""),
        ("colour statistics", "31.2", ""),
        ("warm start", "41.7", ""),
        ("grpo", "75.0", "33.3"),
        ("    with a blank image", "20.8", ""),
        ("    with a swapped image", swapped["grpo"], ""),
        ("grpo_seed1", "68.8", "27.1"),
        ("    with a blank image", "14.6", ""),
        ("    with a swapped image", swapped["grpo_seed1"], ""),
        ("blind twin", "25.0", "-16.7"),
        ("trained on shuffled images", "18.8", "-22.9"),
    ]
    low, high = small.summary["grpo"]["ci95"]
    assert cells["grpo"][0] == f"75.0 [{100 * low:.1f}, {100 * high:.1f}]"
    assert "n = 48" in small.table.note
    assert "3.1e-05" in small.table.note


def test_the_page_says_the_same(small: Demo) -> None:
    page = (small.out / "report.html").read_text()
    for words in ("75.0 %", "+33.3 points", "20.8 %", "25.0 %", "31.2 %", "warm start 41.7 %", "p = 3.1e-05"):
        assert words in page, words
    assert small.table.note in page
    assert page.count("data:image/png") == 16, "ten right and six wrong answers"
    assert re.findall(r"training of \w+", page) == ["training of grpo"]
    assert json.loads((small.out / "summary.json").read_text()) == small.summary
    timed = {"data", "training", "evaluation", "colour_baseline", "total", *(f"evaluation_{name}" for name in RIGHT)}
    assert small.summary["seconds"].keys() == timed


def test_every_part_of_the_page_shows_its_model(small: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: dict[str, Any] = {}
    results = {name: Results.model_validate(small.results(name)) for name in RIGHT}
    run = DemoRun(DemoSettings(out=small.out))
    monkeypatch.setattr(demo_report, "write_report", lambda path, report: shown.setdefault("report", report))
    for name in ("before_after", "control_bars", "heat_map"):
        plot = getattr(demo_report.plots, name)

        def noting(*args: Any, name: str = name, plot: Any = plot, **options: Any) -> Any:
            shown[name] = (*args, *options.values())
            return plot(*args, **options)

        monkeypatch.setattr(demo_report.plots, name, noting)
    log = small.out / "checkpoints" / "grpo" / "train_log.jsonl"
    test = list(read_samples(small.out / "data" / "test"))
    path = small.out / "report.html"
    summary = DemoSummary.model_validate(small.summary)
    demo_report.write_demo_report(path, small.out, summary, results, run.predictions, log, test)

    assert shown["before_after"][:2] == (results["warm_start"], results["grpo"])
    assert shown["control_bars"][0] == {"after GRPO": results["grpo"], "blind twin": results["blind_twin"]}
    assert shown["heat_map"] == (results["grpo"].by_modality_and_task,)
    report = shown["report"]
    facts = {fact.label: fact for fact in report.headline}

    def share(value: float) -> str:
        return f"{100 * value:.1f}"

    summary = small.summary
    assert facts["with a swapped image"].value == f"{share(summary['swapped_accuracy'])} %"
    assert facts["with a blank image"].note == f"chance is {share(summary['chance'])} %"
    low, high = summary["grpo"]["ci95"]
    assert f"{share(low)} to {share(high)}" in facts["accuracy"].note
    assert report.manifest["evaluation"] == json.loads((small.out / "eval" / "grpo" / "manifest.json").read_text())
    compared = compare(run.predictions("warm_start"), run.predictions("grpo"))
    assert report.tables[1] == comparison(compared, ("warm start", "after GRPO"))
    assert report.tables[2:] == all_tables(results["grpo"])[1:]

    answers = {answer.id: answer for answer in run.predictions("grpo")}
    assert len(answers) == len(run.predictions("grpo")) == TEST, "the controls are no answers to the questions"
    by_question = {sample.question + str(sample.options): sample for sample in test}
    assert [item.right for item in report.gallery] == [True] * 10 + [False] * 6
    for item in report.gallery:
        sample = by_question[item.question + str(item.options)]
        asked = [s for s in test if (s.question, s.options) == (sample.question, sample.options)]
        assert item.image in [png_bytes(open_image(s.images[0])) for s in asked]
        assert item.right == (item.answer == item.gold)
        assert item.gold in {s.gold for s in asked}
    modalities = [item.note.split(" · ")[0] for item in report.gallery[:8]]
    assert len(set(modalities)) >= 6, "the gallery takes turns among modalities"
