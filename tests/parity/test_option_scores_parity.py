"""Option probabilities equal an ordinary forward over the whole text, and forced prefixes an ordinary prompt."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from medr1.answers.tags import answer_start
from medr1.data.images import open_image
from medr1.engines.engine import AnswerPlace, Request, SamplingParams
from medr1.engines.transformers import TransformersEngine, TransformersOptionScorer, letter_token_ids, split_at
from medr1.models.tiny import build, tokenizer
from medr1.prompts import PROMPTS, render
from medr1.types import LETTERS, Completion, Sample

WRITTEN = ("<answer>B</answer>", "<answer> C", "<answer>\n A\n", "<answer>cyst</answer>", "<answer>B. cyst</answer>")


@pytest.fixture(scope="module", params=list(build.FAMILIES))
def engine(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> TransformersEngine:
    return TransformersEngine(checkpoints[request.param], dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def engine_without_tags() -> TransformersEngine:
    """As in published checkpoints: `<answer>B` is written with a token `>B`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "TAGS", ())
        plain = tokenizer.train_tokenizer()
    plain.add_tokens([f">{letter}" for letter in LETTERS])
    assert plain.decode(plain("<answer>B", add_special_tokens=False).input_ids[-1:]) == ">B"
    shape = build.TinyShape(hidden_size=64, intermediate_size=96, vision_width=32, vision_heads=2)
    model = build.build_model(shape, plain, seed=3)
    return TransformersEngine(model, processor=build.build_processor(shape, plain))


@pytest.fixture(scope="module")
def engine_with_spaced_letters() -> TransformersEngine:
    """As in published checkpoints: a letter has a token of its own, and another one with the space before it."""
    spaced = tokenizer.train_tokenizer()
    spaced.add_tokens([f" {letter}" for letter in LETTERS[:4]])
    shape = build.TinyShape(hidden_size=64, intermediate_size=96, vision_width=32, vision_heads=2)
    model = build.build_model(shape, spaced, seed=4)
    return TransformersEngine(model, processor=build.build_processor(shape, spaced))


def request_for(sample: Sample, prefix: str = "") -> Request:
    images = tuple(open_image(ref) for ref in sample.images)
    return Request(key=sample.id, text=render(PROMPTS["bare"], sample), images=images, completion_prefix=prefix)


def place_for(engine: TransformersEngine, sample: Sample, text: str, prefix: str = "") -> AnswerPlace:
    ids = tuple(engine.tokenizer(text, add_special_tokens=False).input_ids)
    start = answer_start(prefix + text)
    assert start is not None
    return AnswerPlace(
        request=request_for(sample, prefix),
        completion=Completion(text=prefix + text, token_ids=ids, num_tokens=len(ids)),
        start=start,
        num_options=len(sample.options),
    )


@torch.no_grad()
def forward(engine: TransformersEngine, request: Request, token_ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of the next token: the stock processor and one prompt at a time."""
    inputs = engine.processor(
        text=[engine.chat_text(request)], images=list(request.images) or None, return_tensors="pt"
    )
    tail = torch.tensor([list(token_ids)], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1)
    return engine.model(**inputs).logits[0, -1].float().log_softmax(-1)


def reference(engine: TransformersEngine, place: AnswerPlace) -> list[float]:
    """By hand: the tokens before the one with the answer's first character, and every token that reads as a letter."""
    prefix = engine.tokenizer(place.request.completion_prefix, add_special_tokens=False).input_ids
    ids, text = list(place.completion.token_ids), place.request.completion_prefix
    pieces = [engine.tokenizer.decode([i]) for i in ids]
    before = 0
    while len(text) + len(pieces[before]) <= place.start:
        text += pieces[before]
        before += 1
    head = place.completion.text[len(text) : place.start].rstrip()
    log_V = forward(engine, place.request, [*prefix, *ids[:before]])
    vocabulary = [engine.tokenizer.decode([i]) for i in range(len(engine.tokenizer))]
    letters = LETTERS[: place.num_options]
    return [
        float(log_V[[i for i, t in enumerate(vocabulary) if t in (head + letter, f"{head} {letter}")]].logsumexp(0))
        for letter in letters
    ]


def test_option_logprobs_equal_a_forward_by_hand(engine: TransformersEngine, questions: list[Sample]) -> None:
    thoughts = ["size small", "", "a long thinking about the image and its size"]
    places = [
        place_for(engine, sample, f"<think>{thoughts[i % 3]}</think>{WRITTEN[i % len(WRITTEN)]}")
        for i, sample in enumerate(questions)
    ]
    for batch_size in (1, 4, 64):
        engine.batch_size = batch_size
        scores = TransformersOptionScorer(engine).option_logprobs(places)
        for place, found in zip(places, scores, strict=True):
            assert found == pytest.approx(reference(engine, place), abs=1e-5)
    assert len({round(found[0], 3) for found in scores if found}) > 3


def test_letters_inside_a_token_are_found(engine_without_tags: TransformersEngine, questions: list[Sample]) -> None:
    engine = engine_without_tags
    places = [
        place_for(engine, sample, f"<think>size small</think>{WRITTEN[i % 3]}") for i, sample in enumerate(questions)
    ]
    scores = TransformersOptionScorer(engine).option_logprobs(places)
    told = [(place, found) for place, found in zip(places, scores, strict=True) if found is not None]
    assert len(told) > len(questions) / 2
    for place, found in told:
        assert found == pytest.approx(reference(engine, place), abs=1e-5)


def test_nothing_is_told_where_another_letter_has_no_such_token(
    engine_without_tags: TransformersEngine, questions: list[Sample]
) -> None:
    model, processor = engine_without_tags.model, copy.deepcopy(engine_without_tags.processor)
    engine = TransformersEngine(model, processor=processor)
    known = place_for(engine, questions[0], "<answer>B")
    engine.tokenizer.add_tokens(["answer>B"])
    alone = place_for(engine, questions[0], "<answer>B")
    found, nothing = TransformersOptionScorer(engine).option_logprobs([known, alone])
    assert found is not None
    assert nothing is None


def test_both_tokens_of_a_letter_count(engine_with_spaced_letters: TransformersEngine, questions: list[Sample]) -> None:
    engine = engine_with_spaced_letters
    assert [len(letter_token_ids(engine.tokenizer, letter)) for letter in "ABCDE"] == [2, 2, 2, 2, 1]
    places = [place_for(engine, sample, WRITTEN[i % 3]) for i, sample in enumerate(questions)]
    for place, found in zip(places, TransformersOptionScorer(engine).option_logprobs(places), strict=True):
        assert found == pytest.approx(reference(engine, place), abs=1e-5)


def test_the_place_of_an_answer_among_tokens(engine: TransformersEngine) -> None:
    tokens = engine.tokenizer
    ids = tokens("<think>size small</think><answer> B</answer>", add_special_tokens=False).input_ids
    text = tokens.decode(ids)
    before, begin = split_at(tokens, ids, text.index("B"))
    assert tokens.decode(ids[:before]) == text[:begin]
    assert tokens.decode([ids[before]]).strip() == "B"
    assert tokens.decode(letter_token_ids(tokens, "B")[:1]) == "B"
    assert letter_token_ids(tokens, "B", "no such token") == []


def test_a_forced_beginning_counts_as_seen(engine: TransformersEngine, questions: list[Sample]) -> None:
    places = [
        place_for(engine, sample, "<answer>A</answer>", prefix="<think>size small</think>") for sample in questions
    ]
    scores = TransformersOptionScorer(engine).option_logprobs(places)
    for place, found in zip(places, scores, strict=True):
        assert found == pytest.approx(reference(engine, place), abs=1e-5)
    inside = place_for(engine, questions[0], "B", prefix="<think>x</think><answer>A, not ")
    assert TransformersOptionScorer(engine).option_logprobs([inside]) == [None]


def test_generation_goes_on_behind_a_forced_prefix(engine: TransformersEngine, questions: list[Sample]) -> None:
    params = SamplingParams(max_new_tokens=8)
    prefix = "<think>size small</think>"
    forced = engine.tokenizer(prefix, add_special_tokens=False).input_ids
    requests = [request_for(sample, prefix if i % 2 else "") for i, sample in enumerate(questions)]
    engine.batch_size = 4
    drawn = engine.generate(requests, params)
    for i, (request, completions) in enumerate(zip(requests, drawn, strict=True)):
        (completion,) = completions
        seen = list(forced) if i % 2 else []
        for token in completion.token_ids:
            log_V = forward(engine, request, seen)
            log_V[
                engine.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|vision_start|>", "<|vision_end|>"])
            ] = -torch.inf
            best = float(log_V.max())
            assert float(log_V[token]) >= best - 1e-4
            seen.append(token)
        text = engine.tokenizer.decode(list(completion.token_ids), skip_special_tokens=True)
        assert completion.text == (prefix if i % 2 else "") + text
        assert completion.num_tokens == len(completion.token_ids) <= 8
