"""Larger micro-batches: planned memory against counted bytes, which settings join, and the same training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from trl import GRPOConfig

from medr1.models.tiny.build import FAMILIES
from medr1.train import micro_batches
from medr1.train import run as training
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.grpo import SharedPrefixGRPOTrainer, learns_in_sums
from medr1.train.masters import Precision
from medr1.train.micro_batches import Lengths, Update, joined, larger
from medr1.train.preflight import skeleton
from medr1.types import Sample
from tiny_trainer import generation_batch, make_trainer

FLOAT32 = Precision(torch.float32, masters=False, autocast=False, final=torch.float32)
NARROW = Precision(torch.bfloat16, masters=True, autocast=False, final=torch.bfloat16)


def kept_bytes(trainer: SharedPrefixGRPOTrainer, inputs: dict[str, Any]) -> int:
    """What a forward of the loss keeps for its backward, weights apart."""
    weights = {weight.untyped_storage().data_ptr() for weight in trainer.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = SharedPrefixGRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    assert loss.requires_grad
    return sum(storage.nbytes() for place, storage in kept.items() if place not in weights)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_those_that_are_kept(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, family: str, checkpointing: bool
) -> None:
    """Two prompts of one picture each and equal length, so that nothing is padded."""
    alike = [questions[1]] * 4
    trainer = make_trainer(
        checkpoints[family], alike, tmp_path, max_completion_length=40, gradient_checkpointing=checkpointing
    )
    trainer.eos_token_ids = []
    if checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    assert output["completion_mask"].all()
    prompt = output["prompt_mask"][0].sum().item()
    pictures = (output["prompt_ids"][0] == trainer.model.config.image_token_id).sum().item()
    lengths = Lengths(prompt, pictures, output["completion_ids"].shape[1])
    plan = Update(skeleton(checkpoints[family]), trainer.args, FLOAT32, lengths)
    counted = kept_bytes(trainer, output)
    # Beside what is kept, one layer at a time: of two or four here, and much of what is planned with checkpointing.
    most = 3 if checkpointing else 1.4
    assert counted <= plan.activations(len(output["completion_ids"])) <= most * counted


def test_what_is_held_by_hand(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    network = skeleton(checkpoints["qwen2_vl"])
    numbers = sum(weight.numel() for weight in network.parameters())
    seeing = sum(weight.numel() for name, weight in network.named_parameters() if "visual" in name)
    tile = 3 * 4 * 4096 * 32768

    def held(how: Precision, *more: Any, **changes: Any) -> float:
        update = Update(network, settings(tmp_path, **changes), how, Lengths(100, 64, 50), *more)
        return (update.held() - tile) / numbers

    assert held(FLOAT32) == 4 + 4 + 8
    assert held(NARROW) == 2 + 4 + 4 + 8
    assert held(NARROW, beta=0.04) == 2 + 2 + 4 + 4 + 8
    assert held(NARROW, None, True) == pytest.approx(18 - 16 * seeing / numbers)
    assert held(Precision(torch.float32, masters=False, autocast=True, final=torch.float32)) == 6 + 4 + 8
    assert 2 < held(Precision(torch.bfloat16, masters=False, autocast=True, final=torch.float32), 4) < 18


def settings(folder: Path, **changes: Any) -> GRPOConfig:
    asked = dict(
        use_cpu=True, bf16=False, per_device_train_batch_size=8, num_generations=4, gradient_accumulation_steps=8,
        loss_type="dapo", report_to=[],
    )  # fmt: skip
    return GRPOConfig(str(folder), **(asked | changes))


@pytest.mark.parametrize(
    ("available", "changes", "expected"),
    [
        (1_000, {}, (64, 1, 1)),
        (400, {}, (32, 2, 2)),  # of 320 that may be used, micro-batches of 64 would take 340
        (200, {}, (16, 4, 4)),
        (199, {}, (8, 8, 8)),
        (1_000, {"num_iterations": 2}, (64, 1, 1)),
        (1_000, {"steps_per_generation": 4}, (32, 2, 1)),
        (1_000, {"steps_per_generation": 24}, (64, 1, 3)),
        (1_000, {"steps_per_generation": 3}, (8, 8, 3)),
        (1_000, {"gradient_accumulation_steps": 1}, (8, 1, 1)),
        (1_000, {"gradient_accumulation_steps": 6}, (48, 1, 1)),
        (1_000, {"loss_type": "bnpo"}, (8, 8, 8)),
        (1_000, {"top_entropy_quantile": 0.2}, (8, 8, 8)),
        (1_000, {"entropy_coef": 0.01}, (8, 8, 8)),
        (1_000, {"generation_kwargs": {"seed": 1}}, (8, 8, 8)),
    ],
)
def test_which_micro_batches_join(
    tmp_path: Path, available: int, changes: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    asked = settings(tmp_path, **changes)
    before = asked.to_dict()
    found = larger(asked, available, lambda size: 100 + 30 * size // 8)
    sizes = found.per_device_train_batch_size, found.gradient_accumulation_steps, found.steps_per_generation
    assert sizes == expected
    assert found.generation_batch_size == asked.generation_batch_size == sizes[0] * sizes[2]
    assert asked.to_dict() == before


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "cispo", "sapo", "vespo", "luspo"])
def test_joined_micro_batches_learn_the_same(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, loss_type: str
) -> None:
    """Two generations a step and two updates of every generation; each way of a loss to normalise."""
    asked = settings(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=4, steps_per_generation=2,
        num_iterations=2, loss_type=loss_type, max_steps=2, beta=0.04, optim="sgd", learning_rate=0.1,
        max_grad_norm=0.0,
        importance_sampling_level="sequence" if loss_type == "luspo" else "token",
    )  # fmt: skip
    assert learns_in_sums(asked)

    def learned(config: GRPOConfig) -> torch.Tensor:
        names = (
            "per_device_train_batch_size gradient_accumulation_steps steps_per_generation num_iterations loss_type "
            "importance_sampling_level max_steps beta optim learning_rate max_grad_norm"
        )
        same = {name: getattr(config, name) for name in names.split()}
        trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path, **same)
        before = [weight.detach().clone() for weight in trainer.model.parameters()]
        trainer.train()
        return torch.cat([(w - b).detach().flatten() for w, b in zip(trainer.model.parameters(), before, strict=True)])

    small, large = learned(asked), learned(joined(asked, 2))
    assert small.norm() > 1e-4
    assert (large - small).norm() <= 1e-4 * small.norm()


def test_a_run_joins_and_stays_the_run_that_was_asked_for(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tmp_path, bf16=True, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    model = ModelArguments(model_name_or_path=str(checkpoints["qwen2_vl"]))
    sizes = []
    monkeypatch.setattr(micro_batches, "packs_flat", lambda text, dtype, device: dtype == torch.bfloat16)
    for free, join in ((2 << 30, True), (2 << 30, False), (2 << 20, True), (None, True)):
        monkeypatch.setattr(training, "free_memory", lambda config, free=free: free)
        script = GRPOArguments(prompt="bare", join_micro_batches=join)
        setup, trainer = training.prepare_grpo(script, asked, model, samples=questions)
        sizes.append((trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps))
        assert setup.facts["trainer"]["per_device_train_batch_size"] == 4
    assert sizes == [(8, 1), (4, 2), (4, 2), (4, 2)]
    monkeypatch.setattr(training, "free_memory", lambda config: 2 << 30)
    wide = settings(tmp_path, gradient_accumulation_steps=2)
    setup = training.grpo_setup(script, wide, model, samples=questions)
    assert setup.micro_batches() is setup.config, "rows are padded there, which is not counted"
    strict = Update(skeleton(setup.source), settings(tmp_path, full_determinism=True), NARROW, Lengths(9, 4, 9))
    assert not strict.counts
