"""Short trainings of the shipped tiny model on a device, through the functions behind the command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, SFTConfig

from medr1.models.tiny import WARM_START
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.run import train_grpo, train_sft
from medr1.types import Sample

SETTINGS: dict[str, Any] = dict(
    max_steps=1,
    logging_steps=1,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    seed=5,
)
"""What makes a run short and quiet; everything else is as TRL and the product set it, `bf16` above all."""
OF_KIND: dict[str, dict[str, Any]] = {
    # Eight groups: that all of them have equal rewards, and so no gradient, is hardly possible.
    "grpo": dict(per_device_train_batch_size=32, num_generations=4, max_completion_length=12),
    "sft": dict(per_device_train_batch_size=8),
}
OF_SCRIPT = {"adversarial_k", "freeze_vision_tower", "sampler_correction"}
OF_MODEL = {"dtype", "use_peft", "attn_implementation"}


def run(
    kind: str,
    folder: Path,
    samples: Sequence[Sample],
    device: str,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    **changes: Any,
) -> Path:
    """The final checkpoint of `grpo` or `sft`; `changes` are settings of the script, the model and TRL alike."""
    settings = SETTINGS | OF_KIND[kind] | dict(use_cpu=device == "cpu") | changes
    script = {name: settings.pop(name) for name in OF_SCRIPT & settings.keys()}
    model = ModelArguments(
        model_name_or_path=str(WARM_START), **{name: settings.pop(name) for name in OF_MODEL & settings.keys()}
    )
    if kind == "grpo":
        config = GRPOConfig(output_dir=str(folder), **settings)
        train_grpo(GRPOArguments(prompt="bare", **script), config, model, samples=samples, callbacks=callbacks)
    else:
        config = SFTConfig(output_dir=str(folder), **settings)
        train_sft(DataArguments(prompt="bare", **script), config, model, samples=samples, callbacks=callbacks)
    assert config.device.type == device
    return folder / "final"


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The records of the steps in `train_log.jsonl`."""
    records = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [record for record in records if "loss" in record]


class Replay(TrainerCallback):
    """What AdamW does in float64 with the gradients, the rates and the first weights that a run's optimizer had."""

    def __init__(self) -> None:
        self.moved: list[torch.nn.Parameter] = []
        self.start: list[torch.Tensor] = []
        self.exact: list[torch.nn.Parameter] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Before the first step; gradients are taken from the optimizer itself, after all hooks of others."""
        inner = getattr(optimizer, "optimizer", optimizer)
        groups = []
        for group in inner.param_groups:
            exact = [torch.nn.Parameter(weight.detach().double().clone()) for weight in group["params"]]
            self.moved += group["params"]
            self.exact += exact
            settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
            groups.append(settings | {"params": exact})
        self.start = [weight.detach().clone() for weight in self.exact]
        replay = torch.optim.AdamW(groups)

        def step(*_: Any) -> None:
            for weight, exact in zip(self.moved, self.exact, strict=True):
                exact.grad = None if weight.grad is None else weight.grad.double()
            for group, same in zip(inner.param_groups, replay.param_groups, strict=True):
                same["lr"] = group["lr"]
            replay.step()

        inner.register_step_pre_hook(step)

    def share(self) -> float:
        """Projection of the way that the weights went on the exact way, over that one's length."""
        along = length = 0.0
        for moved, exact, start in zip(self.moved, self.exact, self.start, strict=True):
            way = exact.detach() - start
            along += float((way * (moved.detach().double() - start)).sum())
            length += float(way.square().sum())
        assert length > 0, "no weight was to move"
        return along / length
