"""float32 master weights: what keeps a small update of narrow weights from being rounded away.

AdamW moves every weight by about the learning rate. A bfloat16 weight of 0.02 has neighbours 1e-4 apart, so a step of
1e-6 rounds back to where it started: `expected_share` says how little arrives. Weights that compute in bfloat16 are
therefore trained through float32 copies, as mixed-precision training was described (Micikevicius et al. 2018, section
3.1). What each kind of run holds, in bytes for each weight, on R processes:

| run                 | weights of the model         | masters     | gradients | moments | autocast |
|---------------------|------------------------------|-------------|-----------|---------|----------|
| full, one process   | bfloat16: 2                  | float32: 4  | 4         | 8       | no       |
| full, DDP           | bfloat16: 2, and 2 buckets   | float32: 4  | 4         | 8       | no       |
| full, FSDP2         | float32: 4/R, a layer in 2   | the weights | 4/R       | 8/R     | yes      |
| full, DeepSpeed     | bfloat16: 2                  | its own     | its own   | 8/R     | yes      |
| full, dtype float32 | float32: 4, copies: 2        | the weights | 4         | 8       | yes      |
| LoRA                | bfloat16: 2, frozen          | the weights | 4         | 8       | yes      |

All but frozen weights is float32. Gradients are summed over micro-batches and over processes in float32, under DDP once
a step. Of LoRA's row, all but the first column is of the adapters alone.

bfloat16 weights with masters take the bytes of float32 weights under autocast, and less time and activations: no
weight is cast in any forward, the residual stream is narrow, and what samples is what is trained.

A training checkpoint holds the masters as its weights, in float32, so that a resumed run goes on from the same bits;
its configuration names the type that computes, in which any tool opens it. The final checkpoint holds what computed.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn.parallel import DistributedDataParallel

from medr1.errors import ConfigError
from medr1.models.loading import load_model
from medr1.train.arguments import ModelArguments

logger = logging.getLogger(__name__)

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of weights that can be asked for, beside `auto`."""
SAFE_SHARE = 0.99
"""Share of the update that has to arrive; float32 weights get all of it but rounding."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The types that a run computes and learns in."""

    weights: torch.dtype
    """Of the model: what computes."""
    masters: bool
    """Whether the optimizer moves float32 copies of the weights."""
    autocast: bool
    """Whether products of float32 weights are computed in a narrower type."""
    final: torch.dtype
    """Of the final checkpoint: what computes, or float32 where narrower weights would round an adapter away."""

    def facts(self) -> dict[str, object]:
        """For the manifest."""
        name = str(self.weights).removeprefix("torch.")
        return {"weights": name, "masters": "float32" if self.masters else None, "autocast": self.autocast}


def precision(config: Any, arguments: ModelArguments, folder: Path) -> Precision:
    """How a run computes, from its settings and the checkpoint that it starts from.

    Args:
        config: TRL's; `bf16` and `fp16` say whether products are narrow.
        arguments: `dtype` overrides the type of the weights.
        folder: the checkpoint.

    Raises:
        ConfigError: an unknown type, or one in which the update would be rounded away.
    """
    asked = _asked(arguments.dtype)
    narrow = bool(config.bf16 or config.fp16)
    if arguments.use_peft:
        weights = asked or (torch.bfloat16 if config.bf16 else stored_type(folder))
        return Precision(weights, masters=False, autocast=narrow, final=torch.float32)
    sharded, deepspeed = uses_fsdp(config), config.deepspeed_plugin is not None
    if deepspeed:
        weights = asked or (torch.bfloat16 if config.bf16 else torch.float32)
    elif sharded or config.fp16:
        weights = asked or torch.float32
    else:
        weights = asked or (torch.bfloat16 if config.bf16 else torch.float32)
    # accelerate makes float32 shards of narrow weights, and DeepSpeed masters, only under their mixed precision.
    without_masters = (sharded or deepspeed) and not narrow
    if weights == torch.float16 or (weights == torch.bfloat16 and without_masters):
        share = expected_share(config.learning_rate, weights)
        raise ConfigError(
            f"dtype {arguments.dtype} trains {str(weights).removeprefix('torch.')} weights without float32 masters: "
            f"at learning_rate {config.learning_rate:g} about {100 * share:.1f} % of the update would arrive; "
            "leave dtype out and set bf16 true"
        )
    masters = weights == torch.bfloat16 and not (sharded or deepspeed)
    rounded = torch.bfloat16 if config.bf16 and asked is None else weights
    return Precision(weights, masters=masters, autocast=narrow and not masters, final=rounded)


def _asked(dtype: str | None) -> torch.dtype | None:
    """The type that is asked for; None where the run chooses. Raises `ConfigError`."""
    if dtype in (None, "auto"):
        return None
    if dtype not in TYPES:
        raise ConfigError(f"there is no dtype {dtype!r}; choose auto, {', '.join(TYPES)}")
    return TYPES[dtype]


def uses_fsdp(config: Any) -> bool:
    """Whether the weights of a run are spread over processes by FSDP, asked for by a flag or by `accelerate launch`."""
    launched = config.world_size > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return config.fsdp_plugin_args is not None or launched


def settle(config: Any, how: Precision) -> None:
    """Tell accelerate, by the settings that its trainer will be made from, how a run computes."""
    if how.masters:
        config.mixed_precision = "no"  # the weights are narrow already; autocast would widen what it can and cost time
    plugin = config.fsdp_plugin_args
    if plugin is not None and config.bf16 and plugin.get("fsdp_version") == 2:
        # accelerate's own policy reduces gradients in bfloat16, and rounds log-probabilities to it on their way out.
        plugin.setdefault("mixed_precision_policy", MixedPrecisionPolicy(torch.bfloat16, torch.float32))


def expected_share(learning_rate: float, dtype: torch.dtype, *, deviation: float = 0.02, steps: int = 300) -> float:
    """Share of AdamW's update that arrives in weights of a type, where gradients agree from step to step.

    Such a gradient moves every weight by the learning rate. Weights of a language model, with a standard deviation of
    about 0.02, are moved and rounded `steps` times.

    >>> round(expected_share(1e-6, torch.bfloat16), 2), round(expected_share(1e-6, torch.float32), 2)
    (0.02, 1.0)
    """
    start = (deviation * torch.randn(20_000, generator=torch.Generator().manual_seed(0))).to(dtype)
    weights = start
    for _ in range(steps):
        weights = (weights.float() + learning_rate).to(dtype)
    arrived = (weights.float() - start.float()).mean() / (steps * learning_rate)
    return min(1.0, float(arrived)) if learning_rate else 1.0


def stored_type(folder: Path) -> torch.dtype:
    """The widest floating type among the tensors of a checkpoint, whatever its configuration says."""
    kinds = {"F32": torch.float32, "F64": torch.float64, "BF16": torch.bfloat16, "F16": torch.float16}
    found = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
    types = [kinds[name] for name in found if name in kinds]
    return max(types, key=lambda dtype: dtype.itemsize, default=torch.float32)


def load_for_training(folder: Path, how: Precision, *, attn_implementation: str) -> tuple[Any, dict[str, Tensor]]:
    """The model that computes, and by name the weights of the checkpoint in float32 where the model's are rounded."""
    wide = how.masters and stored_type(folder).itemsize > how.weights.itemsize
    dtype = torch.float32 if wide else how.weights
    model: Any = load_model(folder, dtype=dtype, attn_implementation=attn_implementation)
    if not wide:
        return model, {}
    exact = {name: weight.detach() for name, weight in model.named_parameters()}
    # Not `model.to`: buffers, such as the frequencies of rotary embeddings, stay as wide as they are.
    for weight in model.parameters():
        weight.data = weight.data.to(how.weights)
    return model, exact


class MasterWeights:
    """For trainers: narrow weights learn through float32 masters; a resumed run starts from those of its checkpoint.

    FSDP and DeepSpeed keep masters of their own.
    """

    exact: Mapping[str, Tensor] = {}
    """float32 weights by name, to start the masters from; others start from the model's."""
    masters: Mapping[str, nn.Parameter] = {}
    """By the names of the weights; empty where the weights are wide enough to learn themselves."""

    def create_optimizer(self: Any, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The parent's optimizer, moving masters in place of narrow weights."""
        missing = self.optimizer is None
        optimizer = super().create_optimizer(model)  # type: ignore[misc]
        if missing and not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            self.masters = move_masters(self.model, optimizer, self.exact)
            self.exact = {}
            if self.masters and self.args.save_only_model:
                logger.warning("save_only_model keeps no moments of the optimizer; a resumed run will not be the same.")
        return optimizer

    def training_step(self: Any, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """The parent's; behind the last micro-batch of a step the gradients are averaged over the processes."""
        alone = not isinstance(model, DistributedDataParallel)
        if self.masters and not alone:
            # Its buckets have the type of the weights: it would reduce the last micro-batch alone, and in bfloat16.
            model.require_backward_grad_sync = False  # type: ignore[assignment]
        loss = super().training_step(model, *args, **kwargs)  # type: ignore[misc]
        if self.masters and not alone and self.accelerator.sync_gradients:
            average_gradients([weight for weight in self.model.parameters() if weight.requires_grad])
        return loss

    def _save(self: Any, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.masters and state_dict is None:
            state_dict = with_masters(self.model, self.masters)
        super()._save(output_dir, state_dict)  # type: ignore[misc]

    # `save_pretrained` writes a Qwen-VL under the names of the published checkpoints, and `Trainer` reads them back by
    # `load_state_dict(strict=False)` under the names in memory: only the language head fits, and the run silently goes
    # on from the base weights with the optimizer state of others (transformers 5.23). `from_pretrained` knows both.

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._is_whole(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        target: Any = self.model if model is None else model
        saved: Any = load_model(Path(resume_from_checkpoint), dtype=torch.float32)
        target.load_state_dict(saved.state_dict(), strict=True)
        self.exact = {name: weight.detach() for name, weight in saved.named_parameters()}
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(self.exact[name])

    def _load_best_model(self: Any) -> None:
        if self._is_whole(self.state.best_model_checkpoint):
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()  # type: ignore[misc]

    def _is_whole(self: Any, folder: str) -> bool:
        """Whether a checkpoint holds all weights of the model in the ordinary layout."""
        names = ("model.safetensors", "model.safetensors.index.json")
        return not (self.is_deepspeed_enabled or self.is_fsdp_enabled) and any(
            (Path(folder) / name).is_file() for name in names
        )


def move_masters(
    model: nn.Module, optimizer: torch.optim.Optimizer, exact: Mapping[str, Tensor]
) -> dict[str, nn.Parameter]:
    """Let an optimizer that has not stepped yet move float32 masters in place of the narrow weights of a model.

    The weights collect their gradients in float32, whatever type a backward gives, and are the rounded masters after
    every step. Weights in float32 or wider stay their own.
    """
    names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
    masters: dict[str, nn.Parameter] = {}
    for group in optimizer.param_groups:
        weights: list[Any] = group["params"]
        for place, weight in enumerate(weights):
            if weight.dtype.itemsize >= torch.float32.itemsize:
                continue
            start = exact.get(names[weight], weight).detach()
            master = nn.Parameter(start.to(weight.device, torch.float32, copy=True))
            weight.grad_dtype = torch.float32
            weights[place] = master
            masters[names[weight]] = master
    if not masters:
        return masters
    rounded = [weight for weight, name in names.items() if name in masters]
    learning = [masters[names[weight]] for weight in rounded]

    def give_gradients(*_: Any) -> None:
        for weight, master in zip(rounded, learning, strict=True):
            master.grad = weight.grad

    @torch.no_grad()
    def round_weights(*_: Any) -> None:
        torch._foreach_copy_(rounded, list[Tensor](learning))
        for master in learning:
            master.grad = None  # the trainer lets go of those of the model

    optimizer.register_step_pre_hook(give_gradients)
    optimizer.register_step_post_hook(round_weights)
    return masters


def average_gradients(weights: list[nn.Parameter]) -> None:
    """Make every gradient its mean over the processes; one that only some of them have counts as zero on the others."""
    there = torch.tensor([weight.grad is not None for weight in weights], device=weights[0].device, dtype=torch.uint8)
    dist.all_reduce(there, op=dist.ReduceOp.MAX)
    for weight, anywhere in zip(weights, there.tolist(), strict=True):
        if not anywhere:
            continue
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight, dtype=weight.grad_dtype)
        dist.all_reduce(weight.grad)
        weight.grad.div_(dist.get_world_size())


def with_masters(model: nn.Module, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a model with the masters in place of its narrow weights, tied ones under both of their names."""
    masters_at = {weight.data_ptr(): masters[name] for name, weight in model.named_parameters() if name in masters}
    state: dict[str, Tensor] = model.state_dict()
    return {name: masters_at.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}
