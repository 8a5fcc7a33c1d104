"""Decoding by captured graphs draws the same tokens as the ordinary loop; on a CPU their calls are made one by one."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine_cases import requests_for
from medr1.data.phantom import phantom
from medr1.engines import graphs, sampler
from medr1.engines.engine import SamplingParams
from medr1.engines.graphs import decoder_of
from medr1.engines.text_model import can_capture
from medr1.engines.transformers import TransformersEngine
from medr1.models.loading import load_model, load_processor, save_checkpoint
from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.types import Completion, Sample
from tiny_trainer import make_trainer

PARAMS = SamplingParams(max_new_tokens=14, num_draws=3, temperature=1.0, seed=3)
SETTINGS = {
    "greedy": replace(PARAMS, temperature=0.0, num_draws=1),
    "drawn": PARAMS,
    "cool": replace(PARAMS, temperature=0.6),
    "top-k": replace(PARAMS, top_k=5),
    "top-p": replace(PARAMS, top_p=0.8, temperature=1.3),
    "min-p": replace(PARAMS, min_p=0.05),
    "penalty": replace(PARAMS, repetition_penalty=1.4),
    "greedy with a penalty": replace(PARAMS, temperature=0.0, num_draws=1, repetition_penalty=1.4),
    "all": replace(PARAMS, temperature=0.9, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2),
    "one token": replace(PARAMS, max_new_tokens=1),
}


def same(ours: list[list[Completion]], wanted: list[list[Completion]]) -> None:
    assert [[one.token_ids for one in draws] for draws in ours] == [
        [one.token_ids for one in draws] for draws in wanted
    ]
    for one, other in zip(chain(*ours), chain(*wanted), strict=True):
        assert one.finish_reason == other.finish_reason
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=1e-4, atol=1e-4)


def both(
    engine: TransformersEngine, samples: Sequence[Sample], params: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Completion]], list[list[Completion]]]:
    """Completions by fixed buffers, and by the ordinary loop."""
    requests = requests_for(samples)
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "CAPTURED", set())
        wanted = engine.generate(requests, params)
    decoded: list[int] = []
    original = graphs.GraphDecoder.decode
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "CAPTURED", {"cpu", "cuda"})
        patch.setattr(graphs.GraphDecoder, "decode", lambda *args: decoded.append(1) or original(*args))
        ours = engine.generate(requests, params)
    assert decoded, "the ordinary loop ran twice"
    return ours, wanted


def stirred(model: nn.Module) -> None:
    """Of a fresh model norms are all one and biases zero, and a forgotten one would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or "bias" in name:
                weight.copy_(0.5 + torch.rand(weight.shape, generator=generator))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_tokens(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    device: str,
    family: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = TransformersEngine(checkpoints[family], device=device, dtype="float32")
    stirred(engine.model)
    same(*both(engine, questions, SETTINGS[name], monkeypatch))


@pytest.fixture(scope="module")
def phantoms() -> list[Sample]:
    return [phantom("validation", index).sample for index in range(24)]


@pytest.mark.parametrize("name", ["greedy", "drawn", "all"])
def test_draws_that_end_leave_the_batch(
    phantoms: list[Sample], device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(WARM_START, device=device, dtype="float32")
    params = replace(SETTINGS[name], max_new_tokens=40, temperature=SETTINGS[name].temperature * 1.5)
    rows: list[int] = []
    original = graphs.GraphDecoder.replay
    monkeypatch.setattr(graphs.GraphDecoder, "replay", lambda self, n, s: rows.append(n) or original(self, n, s))
    ours, wanted = both(engine, phantoms, params, monkeypatch)
    same(ours, wanted)
    assert "stop" in {one.finish_reason for draws in wanted for one in draws}
    if name != "greedy":
        assert len(set(rows)) > 1, "the batch never shrank"


def test_weights_trained_in_place_and_batches_of_other_sizes(
    phantoms: list[Sample], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(WARM_START, device=device, dtype="float32")
    seen = []
    for round, samples in enumerate((phantoms[:4], phantoms, phantoms[5:8])):
        with torch.no_grad():
            for weight in engine.model.parameters():
                weight.mul_(1 + 0.01 * round)
        params = replace(PARAMS, num_draws=1 + round, max_new_tokens=10 + 60 * (round % 2), seed=round)
        same(*both(engine, samples, params, monkeypatch))
        decoder, graphs_before = decoder_of(engine.model, torch.float32), len(seen)
        seen.append((decoder, decoder.room, len(decoder.graphs), graphs_before))
    assert len({id(decoder) for decoder, *_ in seen}) == 1, "the buffers were made anew"
    assert seen[1][1] == seen[2][1] > seen[0][1]


def test_weights_are_not_held_twice_and_stay_what_they_are(
    checkpoints: dict[str, Path], questions: list[Sample], device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(checkpoints["qwen2_5_vl"], device=device, dtype="float32")
    before = {name: weight.detach().clone() for name, weight in engine.model.named_parameters()}
    same(*both(engine, questions, PARAMS, monkeypatch))
    decoder = decoder_of(engine.model, torch.float32)
    assert decoder.text.weights.targets == []
    assert decoder_of(engine.model, torch.float32) is decoder
    graphs.give_back(engine.model)
    same(*both(engine, questions, PARAMS, monkeypatch))
    assert decoder_of(engine.model, torch.float32) is not decoder
    assert decoder_of(engine.model, torch.float32).text.weights.targets == []
    assert all(torch.equal(weight, before[name]) for name, weight in engine.model.named_parameters())
    save_checkpoint(engine.model, engine.processor, tmp_path / "saved")
    again: Any = load_model(tmp_path / "saved", dtype="float32")
    assert all(torch.equal(weight.to(device), before[name]) for name, weight in again.named_parameters())
    twin = copy.deepcopy(engine.model)
    with torch.no_grad():
        twin.model.language_model.layers[0].mlp.gate_proj.weight.add_(1)
    assert all(torch.equal(weight, before[name]) for name, weight in engine.model.named_parameters())


def test_weights_that_an_optimizer_keeps_in_one_tensor_stay_there(
    checkpoints: dict[str, Path], questions: list[Sample], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(checkpoints["qwen2_vl"], device=device, dtype="float32")
    weights = list(engine.model.parameters())
    flat = torch.cat([weight.detach().flatten() for weight in weights])
    for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
        weight.data = part.view(weight.shape)
    for _ in range(2):
        same(*both(engine, questions, PARAMS, monkeypatch))
        flat.mul_(1.02)
    assert decoder_of(engine.model, torch.float32).text.weights.targets


def test_memory_that_does_not_suffice(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = TransformersEngine(checkpoints["qwen2_vl"], device=device, dtype="float32")

    def full(*_: int) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(graphs.GraphDecoder, "make_room", full)
    monkeypatch.setattr(sampler, "CAPTURED", {"cpu", "cuda"})
    assert engine.generate(requests_for(questions), PARAMS)
    assert "token by token" in caplog.text


def test_training_is_the_same(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(captured: set[str]) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(sampler, "CAPTURED", captured)
        trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path, max_steps=3, learning_rate=1e-3)
        trainer.train()
        return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}

    ordinary, by_graphs = trained(set()), trained({"cpu", "cuda"})
    for name, weight in ordinary.items():
        torch.testing.assert_close(by_graphs[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj", "down_proj"], "all-linear"], ids=["some", "all"])
def test_adapters(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    device: str,
    targets: str | list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(checkpoints["qwen2_5_vl"], device=device, dtype="float32")
    model: Any = get_peft_model(base, LoraConfig(r=4, lora_alpha=12, target_modules=targets, lora_dropout=0.1))
    generator = torch.Generator().manual_seed(1)
    engine = TransformersEngine(model, processor=load_processor(checkpoints["qwen2_5_vl"]))
    without = engine.generate(requests_for(questions), PARAMS)
    for _ in range(2):  # the second time they have learned
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.add_(0.3 * torch.randn(weight.shape, generator=generator).to(device))
        ours, wanted = both(engine, questions, PARAMS, monkeypatch)
        same(ours, wanted)
        assert [draws[0].token_ids for draws in wanted] != [draws[0].token_ids for draws in without]
    with model.disable_adapter():
        same(both(engine, questions, PARAMS, monkeypatch)[0], without)


@pytest.mark.parametrize("kind", ["autocast", "bfloat16"])
def test_narrow_types_within_their_noise(
    phantoms: list[Sample], device: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = "float32" if kind == "autocast" else "bfloat16"
    engine = TransformersEngine(WARM_START, device=device, dtype=dtype)
    with torch.autocast(device, torch.bfloat16, enabled=kind == "autocast"):
        ours, wanted = both(engine, phantoms, replace(PARAMS, max_new_tokens=4), monkeypatch)
    pairs = [pair for pair in zip(chain(*ours), chain(*wanted), strict=True) if pair[0].token_ids == pair[1].token_ids]
    assert len(pairs) > 0.8 * sum(map(len, ours))
    differences = [abs(a - b) for one, two in pairs for a, b in zip(one.logprobs, two.logprobs, strict=True)]
    assert 0 < sum(differences) / len(differences) < 0.02


class TestWhatIsCaptured:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_plain_models(self, checkpoints: dict[str, Path], family: str) -> None:
        model = load_model(checkpoints[family])
        assert can_capture(model, torch.float32)
        assert not can_capture(model, torch.float64)

    def test_not_a_sliding_window(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        model.model.language_model.config.layer_types = ["full_attention", "sliding_attention"]
        assert not can_capture(model, torch.float32)

    def test_not_a_hooked_layer(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        model.enable_input_require_grads()
        assert can_capture(model, torch.float32)
        model.model.language_model.layers[1].register_forward_hook(lambda *_: None)
        assert not can_capture(model, torch.float32)

    @pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}])
    def test_not_another_kind_of_adapter(self, checkpoints: dict[str, Path], settings: dict[str, bool]) -> None:
        from peft import LoraConfig, get_peft_model

        model = load_model(checkpoints["qwen2_vl"])
        with torch.no_grad():
            for name, bias in model.named_parameters():
                if name.endswith("q_proj.bias"):
                    bias.fill_(0.1)
        adapted: Any = get_peft_model(model, LoraConfig(target_modules=["q_proj"], **settings))
        assert not can_capture(adapted, torch.float32)

    def test_not_a_quantised_map(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        kind = type("Linear8bit", (nn.Linear,), {})
        model.model.language_model.layers[0].mlp.up_proj.__class__ = kind
        assert not can_capture(model, torch.float32)

    def test_not_another_model(self) -> None:
        assert not can_capture(nn.Linear(2, 2), torch.float32)
