"""The shared-prefix trainer equals TRL's in float32, and in bfloat16 is no further from float32 than TRL's own."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from grpo_parity import RELATIVE, both, compare, distance, loss_and_gradient
from medr1.models.shared.attention import PackedAttention
from medr1.models.tiny.build import FAMILIES
from medr1.types import Sample
from tiny_trainer import make_trainer, ready

TOLERANCE = {"cpu": RELATIVE, "cuda": 1e-4}
PRECISIONS: dict[str, dict[str, Any]] = {
    "autocast": {"bf16": True, "dtype": "float32"},
    "bfloat16": {"bf16": True, "dtype": None},
    "lora": {"bf16": True, "dtype": None, "lora": True},
}
"""float32 weights under autocast; bfloat16 weights, as masters move them; float32 adapters beside a bfloat16 base."""
NOISE_RATIO = 1.5
GRADIENT_SLACK, LOSS_SLACK = 1e-3, 3e-4
"""Of the reference's length, and of losses near 0: what one rounding more or less in a forward comes to."""


@pytest.mark.parametrize(("family", "attention"), list(product(FAMILIES, ("sdpa", "eager"))))
def test_float32_equals_the_parent(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, device: str, family: str, attention: str
) -> None:
    trainer = make_trainer(
        checkpoints[family], questions, tmp_path, device=device, attn_implementation=attention, beta=0.04
    )
    assert trainer.model.device.type == device
    compare(trainer, relative=TOLERANCE[device])


def assert_as_precise_as_the_parent(folder: Path, questions: list[Sample], output: Path, **changes: Any) -> None:
    settings: dict[str, Any] = dict(beta=0.04) | changes
    trainer = make_trainer(folder, questions, output, **settings)
    narrow = {weight.dtype for name, weight in trainer.model.named_parameters() if "lora_" not in name}
    assert narrow == {torch.bfloat16 if settings["dtype"] is None else torch.float32}
    masters = settings["dtype"] is None and not settings.get("lora")
    assert trainer.accelerator.mixed_precision == ("no" if masters else "bf16")
    sides = both(trainer)
    exact = ready(make_trainer(folder, questions, output, **settings | dict(bf16=False, dtype="float32")))
    exact.model.load_state_dict(trainer.model.state_dict())  # the rounded weights, computed with in float32
    loss, gradient = loss_and_gradient(exact, GRPOTrainer._compute_loss, sides.inputs)
    errors = [distance(side[1], gradient) for side in (sides.ours, sides.theirs)]
    assert errors[1] > 1e-3, "nothing was rounded, so nothing was compared"
    assert errors[0] <= NOISE_RATIO * errors[1] + GRADIENT_SLACK
    assert abs(sides.ours[0] - loss) <= NOISE_RATIO * abs(sides.theirs[0] - loss) + LOSS_SLACK


@pytest.mark.parametrize(("family", "precision", "attention"), list(product(FAMILIES, PRECISIONS, ("sdpa", "eager"))))
def test_narrow_types_are_as_precise_as_the_parent(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    tmp_path: Path,
    device: str,
    family: str,
    precision: str,
    attention: str,
) -> None:
    changes = PRECISIONS[precision] | dict(device=device, attn_implementation=attention)
    assert_as_precise_as_the_parent(checkpoints[family], questions, tmp_path, **changes)


@pytest.mark.parametrize(("family", "precision"), list(product(FAMILIES, PRECISIONS)))
def test_the_attention_of_a_gpu_is_as_precise_on_a_cpu(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    precision: str,
) -> None:
    calls = []

    def masked(self: PackedAttention, layer: int, *states: Any) -> torch.Tensor:
        calls.append(layer)
        output = self.attend_masked(*states)
        # Under autocast a CPU joins a wide buffer with narrow values; a GPU refuses to.
        assert output.dtype == states[2].dtype
        return output

    monkeypatch.setattr(PackedAttention, "attend", masked)
    assert_as_precise_as_the_parent(checkpoints[family], questions, tmp_path, **PRECISIONS[precision])
    assert calls
