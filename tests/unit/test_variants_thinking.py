"""Changed thinking reaches the engine as a forced beginning, and what came of it is counted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from evaluated import evaluate as _evaluate
from medr1.data.images import png_bytes
from medr1.engines.engine import AnswerPlace, Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import DataError
from medr1.eval.reasoning import intervene as _intervene
from medr1.eval.runner import Asking, read_predictions
from medr1.types import LETTERS, ImageRef, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.thinking import CHANGES, COMPLETION_PREFIX, PLANTED, forced_prefix, plant, thinking_span
from written import as_written

intervene = as_written(_intervene)

evaluate = as_written(_evaluate)

OPTIONS = ("Liver", "Lung", "Heart")


GREY = ImageRef(data=png_bytes(Image.new("RGB", (4, 4), "grey")))


def make_samples(n: int = 6) -> list[Sample]:
    return [
        Sample(id=f"q{i}", images=(GREY,), question="?", options=OPTIONS, answer_index=i % 3, group=f"g{i}")
        for i in range(n)
    ]


def first_answer(request: Request, draw: int) -> str:
    """Thinks of the right option and answers it; goes on after a forced thinking with what that names, else with C."""
    if not request.completion_prefix:
        option = int(request.key[1]) % 3
        return f"<think> It is the {OPTIONS[option]}. </think>\n<answer>{LETTERS[option]}</answer>"
    named = [letter for letter, option in zip(LETTERS, OPTIONS, strict=False) if option in request.completion_prefix]
    return f"\n<answer>{named[0] if named else 'C'}</answer>"


ENGINE = ScriptedEngine(first_answer)


def prepare(name: str, samples: list[Sample], answers: list[Prediction], seed: int) -> list[Sample]:
    return VARIANTS[f"thinking:{name}"].prepare(samples, seed, answers)


@pytest.fixture
def run(tmp_path: Path) -> list[Prediction]:
    evaluate(make_samples(), ENGINE, out=tmp_path / "run", params=SamplingParams(), batch_size=4, seed=0)
    return read_predictions(tmp_path / "run")


def change(
    name: str,
    run: list[Prediction],
    out: Path,
    engine: ScriptedEngine = ENGINE,
    seed: int = 0,
    params: SamplingParams = SamplingParams(),  # noqa: B008
) -> dict:
    return intervene(
        name,
        make_samples(),
        run,
        engine,
        Asking(params=params, batch_size=4, seed=seed),
        out=out / name,
    )


def test_own_thinking_changes_nothing(run: list[Prediction], tmp_path: Path) -> None:
    scores = change("own", run, tmp_path)
    assert (scores["n"], scores["unreadable"], scores["changed"]["share"]) == (6, 0, 0.0)
    assert scores["accuracy"] == scores["original_accuracy"] == 1.0
    after = read_predictions(tmp_path / "own")
    assert [p.completion for p in after] == [p.completion for p in run]


@pytest.mark.parametrize("name", ["empty", "truncated"])
def test_without_its_thinking_the_model_guesses(name: str, run: list[Prediction], tmp_path: Path) -> None:
    # "It is the Lung." cut to half its words names nothing: C, which a third of the questions had before.
    scores = change(name, run, tmp_path)
    assert scores["changed"]["share"] == pytest.approx(2 / 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    prefix = {"empty": "<think>  </think>", "truncated": "<think> It is </think>"}[name]
    assert {p.completion.split("\n")[0] for p in read_predictions(tmp_path / name)} == {prefix}


def test_every_question_is_answered_once(run: list[Prediction], tmp_path: Path) -> None:
    params = SamplingParams(num_draws=3, temperature=1.0)
    assert change("own", run, tmp_path, params=params)["n"] == 6
    assert len(read_predictions(tmp_path / "own")) == 6


def test_a_contradicting_thinking_is_followed(run: list[Prediction], tmp_path: Path) -> None:
    scores = change("contradicting", run, tmp_path)
    assert (scores["changed"]["share"], scores["follows"]["share"], scores["accuracy"]) == (1.0, 1.0, 0.0)
    stubborn = ScriptedEngine(lambda request, draw: "<answer>A</answer>")
    scores = change("contradicting", run, tmp_path / "stubborn", stubborn)
    assert scores["changed"]["share"] == pytest.approx(2 / 3)
    planted = [int(s.extra[PLANTED]) for s in prepare("contradicting", make_samples(), run, 0)]
    assert scores["follows"]["share"] == pytest.approx(planted.count(0) / 6)


def test_swapped_thinking_is_that_of_another_image(run: list[Prediction]) -> None:
    own = {p.id: p.completion[: p.completion.index("</think>") + 8] for p in run}
    for sample in prepare("swapped", make_samples(), run, 0):
        prefix = sample.extra[COMPLETION_PREFIX]
        assert prefix in {text for id, text in own.items() if id != sample.id}
    one_image = [replace(p, group="same") for p in run]
    assert prepare("swapped", make_samples(), one_image, 0) == []


def test_partners_and_planted_options_are_random(run: list[Prediction]) -> None:
    def of(sample: int, name: str, key: str, predictions: list[Prediction]) -> list[str]:
        return [prepare(name, make_samples(), predictions, seed)[sample].extra[key] for seed in range(20)]

    assert len(set(of(0, "swapped", COMPLETION_PREFIX, run))) == 3, "three thoughts stand with the five other images"
    planted = of(0, "contradicting", PLANTED, run)
    assert set(planted) == {"1", "2"}
    assert planted != of(3, "contradicting", PLANTED, run), "every question has random numbers of its own"
    wrong = replace(run[0], answer="B", completion="<think> It is the Lung. </think>\n<answer>B</answer>")
    planted = of(0, "contradicting", PLANTED, [wrong, *run[1:]])
    assert set(planted) == {"0", "2"}, "any option but the answer, the right one too"


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_fixed_by_the_seed_and_need_a_closed_thinking_and_an_answer(
    name: str, run: list[Prediction]
) -> None:
    assert prepare(name, make_samples(), run, 1) == prepare(name, make_samples(), run[::-1], 1)
    broken = [
        replace(run[0], completion="<think>never closed", answer=None),
        replace(run[1], completion="<answer>A</answer>"),
        replace(run[2], answer=None),
        replace(run[3], draw=1),
        *run[4:],
    ]
    assert [sample.id for sample in prepare(name, make_samples(), broken, 0)] == ["q4", "q5"]


def test_an_unreadable_answer_is_not_a_changed_one(run: list[Prediction], tmp_path: Path) -> None:
    mute = ScriptedEngine(lambda request, draw: "no tags" if request.key.startswith("q0") else "<answer>A</answer>")
    wrong = replace(run[1], answer="C")
    scores = change("empty", [run[0], wrong, *run[2:]], tmp_path, mute)
    assert (scores["n"], scores["unreadable"]) == (6, 1)
    assert scores["accuracy"] == pytest.approx(1 / 6), "it is a wrong one"
    assert scores["original_accuracy"] == pytest.approx(5 / 6)
    assert scores["changed"]["share"] == pytest.approx(4 / 5)


def test_a_finished_intervention_generates_nothing_and_another_is_refused(
    run: list[Prediction], tmp_path: Path
) -> None:
    def no_more(request: Request, draw: int) -> str:
        raise AssertionError("generated again")

    before = change("swapped", run, tmp_path)
    assert change("swapped", run, tmp_path, ScriptedEngine(no_more)) == before
    with pytest.raises(DataError, match="no answer of these samples has a closed think block"):
        intervene(
            "own",
            make_samples(),
            [replace(p, completion="<answer>A</answer>") for p in run],
            ENGINE,
            Asking(params=SamplingParams(), batch_size=4, seed=0),
            out=tmp_path / "none",
        )


@pytest.mark.parametrize(
    ("completion", "thinking"),
    [
        ("<think>a b</think><answer>A</answer>", "a b"),
        ("<THINK>\n a \n</think >x", "a"),
        ("began before</think>x", "began before"),
        ("<think></think>", ""),
    ],
)
def test_the_thinking_changes_and_nothing_around_it(completion: str, thinking: str) -> None:
    span = thinking_span(completion)
    assert span is not None
    assert completion[slice(*span)] == thinking
    assert completion.startswith(forced_prefix(completion, thinking))
    end = forced_prefix(completion, "NEW")
    assert end.replace("NEW", thinking, 1) == forced_prefix(completion, thinking)
    assert thinking_span("no tags") is None
    assert thinking_span("<think>open") is None


@pytest.mark.parametrize(
    ("thinking", "planted"),
    [
        ("I see the lung, not the liver", "I see the Liver, not the Lung"),
        ("B) Lung", "A) Liver"),
        ("b) the lung", "b) the Liver"),
        ("Livers", "Livers The right option is A) Liver."),
        ("", "The right option is A) Liver."),
        ("the heart", "the heart The right option is A) Liver."),
    ],
)
def test_planting_exchanges_two_options(thinking: str, planted: str) -> None:
    assert plant(thinking, OPTIONS, answer=1, planted=0) == planted


def test_planting_does_not_take_a_short_option_out_of_a_long_one() -> None:
    options = ("Tumor", "No tumor")
    assert plant("no tumor", options, answer=1, planted=0) == "Tumor"
    assert plant("a tumor", options, answer=0, planted=1) == "a No tumor"
    assert plant("many tumor cells", ("Tumor", "Tumor cells"), answer=1, planted=0) == "many Tumor"


class Halving:
    """Tells -1, -2, … for the letters, and remembers where it was asked."""

    def __init__(self) -> None:
        self.places: list[AnswerPlace] = []

    def option_logprobs(self, places: list[AnswerPlace]) -> list[tuple[float, ...] | None]:
        self.places += places
        return [tuple(-1.0 - i for i in range(place.num_options)) for place in places]


def scored_run(out: Path, answer: Callable[[Request, int], str], scorer: Halving | None) -> list[Prediction]:
    evaluate(
        make_samples(3),
        ScriptedEngine(answer),
        out=out,
        params=SamplingParams(),
        batch_size=2,
        seed=0,
        option_scorer=scorer,
    )
    return read_predictions(out)


def test_option_logprobs_are_kept_where_there_is_an_answer(tmp_path: Path) -> None:
    def answer(request: Request, draw: int) -> str:
        return "nothing" if request.key.startswith("q1") else "<think>x</think><answer>B</answer>"

    scorer = Halving()
    predictions = scored_run(tmp_path / "run", answer, scorer)
    assert [p.option_logprobs for p in predictions] == [(-1.0, -2.0, -3.0), None, (-1.0, -2.0, -3.0)]
    assert [place.completion.text[place.start :] for place in scorer.places] == ["B</answer>"] * 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert ["option_logprobs" in line for line in lines] == [True, False, True]
    assert [p.option_logprobs for p in scored_run(tmp_path / "without", answer, None)] == [None] * 3


def test_rotated_runs_every_rotation_and_writes_who_relies_on_the_image(tmp_path: Path) -> None:
    always_b = ScriptedEngine(lambda request, draw: "<answer>B</answer>")
    results = evaluate(
        make_samples(),
        always_b,
        out=tmp_path,
        params=SamplingParams(),
        batch_size=4,
        seed=0,
        variants=["blank", "rotated"],
    )
    assert set(results["controls"]) == {"blank", "rotated1", "rotated2"}
    assert results["option_order"]["circular"]["accuracy"] == 0.0
    assert results["option_order"]["same_letter"]["share"] == 1.0
    assert results["image_reliance"]["reliant"]["share"] == 0.0
    rows = [json.loads(line) for line in (tmp_path / "reliance.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(6)]
    assert {row["quadrant"] for row in rows} == {"worst"}
