"""Variants in an evaluation: drawn once, made of answers after they came, and scored for what they ask."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluated import evaluate as _evaluate
from medr1.data.images import png_bytes
from medr1.data.phantom import phantom
from medr1.engines.engine import AnswerPlace, Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError, EngineError
from medr1.eval.pairs import paired
from medr1.eval.runner import read_predictions
from medr1.eval.scoring import score_confidence_change
from medr1.eval.verify import verify
from medr1.records import read_samples, write_samples
from medr1.types import LETTERS, ImageRef, Prediction, Sample
from medr1.variants import VARIANTS
from written import as_written

evaluate = as_written(_evaluate)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("test", index, side=48).sample for index in range(6)]


def answer(request: Request, draw: int) -> str:
    """Goes on after a forced thinking with the option that it names last, else thinks of the second one."""
    options = [line[3:] for line in request.text.splitlines() if line[1:3] == ") "]
    if not request.completion_prefix:
        return f"<think>It is {options[1]}.</think><answer>B</answer>"
    places = [request.completion_prefix.rfind(option) for option in options]
    return f"<answer>{LETTERS[int(np.argmax(places))] if max(places) >= 0 else 'A'}</answer>"


class Recorder:
    """A scripted engine that keeps its requests."""

    def __init__(self, lives: int = 10_000) -> None:
        self.requests: list[Request] = []
        self.engine, self.lives = ScriptedEngine(answer), lives

    def generate(self, requests: list[Request], params: SamplingParams) -> list:
        if len(self.requests) + len(requests) > self.lives:
            raise EngineError("died")
        self.requests += requests
        return self.engine.generate(requests, params)

    def describe(self) -> dict[str, str]:
        return dict(self.engine.describe())


class Sure:
    """Option log-probabilities: 0.8 for B where no option says none of the above, 0.5 where one does."""

    def option_logprobs(self, places: list[AnswerPlace]) -> list[tuple[float, ...] | None]:
        found: list[tuple[float, ...] | None] = []
        for place in places:
            sure = 0.5 if "None of the above" in place.request.text else 0.8
            rest = (1 - sure) / (place.num_options - 1)
            found.append(tuple(float(np.log(sure if i == 1 else rest)) for i in range(place.num_options)))
        return found


def run(
    samples: list[Sample], out: Path, *variants: str, engine: Recorder | None = None, draws: int = 1, **more: object
) -> dict:
    params = SamplingParams(num_draws=draws)
    return evaluate(
        samples,
        engine or Recorder(),
        out=out,
        params=params,
        batch_size=4,
        seed=2,
        variants=variants,
        **more,  # type: ignore[arg-type]
    )


def test_every_kind_of_variant_is_asked_and_scored_beside_the_original(samples: list[Sample], tmp_path: Path) -> None:
    engine = Recorder()
    wanted = ("thinking:empty", "blank", "jpeg/3", "thinking:contradicting", "none_of_the_above")
    results = run(samples, tmp_path, *wanted, engine=engine)
    assert tuple(results["controls"]) == wanted, "in the order that was asked for"
    assert {p.variant for p in read_predictions(tmp_path)} == {"", *wanted}
    shown = {request.key: [np.asarray(image) for image in request.images] for request in engine.requests}
    for sample in samples:
        (drawn,) = VARIANTS["jpeg/3"].pictures(replace(sample, variant="jpeg/3"), 2)
        assert np.array_equal(shown[f"{sample.id}:jpeg/3"][0], np.asarray(drawn))
        assert not np.array_equal(shown[f"{sample.id}:jpeg/3"][0], shown[f"{sample.id}:"][0])
    # The empty thinking names nothing, so A is answered where B was; the contradicting one is followed.
    assert results["controls"]["thinking:empty"]["thinking"]["changed"]["share"] == 1.0
    assert results["controls"]["thinking:contradicting"]["thinking"]["follows"]["share"] == 1.0
    assert results["controls"]["jpeg/3"]["difference"]["value"] == 0.0
    assert results["image_reliance"]["by_control"].keys() == {"blank"}


def test_thinking_follows_the_answers_of_the_run_and_a_killed_run_goes_on(
    samples: list[Sample], tmp_path: Path
) -> None:
    whole = run(samples, tmp_path / "whole", "thinking:swapped", "blank")
    for lives in (4, 4, 0):
        with pytest.raises(EngineError):
            run(samples, tmp_path / "killed", "thinking:swapped", "blank", engine=Recorder(lives))
    assert run(samples, tmp_path / "killed", "thinking:swapped", "blank") == whole
    again = Recorder()
    assert run(samples, tmp_path / "killed", "thinking:swapped", "blank", engine=again) == whole
    assert again.requests == []


def test_thinking_needs_one_answer_to_a_question(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="thinking:own is made of one answer to every question, and 2 are drawn"):
        run(samples, tmp_path, "thinking:own", draws=2)


def test_what_was_corrupted_before_is_not_corrupted_again(samples: list[Sample], tmp_path: Path) -> None:
    made = [VARIANTS["gaussian_noise/3"].materialise(s, 0) for s in VARIANTS["gaussian_noise/3"].prepare(samples, 0)]
    engine = Recorder()
    run(made, tmp_path, engine=engine)
    for sample, request in zip(made, engine.requests, strict=True):
        assert sample.images == (ImageRef(data=png_bytes(request.images[0])),)


def test_verify_prepares_every_kind_again(samples: list[Sample], tmp_path: Path) -> None:
    write_samples(tmp_path / "data", samples)
    run(
        list(read_samples(tmp_path / "data")),
        tmp_path / "run",
        *("swapped", "thinking:contradicting", "speckle/2", "none_of_the_above"),
        option_scorer=Sure(),
    )
    found = verify(tmp_path / "run", tmp_path / "data")
    assert (found.differing, found.unchecked) == ([], [])
    blind = verify(tmp_path / "run")
    assert blind.differing == []
    assert "controls.thinking:contradicting.thinking.follows" in blind.unchecked


def test_confidence_in_the_right_letter_is_compared_where_the_right_option_is_gone(
    samples: list[Sample], tmp_path: Path
) -> None:
    turned = [replace(s, options=(s.options[0], *s.options[1:]), answer_index=1) for s in samples]
    results = run(turned, tmp_path / "told", "none_of_the_above", option_scorer=Sure())
    found = results["controls"]["none_of_the_above"]["confidence"]
    assert (found["n"], found["before"], found["after"]) == (6, pytest.approx(0.8), pytest.approx(0.5))
    assert found["difference"] == pytest.approx(-0.3)
    assert found["ci95"] == pytest.approx([-0.3, -0.3])
    silent = run(turned, tmp_path / "silent", "none_of_the_above")
    assert "confidence" not in silent["controls"]["none_of_the_above"]
    assert silent["controls"]["none_of_the_above"]["accuracy"] == 1.0


def prediction(id: str, variant: str, gold: str, probabilities: tuple[float, ...] | None, group: str) -> Prediction:
    return Prediction(
        **dict.fromkeys(("modality", "task", "source", "prompt_style", "completion"), ""),
        **{"id": id, "variant": variant, "draw": 0, "group": group, "gold": gold, "answer": gold},
        options=("a", "b"), parse_status="ok", num_tokens=1,
        option_logprobs=None if probabilities is None else tuple(map(float, np.log(probabilities))),
    )  # fmt: skip


def test_a_change_of_confidence_by_hand() -> None:
    before = [prediction("1", "", "A", (0.9, 0.1), "x"), prediction("2", "", "B", (0.3, 0.7), "x")]
    after = [prediction("1", "n", "A", (0.5, 0.5), "x"), prediction("2", "n", "B", (0.4, 0.6), "x")]
    told = score_confidence_change(paired(before, [*after, prediction("3", "n", "A", (1.0, 0.5), "y")]))
    assert told is not None
    found = told.written()
    assert (found["n"], found["before"], found["after"]) == (2, pytest.approx(0.8), pytest.approx(0.55))
    assert (found["difference"], found["n_groups"]) == (pytest.approx(-0.25), 1)
    assert found["ci_method"] == "bootstrap-clustered"
    untold = [replace(one, option_logprobs=None) for one in after]
    assert score_confidence_change(paired(before, untold)) is None
