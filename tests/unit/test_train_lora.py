"""LoRA: what is adapted where nothing is said, how targets are named, and in which numbers adapters learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from trl import GRPOConfig, get_peft_config

from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.train.arguments import LANGUAGE_PROJECTIONS, GRPOArguments, ModelArguments, parse
from medr1.train.preflight import skeleton
from medr1.train.run import prepare_grpo
from medr1.types import Sample

PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def adapted(network: Any, arguments: ModelArguments) -> set[str]:
    model: Any = get_peft_model(network, get_peft_config(arguments))  # type: ignore[arg-type]
    return {name for name, module in model.get_base_model().named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_language_model_is_adapted_where_nothing_is_said(checkpoints: dict[str, Path], family: str) -> None:
    network = skeleton(checkpoints[family])
    names = {name for name, _ in network.named_modules()}
    assert family != "qwen2_5_vl" or "model.visual.blocks.0.mlp.gate_proj" in names, "a name that is not enough"
    parts = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn"}
    expected = {
        f"model.language_model.layers.{layer}.{parts.get(name, 'mlp')}.{name}"
        for layer in (0, 1)
        for name in PROJECTIONS
    }
    assert adapted(network, ModelArguments(use_peft=True)) == expected


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ([], LANGUAGE_PROJECTIONS),
        (["--lora_target_modules", "q_proj"], ["q_proj"]),
        (["--lora_target_modules", "self_attn.q_proj"], ["self_attn.q_proj"]),
        (["--lora_target_modules", "q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (["--lora_target_modules", "all-linear"], "all-linear"),
        (["--lora_target_modules", r".*visual.*\.qkv"], r".*visual.*\.qkv"),
        (["--lora_target_parameters", "mlp.gate_proj.weight"], None),
        (["--use_peft", "false"], None),
    ],
)
def test_targets(words: list[str], targets: Any, tmp_path: Path) -> None:
    words = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--use_peft", "true", *words]
    model = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)[2]
    assert model.lora_target_modules == targets


def test_one_name_is_a_name(checkpoints: dict[str, Path]) -> None:
    arguments = ModelArguments(use_peft=True, lora_target_modules=["q_proj"])
    found = adapted(skeleton(checkpoints["qwen2_5_vl"]), arguments)
    assert found == {f"model.language_model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)}


def test_adapters_learn_in_float32_beside_bfloat16_weights(questions: list[Sample], tmp_path: Path) -> None:
    config = GRPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=8, num_generations=4, report_to=[],
        max_completion_length=10,
    )  # fmt: skip
    model = ModelArguments(model_name_or_path=str(WARM_START), use_peft=True, dtype="bfloat16")
    trainer = prepare_grpo(GRPOArguments(prompt="bare"), config, model, samples=questions)[1]
    types = {(weight.requires_grad, weight.dtype) for weight in trainer.model.parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
