"""What every variant promises: one result a seed and question, nothing changed but what it names, 8-bit pictures."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from evaluated import evaluate
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import EngineError
from medr1.eval.runner import read_predictions
from medr1.types import LETTERS, Completion, ImageRef, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import NONE_OF_THE_ABOVE, ROTATIONS, SHOWN_ANSWER
from medr1.variants.thinking import COMPLETION_PREFIX, PLANTED
from medr1.variants.variant import Variant

MODALITIES = 8
MAY_CHANGE = {"images", "options", "answer_index", "extra", "variant"}
NEW_IN_EXTRA = {SHOWN_ANSWER, COMPLETION_PREFIX, PLANTED}


def think(request: Request, draw: int) -> str:
    """Names two options in its thinking, and answers one of them."""
    if request.completion_prefix:
        return "<answer>A</answer>"
    options = [line[3:] for line in request.text.splitlines() if line[1:3] == ") "]
    said = sum(request.key.encode()) % len(options)
    thinking = f"In {request.key} it is {options[said]}, not {options[said - 1]}."
    return f"<think>{thinking}</think><answer>{LETTERS[said]}</answer>"


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Two questions about pictures of each modality, and one about two pictures."""
    found: dict[str, list[Sample]] = {}
    index = 0
    while len(found) < MODALITIES or any(len(some) < 2 for some in found.values()):
        sample = phantom("train", index, side=48).sample
        index += 1
        if len(found.setdefault(sample.modality, [])) < 2:
            found[sample.modality].append(sample)
    first, second, *others = [sample for some in found.values() for sample in some]
    return [replace(first, images=(*first.images, *second.images)), second, *others]


@pytest.fixture(scope="module")
def answers(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> list[Prediction]:
    out = tmp_path_factory.mktemp("answers")
    evaluate(samples, ScriptedEngine(think), out=out, params=SamplingParams(), batch_size=8, seed=0)
    return read_predictions(out)


def shown(
    name: str, samples: Sequence[Sample], answers: Sequence[Prediction], seed: int = 5
) -> dict[str, tuple[Sample, list[bytes]]]:
    """By id, a prepared question without its pictures, and their pixels."""
    variant = VARIANTS[name]
    return {
        one.id: (replace(one, images=()), [picture.tobytes() for picture in variant.pictures(one, seed)])
        for one in variant.prepare(samples, seed, answers)
    }


def test_names_are_those_of_the_registry() -> None:
    assert all(name == variant.name for name, variant in VARIANTS.items())
    assert {"blank", "noise", "swapped", "rotated1", "jpeg/3", "speckle/5", "thinking:empty"} <= set(VARIANTS)
    assert {"none_of_the_above", "degraded:noise", "degraded:corruption"} <= set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_seed_name_and_question_alone_decide(name: str, samples: list[Sample], answers: list[Prediction]) -> None:
    once = shown(name, samples, answers)
    np.random.seed(1)  # the global state must not matter
    assert shown(name, samples, answers) == once
    if VARIANTS[name].pairs:
        return
    assert shown(name, samples[::-1], answers[::-1]) == once
    for sample in samples[::5]:
        alone = shown(name, [sample], [answer for answer in answers if answer.id == sample.id])
        assert alone == {id: found for id, found in once.items() if id == sample.id}


@pytest.mark.parametrize("name", ["noise", "shuffled", "other_modality", "gaussian_noise/3", "degraded:noise"])
def test_what_is_random_differs_between_seeds_and_questions(
    name: str, samples: list[Sample], answers: list[Prediction]
) -> None:
    first, second = (shown(name, samples, answers, seed) for seed in (1, 2))
    assert first != second
    same = [replace(sample, images=samples[2].images) for sample in samples[2:]]
    if not VARIANTS[name].pairs:
        assert len({pixels[0] for _, pixels in shown(name, same, answers).values()}) > 1


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_else_changes(name: str, samples: list[Sample], answers: list[Prediction]) -> None:
    variant = VARIANTS[name]
    originals = {sample.id: sample for sample in samples}
    prepared = variant.prepare(samples, 0, answers)
    order = list(originals)
    assert [one.id for one in prepared] == sorted((one.id for one in prepared), key=order.index)
    for changed in prepared:
        original = originals[changed.id]
        kept = {field.name for field in fields(Sample)} - MAY_CHANGE
        assert all(getattr(changed, field) == getattr(original, field) for field in kept)
        assert changed.variant == name
        assert dict(changed.extra).items() >= dict(original.extra).items()
        assert set(changed.extra) - set(original.extra) <= NEW_IN_EXTRA
        _options_are_right(name, original, changed)
        moved = variant.pairs and not variant.reads_answers
        if not moved and name != "no_image":
            assert changed.images == original.images, "pixels change when their turn comes"


def _options_are_right(name: str, original: Sample, changed: Sample) -> None:
    assert original.answer_index is not None
    assert changed.answer_index is not None
    before, after = list(original.options), list(changed.options)
    if name == "none_of_the_above":
        before[original.answer_index] = NONE_OF_THE_ABOVE
        assert (after, changed.answer_index) == (before, original.answer_index)
    elif name in ROTATIONS:
        assert sorted(after) == sorted(before)
        assert after != before
        assert after[changed.answer_index] == before[original.answer_index]
    else:
        assert (after, changed.answer_index) == (before, original.answer_index)


PAIRS = [name for name, variant in VARIANTS.items() if variant.pairs]


@pytest.mark.parametrize("name", [name for name in PAIRS if not VARIANTS[name].reads_answers])
@pytest.mark.parametrize("grouped", [True, False])
def test_no_question_is_shown_its_own_picture(name: str, samples: list[Sample], grouped: bool) -> None:
    """Several questions ask about one picture, of which the group may not be known."""
    both = [
        replace(sample, id=f"{sample.id}-{number}", group=sample.group if grouped else "", modality=modality)
        for sample in samples
        for number, modality in enumerate(("CT", "MRI"))
    ]
    own = {one.id: set(one.images) for one in both}
    for seed in range(10):
        prepared = VARIANTS[name].prepare(both, seed)
        assert prepared, "nothing was shown"
        assert all(own[one.id].isdisjoint(one.images) and len(own[one.id]) == len(one.images) for one in prepared)


def test_no_question_is_given_its_own_thinking(samples: list[Sample], answers: list[Prediction]) -> None:
    own = {answer.id: answer.completion for answer in answers}
    for seed in range(20):
        for one in VARIANTS["thinking:swapped"].prepare(samples, seed, answers):
            assert not own[one.id].startswith(one.extra[COMPLETION_PREFIX])


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.draw is not None])
def test_pictures_are_8_bit_rgb_of_the_same_size_and_lossless(name: str, samples: list[Sample]) -> None:
    for one in VARIANTS[name].prepare(samples, 0)[:2]:
        pictures = list(VARIANTS[name].pictures(one, 0))
        assert [(p.mode, p.size) for p in pictures] == [("RGB", open_image(ref).size) for ref in one.images]
        stored = VARIANTS[name].materialise(one, 0)
        assert [open_image(ref).tobytes() for ref in stored.images] == [picture.tobytes() for picture in pictures]


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_prepared_without_opening_a_picture(name: str, samples: list[Sample], answers: list[Prediction]) -> None:
    missing = [replace(one, images=tuple(ImageRef(path=f"{one.id}.png") for _ in one.images)) for one in samples]
    prepared = VARIANTS[name].prepare(missing, 0, answers)
    assert [one.id for one in prepared] == [one.id for one in VARIANTS[name].prepare(samples, 0, answers)]


@pytest.mark.parametrize("name", VARIANTS)
def test_without_a_picture_there_is_no_variant_of_it(name: str, samples: list[Sample]) -> None:
    texts = [replace(sample, images=()) for sample in samples]
    about_text = name in ROTATIONS or name == "none_of_the_above"
    assert bool(VARIANTS[name].prepare(texts, 0)) == (about_text and ROTATIONS.get(name, 0) < 4)


class DyingEngine:
    """Answers so many requests, then fails."""

    def __init__(self, lives: int) -> None:
        self.lives, self.scripted = lives, ScriptedEngine(think)

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        self.lives -= len(requests)
        if self.lives < 0:
            raise EngineError("died")
        return self.scripted.generate(requests, params)

    def describe(self) -> dict[str, str]:
        return dict(self.scripted.describe())


def test_a_killed_run_draws_nothing_twice(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = samples[:3]
    drawn: list[tuple[str, str]] = []
    pictures = Variant.pictures

    def counted(variant: Variant, sample: Sample, seed: int) -> list:
        drawn.append((variant.name, sample.id))
        return list(pictures(variant, sample, seed))

    monkeypatch.setattr(Variant, "pictures", counted)

    def run(out: Path, lives: int) -> None:
        evaluate(
            few,
            DyingEngine(lives),
            out=out,
            params=SamplingParams(),
            batch_size=4,
            seed=0,
            variants=list(VARIANTS),
        )

    run(tmp_path / "whole", 10_000)
    whole = {(p.variant, p.id): p for p in read_predictions(tmp_path / "whole")}
    assert {name for name, _ in whole} >= {"", "jpeg/3", "thinking:empty", "none_of_the_above"}
    answered: set[tuple[str, str]] = set()
    for lives in (2, 101, len(whole) // 2, 10_000):
        drawn.clear()
        with pytest.raises(EngineError) if lives < len(whole) else nullcontext():
            run(tmp_path / "killed", lives)
        assert answered.isdisjoint(drawn), "what was answered before is not drawn again"
        assert len(drawn) == len(set(drawn))
        answered = {(p.variant, p.id) for p in read_predictions(tmp_path / "killed")}
    assert {(p.variant, p.id): p for p in read_predictions(tmp_path / "killed")} == whole
