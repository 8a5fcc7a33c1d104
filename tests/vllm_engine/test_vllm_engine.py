"""The engine on vLLM equals the engine on transformers in float32, token for token."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import medr1.engines.vllm as vllm_engine
from evaluated import evaluate
from medr1.data.images import open_image
from medr1.engines.engine import Engine, Request, SamplingParams
from medr1.engines.transformers import TransformersEngine, image_token_ids
from medr1.engines.vllm import VllmEngine
from medr1.errors import EngineError, ModelError
from medr1.eval.runner import read_predictions
from medr1.prompts import PROMPTS, render
from medr1.records import write_samples
from medr1.types import Completion, Sample

pytestmark = pytest.mark.vllm


def requests_for(samples: Sequence[Sample]) -> list[Request]:
    """The questions, and what else a request can have: an image to resize, images behind, a system turn, a start."""
    requests = [
        Request(
            key=sample.id, text=render(PROMPTS["bare"], sample), images=tuple(open_image(ref) for ref in sample.images)
        )
        for sample in samples
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    first = requests[0]
    return [
        *requests,
        replace(first, key="resized", images=(Image.fromarray(pixels),)),
        replace(first, key="behind", image_first=False, images=(*first.images, *requests[1].images)),
        replace(first, key="begun", system="Answer briefly.", completion_prefix="<think>"),
    ]


@dataclass(frozen=True)
class Pair:
    vllm: VllmEngine
    transformers: TransformersEngine


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def pair(request: pytest.FixtureRequest, vllm_checkpoints: dict[str, Path]) -> Pair:
    folder = vllm_checkpoints[request.param]
    return Pair(VllmEngine(folder, device="cpu"), TransformersEngine(folder, dtype="float32", device="cpu"))


def test_the_checkpoints_dtype_and_stops_are_explicit(pair: Pair) -> None:
    config = pair.vllm.llm.llm_engine.model_config
    assert str(config.dtype) == "torch.float32"
    assert pair.vllm.describe()["dtype"] == "float32"
    assert pair.vllm.describe()["engine_version"].startswith("0.")
    params = pair.vllm.sampling(Request(key="a", text="b"), SamplingParams(), 0)
    assert params.stop_token_ids == [pair.vllm.tokenizer.eos_token_id]


def test_a_device_that_vllm_is_not_built_for_is_refused(vllm_checkpoints: dict[str, Path]) -> None:
    with pytest.raises(EngineError, match="the installed vLLM runs on cpu, not on cuda"):
        VllmEngine(vllm_checkpoints["qwen2_vl"], device="cuda")


@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_greedy_tokens_and_logprobs_equal_transformers(
    pair: Pair, questions: list[Sample], repetition_penalty: float
) -> None:
    requests = requests_for(questions)
    params = SamplingParams(max_new_tokens=20, repetition_penalty=repetition_penalty)
    expected = pair.transformers.generate(requests, params)
    drawn = pair.vllm.generate(requests, params)
    assert len({draws[0].token_ids for draws in expected}) > 3, "the answers do not depend on the question"
    for (ours,), (theirs,) in zip(drawn, expected, strict=True):
        assert replace(ours, logprobs=()) == replace(theirs, logprobs=())
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("filters", [{}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.1}])
def test_sampled_logprobs_are_those_of_the_sampled_distribution(
    pair: Pair, questions: list[Sample], filters: dict[str, float]
) -> None:
    params = SamplingParams(max_new_tokens=1, temperature=0.7, num_draws=40, **filters)
    request = requests_for(questions)[0]
    known = {c.token_ids[0]: c.logprobs[0] for c in pair.transformers.generate([request], params)[0]}
    drawn = {c.token_ids[0]: c.logprobs[0] for c in pair.vllm.generate([request], params)[0]}
    both = known.keys() & drawn.keys()
    assert len(both) > 1
    np.testing.assert_allclose([drawn[t] for t in both], [known[t] for t in both], rtol=0, atol=1e-4)


def test_prompts_are_the_processors(pair: Pair, questions: list[Sample]) -> None:
    for request in requests_for(questions)[:-1]:
        inputs = pair.transformers.processor(
            text=[pair.transformers.chat_text(request)], images=list(request.images) or None
        )
        prompt = pair.vllm.prompt(request)
        placeholders = prompt["prompt_token_ids"].count(pair.vllm.processor.image_token_id)
        assert placeholders == len(request.images)
        (output,) = pair.vllm.llm.generate(
            [prompt], pair.vllm.sampling(request, SamplingParams(max_new_tokens=1), 0), use_tqdm=False
        )
        assert output.prompt_token_ids == pair.vllm.expanded(prompt) == list(inputs["input_ids"][0])


def test_a_prompt_that_vllm_reads_otherwise_is_refused(
    pair: Pair, questions: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(num_image_tokens=[1])
    monkeypatch.setattr(pair.vllm.processor, "_get_num_multimodal_tokens", lambda image_sizes: other)
    with pytest.raises(ModelError, match="as other tokens than the checkpoint's processor does"):
        pair.vllm.generate(requests_for(questions)[:1], SamplingParams(max_new_tokens=1))


def test_draws_follow_their_seed_and_name_alone(pair: Pair, questions: list[Sample]) -> None:
    requests = requests_for(questions)[:6]
    params = SamplingParams(max_new_tokens=12, temperature=1.0, num_draws=3, seed=5)

    def ids(results: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
        return [[completion.token_ids for completion in draws] for draws in results]

    together = ids(pair.vllm.generate(requests, params))
    assert ids(pair.vllm.generate(requests, params)) == together
    assert ids([pair.vllm.generate([request], params)[0] for request in requests]) == together
    assert ids(pair.vllm.generate(requests, replace(params, num_draws=1))) == [draws[:1] for draws in together]
    assert len({draw for draws in together for draw in draws}) > 12
    other = ids(pair.vllm.generate(requests, replace(params, seed=6)))
    renamed = ids(pair.vllm.generate([replace(request, key="b" + request.key) for request in requests], params))
    for changed in (other, renamed):
        assert all(a != b for a, b in zip(changed, together, strict=True))


def test_image_tokens_are_never_sampled(pair: Pair, questions: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    images = set(image_token_ids(pair.vllm.tokenizer))
    params = SamplingParams(max_new_tokens=24, temperature=2.0, num_draws=64)

    def sampled() -> set[int]:
        (draws,) = pair.vllm.generate(requests_for(questions)[:1], params)
        return {token for completion in draws for token in completion.token_ids}

    assert not sampled() & images
    monkeypatch.setattr(vllm_engine, "never_sampled", lambda tokenizer, bias: {})
    assert sampled() & images, "so hot that every token comes up, were it not forbidden"


def test_a_prompt_without_room_is_a_failure_of_its_own(pair: Pair, questions: list[Sample]) -> None:
    requests = requests_for(questions)
    lengths = [len(pair.vllm.expanded(pair.vllm.prompt(request))) for request in requests]
    shortest = lengths.index(min(lengths))
    params = SamplingParams(max_new_tokens=pair.vllm.max_model_len - min(lengths), num_draws=2)
    results = pair.vllm.generate(requests, params)
    for index, draws in enumerate(results):
        fits = lengths[index] == lengths[shortest]
        assert [draw.finish_reason == "error" for draw in draws] == [not fits] * 2
    longest = lengths.index(max(lengths))
    assert f"the prompt has {max(lengths)} tokens" in results[longest][0].text


class Interrupted:
    """An engine that fails after its first requests."""

    def __init__(self, engine: Engine, after: int) -> None:
        self.engine, self.left, self.asked = engine, after, 0

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        if self.left < len(requests):
            raise EngineError("stopped")
        self.left -= len(requests)
        self.asked += len(requests)
        return self.engine.generate(requests, params)

    def describe(self) -> dict[str, str]:
        return dict(self.engine.describe())


def test_an_evaluation_resumes_and_equals_transformers(pair: Pair, questions: list[Sample], tmp_path: Path) -> None:
    def run(engine: Engine, name: str) -> None:
        params = SamplingParams(max_new_tokens=16)
        evaluate(questions, engine, out=tmp_path / name, params=params, batch_size=4, seed=0, variants=["blank"])

    run(pair.transformers, "transformers")
    run(pair.vllm, "whole")
    with pytest.raises(EngineError, match="stopped"):
        run(Interrupted(pair.vllm, after=9), "parts")
    again = Interrupted(pair.vllm, after=1000)
    run(again, "parts")
    whole, parts, known = (read_predictions(tmp_path / name) for name in ("whole", "parts", "transformers"))
    assert whole == parts == known
    assert again.asked == len(whole) - 8


def test_the_command_evaluates_with_vllm(
    vllm_checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path
) -> None:
    write_samples(tmp_path / "data", questions[:4])
    for engine in ("vllm", "transformers"):
        command = [sys.executable, "-m", "medr1", "eval", str(vllm_checkpoints["qwen2_5_vl"]), "--engine", engine]
        command += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / engine), "--max-new-tokens", "12"]
        command += ["--device", "cpu", "--variants", "blank"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert read_predictions(tmp_path / "vllm") == read_predictions(tmp_path / "transformers")
    manifest = json.loads((tmp_path / "vllm" / "manifest.json").read_text())
    assert manifest["arguments"]["engine"]["engine"] == "vllm"
