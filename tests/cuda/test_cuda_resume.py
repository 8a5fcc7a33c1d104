"""A run that was stopped goes on to the very bits of one that was not: masters and moments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from medr1.data.phantom import phantom
from training_runs import run


class StoppedError(Exception):
    pass


class Stop(TrainerCallback):
    """Ends a run as soon as a checkpoint is written, and notes the steps that were taken."""

    def __init__(self, *, at: int | None) -> None:
        self.at = at
        self.taken: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.taken.append(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.at:
            raise StoppedError


@pytest.mark.usefixtures("same_bits")
@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_resumed_equals_uninterrupted(tmp_path: Path, device: str, kind: str) -> None:
    samples = [phantom("train", index).sample for index in range(24)]
    settings = dict(max_steps=4, save_strategy="steps", save_steps=2, learning_rate=1e-4)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(kind, whole, samples, device, **settings)
    with pytest.raises(StoppedError):
        run(kind, resumed, samples, device, callbacks=[Stop(at=2)], **settings)
    going_on = Stop(at=None)
    run(kind, resumed, samples, device, callbacks=[going_on], **settings)
    assert going_on.taken == [3, 4], "the first two are not taken again"
    before, one, two = (
        load_file(at / "model.safetensors")
        for at in (whole / "checkpoint-2", whole / "checkpoint-4", resumed / "checkpoint-4")
    )
    assert {weight.dtype for weight in one.values()} == {torch.float32}
    assert any(not torch.equal(weight, before[name]) for name, weight in one.items()), "nothing was learned"
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name
    states = [torch.load(at / "checkpoint-4" / "optimizer.pt", map_location="cpu") for at in (whole, resumed)]
    assert_same_moments(*(state["state"] for state in states))


def assert_same_moments(one: dict[int, dict[str, torch.Tensor]], two: dict[int, dict[str, torch.Tensor]]) -> None:
    assert one.keys() == two.keys()
    for weight, moments in one.items():
        assert {moments[name].dtype for name in ("exp_avg", "exp_avg_sq")} == {torch.float32}
        assert moments["exp_avg_sq"].any()
        for name, tensor in moments.items():
            assert torch.equal(tensor, two[weight][name]), f"{name} of weight {weight}"
