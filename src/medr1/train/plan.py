"""What a GRPO run will take, before it is started: memory, tokens, steps and time, from two dry steps.

The dry steps are the run's own first two: the same trainer, data and settings, with nothing written to the output
folder. The first one warms up and makes the optimizer's states, the second one is timed.
"""

import copy
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from trl import GRPOConfig

from medr1.errors import ConfigError
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.train.meter import MemoryPeak, Meter, available_memory
from medr1.train.micro_batches import HEAD_TILE
from medr1.train.run import prepare_grpo
from medr1.types import Sample

DRY_STEPS = 2
SAMPLING, UPDATE, BETWEEN = "sampling", "update", "between"
"""Phases of a step; `between` is the optimizer and what surrounds the steps."""


@dataclass(frozen=True, slots=True)
class Component:
    """Bytes of one part while completions are drawn and while the weights are updated."""

    name: str
    sampling: int
    update: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will take on each process."""

    device: str
    available_bytes: int | None
    """Memory of the device; None where it is not known."""
    components: tuple[Component, ...]
    peak_bytes: int
    """Growth of the memory in use, from before the weights are loaded to the peak; never less than its known parts.

    A process that has freed memory before reuses it and grows by less.
    """
    num_questions: int
    prompts_too_long: int
    prompts_per_step: int
    completions_per_step: int
    micro_batch: int
    """Completions that a process learns from at once."""
    prompt_tokens: float
    """Mean of a prompt, image tokens included."""
    image_tokens: float
    completion_tokens: float
    """Mean of a completion now; training may change it."""
    completion_limit: int | None
    tokens_per_step: float
    """Prompts counted once per group, over all processes."""
    num_steps: int
    sampling_seconds: float
    """Of one step, averaged over those that reuse completions."""
    update_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.num_steps * (self.sampling_seconds + self.update_seconds)


def plan_grpo(
    script: GRPOArguments,
    config: GRPOConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
) -> Plan:
    """Measure two dry steps of a run; arguments as `medr1.train.run.train_grpo`.

    Raises:
        ConfigError: settings with which a run cannot work, or that do not fit into the device's memory.
    """
    device = config.device
    available = available_memory(device)
    with tempfile.TemporaryDirectory() as folder, MemoryPeak(device) as memory:
        meter, before = Meter(memory), memory.now()
        try:
            run, trainer = prepare_grpo(script, dry(config, folder), model_arguments, samples=samples)
            loaded = memory.now()
            step = DryStep(trainer, meter)
            with meter.phase(BETWEEN):
                trainer.train()
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the run does not fit into the memory of {device}: lower per_device_train_batch_size, "
                "max_completion_length or max_pixels, or set gradient_checkpointing or LoRA"
            ) from error
    peaks = {phase: peak - before for phase, peak in meter.peaks.items()}
    assert config.steps_per_generation is not None and config.num_generations is not None
    generations = config.gradient_accumulation_steps / (config.steps_per_generation * config.num_iterations)
    completions = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    prompt, completion = fmean(step.prompt_lengths), fmean(step.completion_lengths)
    parts = components(trainer, step, loaded - before, peaks)
    joined = trainer.args.per_device_train_batch_size // config.per_device_train_batch_size
    return Plan(
        device=str(device),
        available_bytes=available,
        components=parts,
        peak_bytes=max(*peaks.values(), sum(part.sampling for part in parts), sum(part.update for part in parts)),
        num_questions=len(run.samples),
        prompts_too_long=run.too_long,
        prompts_per_step=completions // config.num_generations,
        completions_per_step=completions,
        micro_batch=trainer.args.per_device_train_batch_size,
        prompt_tokens=prompt,
        image_tokens=fmean(step.image_lengths),
        completion_tokens=completion,
        completion_limit=config.max_completion_length,
        tokens_per_step=completions * (prompt / config.num_generations + completion),
        num_steps=planned_steps(config, len(trainer.get_train_dataloader()) * joined),
        sampling_seconds=step.sampling_seconds * generations,
        update_seconds=step.update_seconds,
    )


def dry(config: GRPOConfig, folder: str) -> GRPOConfig:
    """The same settings for two steps that leave nothing behind."""
    # Not dataclasses.replace: TRL's derived fields refuse to be given to a second __post_init__.
    changed = copy.copy(config)
    changed.output_dir, changed.max_steps, changed.logging_steps = folder, DRY_STEPS, 1
    changed.save_strategy, changed.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    changed.report_to, changed.disable_tqdm, changed.push_to_hub = [], True, False
    changed.eval_on_start = changed.load_best_model_at_end = False
    return changed


class DryStep(TrainerCallback):
    """Watches the phases of a trainer's steps; what it holds afterwards is of the last step or generation batch."""

    def __init__(self, trainer: SharedPrefixGRPOTrainer, meter: Meter) -> None:
        self.meter = meter
        self.update_seconds = 0.0
        self.prompt_lengths: list[int] = []
        self.image_lengths: list[int] = []
        self.completion_lengths: list[int] = []
        self._image_token = trainer.model.config.image_token_id
        self._start, self._calls = 0.0, 0
        generate: Any = trainer._generate_and_score_completions

        def generate_and_count(inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output = generate(inputs)
            self._count(output)
            # Groups of equal rewards cost no update; a run that learns has fewer of them than its first batches.
            advantages = output["advantages"]
            return output | {"advantages": advantages.where(advantages != 0, torch.ones_like(advantages))}

        trainer._generate_and_score_completions = meter.wrap(SAMPLING, generate_and_count)  # type: ignore[method-assign]
        trainer.training_step = meter.wrap(UPDATE, trainer.training_step)  # type: ignore[method-assign]
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)

    def _count(self, output: Mapping[str, Tensor]) -> None:
        is_image = (output["prompt_ids"] == self._image_token) & output["prompt_mask"].bool()
        self.prompt_lengths = output["prompt_mask"].sum(1).tolist()
        self.image_lengths = is_image.sum(1).tolist()
        self.completion_lengths = output["completion_mask"].sum(1).tolist()

    @property
    def sampling_seconds(self) -> float:
        """Of the last generation batch."""
        return self.meter.seconds[SAMPLING][-1]

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._start, self._calls = self.meter.clock(), len(self.meter.seconds.get(SAMPLING, []))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Everything of the step but sampling."""
        sampling = self.meter.seconds.get(SAMPLING, [])[self._calls :]
        self.update_seconds = self.meter.clock() - self._start - sum(sampling)


def planned_steps(config: GRPOConfig, micro_batches: int) -> int:
    """Optimizer steps of the whole run, counted as `transformers.Trainer` does."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(config.num_train_epochs * max(1, math.ceil(micro_batches / config.gradient_accumulation_steps)))


def components(
    trainer: SharedPrefixGRPOTrainer, step: DryStep, loaded: int, peaks: Mapping[str, int]
) -> tuple[Component, ...]:
    """What the measured peaks are made of; the last component is what no formula gives.

    Args:
        trainer: after its dry steps.
        step: what they drew.
        loaded: growth of the memory in use up to the loaded model.
        peaks: growth up to the peak of each phase.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    reference_model: Any = trainer.ref_model
    text = model.config.get_text_config()
    weights, reference = held(model), held(reference_model)
    trained = {weight: weight.grad_dtype or weight.dtype for weight in model.parameters() if weight.requires_grad}
    gradients = sum(weight.numel() * dtype.itemsize for weight, dtype in trained.items())
    states: Any = trainer.optimizer
    optimizer = size(value for state in states.state.values() for value in state.values() if isinstance(value, Tensor))
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cached = sum(step.prompt_lengths) + len(step.prompt_lengths) * max(step.completion_lengths)
    cache = 2 * cached * text.num_hidden_layers * text.num_key_value_heads * head_size * model.dtype.itemsize
    tile = min(sum(step.completion_lengths), HEAD_TILE[0]) * min(text.vocab_size, HEAD_TILE[1])
    single = torch.float32.itemsize
    fixed = [
        Component("weights", weights, weights),
        Component("reference model", reference, reference),
        Component("master weights", *[size(trainer.masters.values())] * 2),
        Component("optimizer states", optimizer, optimizer),
        Component("data and libraries", *[max(0, loaded - weights - reference)] * 2),
        Component("gradients", 0, gradients),
        Component("key-value cache", 0 if trainer.use_vllm else cache, 0),
        Component("logits", len(step.prompt_lengths) * text.vocab_size * single, tile * single),
    ]
    known = [sum(part.sampling for part in fixed), sum(part.update for part in fixed)]
    rest = [max(0, peaks[phase] - bytes_) for phase, bytes_ in zip((SAMPLING, UPDATE), known, strict=True)]
    return (*fixed, Component("activations and workspace", *rest))


def held(model: nn.Module | None) -> int:
    """Bytes of a model's parameters and buffers."""
    return 0 if model is None else size(chain(model.parameters(), model.buffers()))


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; one that occurs twice counts once."""
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())
