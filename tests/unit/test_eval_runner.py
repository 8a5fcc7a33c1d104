"""Evaluation runs: complete, resumable, and refused where they would mix two runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluated import evaluate
from medr1.data.images import png_bytes
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError, DataError, EngineError
from medr1.eval.files import read_failures
from medr1.eval.runner import read_predictions
from medr1.types import Completion, ImageRef, Sample
from written import written

CONTROLS = ("blank", "swapped")


def make_samples(n: int) -> list[Sample]:
    """Questions about images whose brightness is the answer: dark is A, bright is B."""
    return [
        Sample(
            id=f"q{i}",
            images=(ImageRef(data=png_bytes(Image.new("RGB", (4, 4), (200 * (i % 2),) * 3))),),
            question="How bright?",
            options=("Dark", "Bright"),
            answer_index=i % 2,
            modality="CT" if i % 3 else "MRI",
            group=f"image{i}",
        )
        for i in range(n)
    ]


RED = ImageRef(data=png_bytes(Image.new("RGB", (4, 4), "red")))


def changed(**changes: object) -> list[Sample]:
    """The same four questions by their ids, the first of them with other content."""
    first, *others = make_samples(4)
    return [replace(first, **changes), *others]  # type: ignore[arg-type]


def look(request: Request, draw: int) -> str:
    """Sees the image, and is unreadable for every question whose id ends in 7."""
    if "7:" in request.key:
        return "I do not know"
    (image,) = request.images
    return f"<think>I look</think><answer>{'AB'[int(np.asarray(image).mean() > 100)]}</answer>"


class DyingEngine:
    """Answers like `look` until it has answered so many requests."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        self.lives -= len(requests)
        if self.lives < 0:
            raise EngineError("the engine is gone; start it again")
        return ScriptedEngine(look).generate(requests, params)

    def describe(self) -> Mapping[str, str]:
        return ScriptedEngine(look).describe()


def run(samples: Sequence[Sample], out: Path, engine=None, **changes) -> dict:
    settings = {
        "params": SamplingParams(),
        "batch_size": 3,
        "seed": 0,
        "variants": CONTROLS,
        "arguments": {"model": "tiny"},
    } | changes
    return written(evaluate(samples, engine or ScriptedEngine(look), out=out, **settings))


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def keys(out: Path) -> list[tuple]:
    return [(line["id"], line["variant"], line["draw"]) for line in lines(out)]


def test_a_model_that_sees(tmp_path: Path) -> None:
    results = run(make_samples(20), tmp_path)
    # q7 and q17 cannot be read; everything else is right.
    assert results["n"] == 20
    assert results["accuracy"] == 0.9
    assert results["parse"] == {"missing_tag": 2, "ok": 18}
    # Grey 127 is bright to this model: right for the ten bright ones, without q7 and q17.
    assert results["blind"]["blank_image"] == 8 / 20
    assert results["blind"]["swapped_image"] == 0.0
    assert results["controls"]["swapped"]["follows"]["share"] == 0.9
    assert results["controls"]["swapped"]["dropped"] == 0
    assert results == json.loads((tmp_path / "results.json").read_text())


def test_lines_have_the_fields_of_the_contract(tmp_path: Path) -> None:
    run(make_samples(2), tmp_path)
    identity, facts = ["id", "variant", "draw", "group"], ["modality", "task", "source", "options", "gold"]
    reading = ["prompt_style", "question", "completion", "answer", "parse_status", "num_tokens", "images"]
    assert list(lines(tmp_path)[0]) == identity + facts + reading
    assert [p.options for p in read_predictions(tmp_path)] == [("Dark", "Bright")] * 4


def test_the_manifest_says_what_was_run(tmp_path: Path) -> None:
    run(make_samples(2), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["arguments"]["model"] == "tiny"
    assert manifest["arguments"]["sampling"]["temperature"] == 0.0
    assert manifest["arguments"]["engine"] == {"engine": "scripted", "model": "scripted"}
    assert manifest["seed"] == 0
    assert manifest["controls"] == list(CONTROLS)
    assert len(manifest["arguments"]["data_hash"]) == 16
    assert manifest["seconds"] >= 0


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("lives", range(0, 30, 3))
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, lives: int, torn: bool) -> None:
    samples = make_samples(10)
    whole = run(samples, tmp_path / "whole")
    with pytest.raises(EngineError):
        run(samples, tmp_path / "cut", DyingEngine(lives))
    path = tmp_path / "cut" / "predictions.jsonl"
    if torn and lives:
        path.write_bytes(path.read_bytes()[:-20])
    answered = len(path.read_bytes().splitlines()) - (torn and lives > 0)
    engine = DyingEngine(30 - answered)
    assert run(samples, tmp_path / "cut", engine) == whole
    assert engine.lives == 0
    assert keys(tmp_path / "cut") == keys(tmp_path / "whole")
    assert len(set(keys(tmp_path / "cut"))) == 30
    assert (tmp_path / "cut" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()


def test_a_finished_run_generates_nothing(tmp_path: Path) -> None:
    samples = make_samples(4)
    assert run(samples, tmp_path) == run(samples, tmp_path, DyingEngine(0))


def test_controls_can_be_added_to_a_finished_run(tmp_path: Path) -> None:
    samples = make_samples(4)
    without = run(samples, tmp_path, variants=())
    assert without["controls"] == {}
    assert run(samples, tmp_path, DyingEngine(8)) == run(samples, tmp_path / "both")


def test_draws_are_counted_and_completed(tmp_path: Path) -> None:
    results = run(make_samples(4), tmp_path, params=SamplingParams(num_draws=2), variants=())
    assert (results["n"], results["n_groups"]) == (8, 4)
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert run(make_samples(4), tmp_path, params=SamplingParams(num_draws=2), variants=()) == results
    assert sorted(keys(tmp_path)) == [(f"q{i}", "", draw) for i in range(4) for draw in range(2)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"prompt": "nothink"}, "prompt was 'think', now 'nothink'"),
        ({"prompt": "nothink"}, "other prompt text"),
        ({"params": SamplingParams(temperature=1.0)}, "temperature was 0.0, now 1.0"),
        ({"params": SamplingParams(seed=1)}, r"\(seed was 0, now 1\)"),
        ({"protocol": "med-r1/think"}, "protocol was 'default', now 'med-r1/think'"),
        ({"samples": make_samples(5)}, "other gold answers; other pictures; other questions"),
        ({"samples": changed(question="Another question?")}, r"\(other questions\)"),
        ({"samples": changed(options=("no", "perhaps"))}, r"\(other questions\)"),
        ({"samples": changed(answer_index=1)}, r"\(other gold answers\)"),
        ({"samples": changed(images=(RED,))}, r"\(other pictures\)"),
    ],
)
def test_another_run_is_not_continued(tmp_path: Path, changes: dict, named: str) -> None:
    run(make_samples(4), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    samples = changes.pop("samples", make_samples(4))
    with pytest.raises(ConfigError, match=named) as caught:
        run(samples, tmp_path, **changes)
    assert "--overwrite" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    run(samples, tmp_path, overwrite=True, **changes)
    assert {line["id"] for line in lines(tmp_path)} == {sample.id for sample in samples}
    assert len(lines(tmp_path)) == len({(line["id"], line["variant"]) for line in lines(tmp_path)})


def test_a_finished_run_called_again_changes_nothing(tmp_path: Path) -> None:
    results = run(make_samples(4), tmp_path)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert run(make_samples(4), tmp_path, engine=DyingEngine(0)) == results
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
    # Other controls are further work on the same run.
    fewer = run(make_samples(4), tmp_path, engine=DyingEngine(0), variants=("blank",))
    assert fewer["controls"].keys() == {"blank"}
    assert run(make_samples(4), tmp_path) == results


def test_another_batch_size_may_continue(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(make_samples(6), tmp_path, DyingEngine(6))
    run(make_samples(6), tmp_path, batch_size=5)
    assert len(set(keys(tmp_path))) == len(keys(tmp_path)) == 18


def test_predictions_without_a_manifest_are_not_continued(tmp_path: Path) -> None:
    run(make_samples(2), tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no run"):
        run(make_samples(2), tmp_path)


class FlakyEngine:
    """Fails for one sample."""

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        failed = Completion(text="timed out", finish_reason="error")
        answers = ScriptedEngine(look).generate(requests, params)
        return [[failed] if r.key == "q1:" else a for r, a in zip(requests, answers, strict=True)]

    def describe(self) -> Mapping[str, str]:
        return ScriptedEngine(look).describe()


def test_failures_are_neither_right_nor_wrong_and_tried_again(tmp_path: Path) -> None:
    results = run(make_samples(4), tmp_path, FlakyEngine(), variants=())
    assert (results["n"], results["accuracy"], results["failed"]) == (3, 1.0, 1)
    (failure,) = (line for line in lines(tmp_path) if "failure" in line)
    assert failure["failure"] == {"kind": "engine", "message": "timed out"}
    assert (failure["id"], failure["variant"], failure["draw"], failure["gold"]) == ("q1", "", 0, "B")
    assert "completion" not in failure
    assert [p.id for p in read_predictions(tmp_path)] == ["q0", "q2", "q3"]
    again = run(make_samples(4), tmp_path, variants=())
    assert (again["n"], again["failed"]) == (4, 0)
    assert sorted(keys(tmp_path)) == [(f"q{i}", "", 0) for i in range(4)]
    assert read_failures(tmp_path) == []


def test_failures_of_an_unfinished_run_wait_for_its_end(tmp_path: Path) -> None:
    """So that a killed run ends as if nothing had happened."""

    class FlakyAndDying(FlakyEngine):
        calls = 0

        def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
            self.calls += 1
            if self.calls == 2:
                raise EngineError("the engine is gone; start it again")
            return super().generate(requests, params)

    run(make_samples(5), tmp_path / "whole", FlakyEngine(), variants=())
    with pytest.raises(EngineError):
        run(make_samples(5), tmp_path / "cut", FlakyAndDying(), variants=())
    assert run(make_samples(5), tmp_path / "cut", FlakyEngine(), variants=())["failed"] == 1
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_failures_of_an_older_version_are_read_and_mended(tmp_path: Path) -> None:
    run(make_samples(4), tmp_path, FlakyEngine(), variants=())
    kept = [line for line in lines(tmp_path) if "failure" not in line]
    for line in kept:
        del line["question"], line["images"]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    old = {"id": "q1", "variant": "", "draw": None, "reason": "image x.png is empty"}
    (tmp_path / "failures.jsonl").write_text(json.dumps(old) + "\n")
    (failure,) = read_failures(tmp_path)
    assert (failure.id, failure.draw, failure.kind, failure.message) == ("q1", 0, "picture", "image x.png is empty")
    assert {(p.question, p.images) for p in read_predictions(tmp_path)} == {(None, None)}
    assert run(make_samples(4), tmp_path, variants=())["failed"] == 0
    assert not (tmp_path / "failures.jsonl").exists()


def test_an_image_that_cannot_be_opened_is_a_failure(tmp_path: Path) -> None:
    broken = Sample(
        id="broken", images=(ImageRef(data=b"no image"),), question="?", options=("Dark", "Bright"), answer_index=0
    )
    named = replace(broken, id="named", images=(ImageRef(path="CT/torn.png", data=b"no image"),))
    two = SamplingParams(num_draws=2)
    results = run([broken, *make_samples(3), named], tmp_path, variants=("blank",), params=two)
    assert (results["n"], results["failed"], results["controls"]["blank"]["failed"]) == (6, 4, 4)
    failures = read_failures(tmp_path)
    assert len({(f.id, f.variant, f.draw) for f in failures}) == len(failures) == 8
    assert {f.kind for f in failures} == {"picture"}
    assert all("CT/torn.png" in f.message for f in failures if f.id == "named")
    again = run([broken, *make_samples(3), named], tmp_path, variants=("blank",), params=two)
    assert again == results
    assert len(set(keys(tmp_path))) == len(keys(tmp_path))
    with pytest.raises(DataError, match="none of the 1 samples"):
        run([broken], tmp_path / "alone", variants=())


def test_progress_counts_up_to_all_samples(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(make_samples(4), tmp_path, batch_size=5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prompt": "thinks"}, ConfigError, "no prompt 'thinks'; choose one of think"),
        ({"protocol": "ours"}, ConfigError, "no protocol 'ours'"),
        ({"variants": ("black",)}, ConfigError, "no variant 'black'; choose one of blank"),
        ({"samples": []}, DataError, "no sample to evaluate"),
        ({"samples": make_samples(2) + make_samples(1)}, DataError, "two samples have the id 'q0'"),
        (
            {"samples": [Sample(id="q", images=(), question="?", answer_type="text", answers=("x",))]},
            DataError,
            "1 of 1 samples have no single right option",
        ),
        (
            {"samples": [Sample(id="q", images=(), question="?", options=("a", "b"), answer_index=0, variant="fgsm")]},
            ConfigError,
            "these samples are variants",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(changes.pop("samples", make_samples(2)), tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()
