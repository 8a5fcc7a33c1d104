"""The shared-prefix engine equals transformers' `generate`, and does not depend on what is in the batch.

Its prompts are those of training.
"""

from pathlib import Path

import pytest
import torch
from PIL import Image

from engine_cases import forced_logprobs, reference, requests_for
from evaluated import evaluate
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.sampler import pick, uniform_numbers
from medr1.engines.scripted import ScriptedEngine
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny.build import FAMILIES
from medr1.prompts import PROMPTS
from medr1.train.dataset import TrainingRows
from medr1.types import Sample


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_greedy_equals_generate_at_any_batch_size(
    checkpoints: dict[str, Path], questions: list[Sample], family: str, repetition_penalty: float
) -> None:
    params = SamplingParams(max_new_tokens=20, repetition_penalty=repetition_penalty)
    requests = requests_for(questions)
    engine = TransformersEngine(checkpoints[family], dtype="float32", device="cpu")
    expected = [reference(engine, request, params) for request in requests]
    assert len({tuple(ids) for ids in expected}) > 3, "the answers do not depend on the question"
    for batch_size in (1, 3, 16):
        engine.batch_size = batch_size
        drawn = engine.generate(requests, params)
        assert [list(completions[0].token_ids) for completions in drawn] == expected


@pytest.mark.parametrize("prompt", PROMPTS)
def test_evaluation_asks_with_the_very_prompt_of_training(
    checkpoints: dict[str, Path], questions: list[Sample], prompt: str, tmp_path: Path
) -> None:
    asked: list[Request] = []

    def note(request: Request, draw: int) -> str:
        asked.append(request)
        return "<answer>A</answer>"

    evaluate(
        questions, ScriptedEngine(note), out=tmp_path, params=SamplingParams(), batch_size=4, seed=0, prompt=prompt
    )
    engine = TransformersEngine(checkpoints["qwen2_5_vl"], dtype="float32", device="cpu")
    rows = TrainingRows(questions, PROMPTS[prompt], seed=0, shuffle_options=False)
    assert len(asked) == len(questions)
    for index, request in enumerate(asked):
        row = rows.row(index)
        expected = engine.processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        assert engine.chat_text(request) == expected
        assert [image.tobytes() for image in request.images] == [image.tobytes() for image in row["images"]]


def test_the_answer_depends_on_the_image(checkpoints: dict[str, Path], questions: list[Sample]) -> None:
    engine = TransformersEngine(checkpoints["qwen2_5_vl"], dtype="float32", device="cpu")
    seen = requests_for(questions)[0]
    black = Request(key=seen.key, text=seen.text, images=(Image.new("RGB", seen.images[0].size),))
    params = SamplingParams(max_new_tokens=20, temperature=1.0)
    with_image, without = engine.generate([seen, black], params)
    assert with_image[0].logprobs != without[0].logprobs


def test_samples_do_not_depend_on_the_batch(checkpoints: dict[str, Path], questions: list[Sample]) -> None:
    params = SamplingParams(max_new_tokens=16, temperature=1.0, num_draws=3, seed=5)
    requests = requests_for(questions)
    engine = TransformersEngine(checkpoints["qwen2_5_vl"], dtype="float32", device="cpu", batch_size=100)
    together = engine.generate(requests, params)
    engine.batch_size = 1
    alone = [engine.generate([request], params)[0] for request in reversed(requests)][::-1]
    assert [[c.token_ids for c in draws] for draws in together] == [[c.token_ids for c in draws] for draws in alone]
    assert len({draws[0].token_ids for draws in together} | {draws[1].token_ids for draws in together}) > 10
    other = engine.generate(requests[:1], SamplingParams(max_new_tokens=16, temperature=1.0, num_draws=3, seed=6))
    assert [c.token_ids for c in other[0]] != [c.token_ids for c in together[0]]


def test_logprobs_are_those_of_the_model(checkpoints: dict[str, Path], questions: list[Sample]) -> None:
    engine = TransformersEngine(checkpoints["qwen2_5_vl"], dtype="float32", device="cpu")
    request, params = requests_for(questions)[0], SamplingParams(max_new_tokens=10, temperature=0.8, seed=1)
    completion = engine.generate([request], params)[0][0]
    expected = forced_logprobs(engine, request, completion, params)
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=1e-4, atol=1e-5)


def test_pick_follows_the_distribution() -> None:
    probabilities = torch.tensor([0.0, 1.0, 2.0, -torch.inf]).softmax(-1).repeat(20_000, 1)
    uniform = torch.from_numpy(uniform_numbers(0, "distribution", 20_000))
    counts = torch.bincount(pick(probabilities, uniform), minlength=4) / 20_000
    torch.testing.assert_close(counts, probabilities[0], rtol=0, atol=0.012)
    assert pick(probabilities[:1], torch.tensor([0.0])) == 0
    assert pick(probabilities[:1], torch.tensor([1.0 - 1e-16])) == 2, "a token without probability is never drawn"
