"""Training as a GPU does it by default: bfloat16 weights that compute, moved by float32 masters; and its other ways."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medr1.data.phantom import phantom
from medr1.models.tiny import WARM_START
from medr1.types import Sample
from training_runs import Replay, run, steps_of

GAP = "sampling/sampling_logp_difference"
NARROW: dict[str, Any] = {"weights": "bfloat16", "masters": "float32", "autocast": False}
AUTOCAST: dict[str, Any] = {"weights": "float32", "masters": None, "autocast": True}
LORA: dict[str, Any] = {"weights": "bfloat16", "masters": None, "autocast": True}
COMBINATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no checkpointing": (NARROW, {"gradient_checkpointing": False}),
    "reference": (NARROW, {"beta": 0.04}),
    "accumulation": (NARROW, {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}),
    "groups in parts": (NARROW, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 16}),
    "correction": (NARROW, {"sampler_correction": True, "freeze_vision_tower": True}),
    "eager": (NARROW, {"attn_implementation": "eager", "beta": 0.04}),
    "lora": (LORA, {"use_peft": True}),
    "lora, reference, accumulation": (
        LORA,
        {"use_peft": True, "beta": 0.04, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    ),
    "autocast": (AUTOCAST, {"dtype": "float32"}),
    "autocast, reference, no checkpointing": (
        AUTOCAST,
        {"dtype": "float32", "beta": 0.04, "gradient_checkpointing": False},
    ),
}


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("train", index).sample for index in range(24)]


def assert_healthy(folder: Path, steps: int, precision: dict[str, Any]) -> None:
    """Every step has a finite loss and a gradient, and the weights that computed are those that were asked for."""
    log = steps_of(folder)
    assert [record["step"] for record in log] == list(range(1, steps + 1))
    for record in log:
        assert math.isfinite(record["loss"])
        assert 0 < record["grad_norm"] < math.inf
    assert json.loads((folder / "manifest.json").read_text())["arguments"]["precision"] == precision


def assert_sampler_is_the_trainer(folder: Path) -> None:
    """What drew the tokens and what learns from them give them the same probabilities, within rounding."""
    for record in steps_of(folder):
        assert 0 <= record[f"{GAP}/mean"] < 0.05
        assert record[f"{GAP}/mean"] <= record[f"{GAP}/max"] < math.inf


def squares(weights: Iterable[torch.Tensor]) -> float:
    return sum(float(weight.double().square().sum()) for weight in weights)


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_the_default_trains_narrow_weights_and_its_update_arrives(
    samples: list[Sample], tmp_path: Path, device: str, kind: str
) -> None:
    replay = Replay()
    settings = dict(max_steps=8, learning_rate=1e-6, save_strategy="steps", save_steps=8)
    final = run(kind, tmp_path, samples, device, callbacks=[replay], **settings)
    assert_healthy(tmp_path, 8, NARROW)
    if kind == "grpo":
        assert_sampler_is_the_trainer(tmp_path)
    assert {(weight.device.type, weight.dtype) for weight in replay.moved} == {(device, torch.float32)}
    assert replay.share() >= 0.99
    stored = load_file(WARM_START / "model.safetensors").values()
    assert squares(replay.start) == pytest.approx(squares(stored), rel=1e-9), "the masters start from rounded weights"
    masters, computed = (load_file(at / "model.safetensors") for at in (tmp_path / "checkpoint-8", final))
    assert {weight.dtype for weight in masters.values()} == {torch.float32}
    for name, weight in computed.items():
        assert torch.equal(weight, masters[name].bfloat16()), name


@pytest.mark.parametrize(("precision", "changes"), COMBINATIONS.values(), ids=COMBINATIONS)
def test_combinations_of_settings(
    samples: list[Sample], tmp_path: Path, device: str, precision: dict[str, Any], changes: dict[str, Any]
) -> None:
    replay = Replay()
    final = run("grpo", tmp_path, samples, device, callbacks=[replay], learning_rate=1e-6, **changes)
    assert_healthy(tmp_path, 1, precision)
    assert_sampler_is_the_trainer(tmp_path)
    assert {weight.dtype for weight in replay.moved} == {torch.float32}
    assert replay.share() >= 0.99
    assert load_file(final / "model.safetensors").keys() == load_file(WARM_START / "model.safetensors").keys()


@pytest.mark.parametrize("changes", [{"use_peft": True}, {"dtype": "float32"}], ids=["lora", "autocast"])
def test_supervised_training_in_the_other_ways(
    samples: list[Sample], tmp_path: Path, device: str, changes: dict[str, Any]
) -> None:
    replay = Replay()
    run("sft", tmp_path, samples, device, callbacks=[replay], max_steps=2, learning_rate=1e-6, **changes)
    assert_healthy(tmp_path, 2, LORA if "use_peft" in changes else AUTOCAST)
    assert replay.share() >= 0.99
