"""A run is the same with and without its rehearsal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOConfig

from medr1.data.phantom import phantom
from medr1.models.tiny import WARM_START
from medr1.train import run
from medr1.train.arguments import GRPOArguments, ModelArguments


def test_a_rehearsal_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [phantom("train", index).sample for index in range(12)]

    def trained(name: str) -> dict[str, torch.Tensor]:
        config = GRPOConfig(
            str(tmp_path / name), use_cpu=True, bf16=False, per_device_train_batch_size=8, num_generations=4, beta=0.05,
            max_completion_length=10, max_steps=2, learning_rate=1e-2, save_strategy="no", report_to=[],
            disable_tqdm=True,
        )  # fmt: skip
        model = ModelArguments(model_name_or_path=str(WARM_START), use_peft=True)
        final = run.train_grpo(GRPOArguments(prompt="bare"), config, model, samples=samples)
        return load_file(final / "model.safetensors")

    with_rehearsal = trained("with")
    rehearsals: list[Any] = []
    monkeypatch.setattr(run, "rehearse", lambda *arguments: rehearsals.append(arguments))
    without = trained("without")
    assert len(rehearsals) == 1
    assert with_rehearsal.keys() == without.keys()
    assert all(torch.equal(with_rehearsal[name], weight) for name, weight in without.items())
    base = load_file(WARM_START / "model.safetensors")
    assert any(not torch.equal(base[name], weight) for name, weight in without.items()), "something was learned"
