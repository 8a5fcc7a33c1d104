"""Micro-batches as large as a GPU's memory holds: the same gradient in fewer, larger calls.

A micro-batch is the part of an optimizer step that one forward takes. Where the loss is a sum over the step,
neighbouring parts may be one. What the update of one takes is counted from the checkpoint's configuration and the
longest prompt and completion, so that it is known before weights are read. How much is free is asked at every start: a
run that is called again beside others may learn in smaller parts, and then equals itself but for rounding.
"""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from trl import GRPOConfig

from medr1.data.images import open_image
from medr1.engines.engine import request_for
from medr1.models.sharding import largest_of_all
from medr1.models.shared.attention import packs_flat
from medr1.prompts import PromptTemplate
from medr1.train.grpo import learns_in_sums, parents_path
from medr1.train.masters import Precision, uses_fsdp
from medr1.train.preflight import prompt_length
from medr1.types import Sample

logger = logging.getLogger(__name__)

USED_SHARE = 0.8
"""Of the memory that is free before; the rest is for fragments, the optimizer's copies and the buffers of decoding."""
HEAD_TILE = (4096, 32768)
"""Tokens and vocabulary that TRL's fused language head projects at a time (`trl.kernels.chunked_logprob`)."""
TILES = 3
"""Such tiles at a time, in float32: logits, their exponentials and their gradient."""
LOOKED_AT = 64
"""Samples whose prompts are measured."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of the longest prompt and completion, in tokens."""

    prompt: int
    images: int
    """Tokens of a prompt that are its pictures."""
    completion: int


def text_numbers(text: Any) -> int:
    """Numbers that one layer of the language model keeps of a token for the backward.

    What enters both norms and comes out of them; queries, keys, values and the attention's output; both parts of the
    gated unit and their product.
    """
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = 2 * (text.num_attention_heads + text.num_key_value_heads) * size
    return 4 * text.hidden_size + attention + 3 * text.intermediate_size


def vision_width(vision: Any) -> int:
    """Numbers of a patch between two blocks of the vision tower."""
    return getattr(vision, "embed_dim", None) or vision.hidden_size


def vision_numbers(vision: Any) -> int:
    """Numbers that one block of the vision tower keeps of a patch: the same parts, with as many heads everywhere."""
    inner = getattr(vision, "intermediate_size", None) or int(vision_width(vision) * vision.mlp_ratio)
    return 8 * vision_width(vision) + 3 * inner


@dataclass(frozen=True, slots=True)
class Update:
    """What counts for the memory of an update."""

    network: Any
    """Of the checkpoint, on any device."""
    config: GRPOConfig
    how: Precision
    lengths: Lengths
    lora_rank: int | None = None
    """None where all weights learn."""
    freeze_vision_tower: bool = False

    @property
    def counts(self) -> bool:
        """Whether rows are packed as is counted here: by flash kernels, without padding and dense masks."""
        dtype = self.how.weights
        if self.how.autocast:
            dtype = torch.float16 if self.config.fp16 else torch.bfloat16
        text = self.network.config.get_text_config()
        return not self.config.full_determinism and packs_flat(text, dtype, self.config.device)

    def bytes(self, completions: int) -> int:
        """Of an update with micro-batches of so many completions."""
        return self.held() + self.activations(completions)

    def activations(self, completions: int) -> int:
        """What the forward of a micro-batch leaves for its backward, and what that takes of one more layer.

        With checkpointing only what enters a layer is left, and one layer at a time is computed again.
        """
        settings = self.network.config
        text, vision = settings.get_text_config(), settings.vision_config
        group = self.config.num_generations or 1
        prompts = math.ceil(completions / group) + (completions % group > 0)  # a group may be cut in two
        tokens = prompts * self.lengths.prompt + completions * self.lengths.completion
        patches = prompts * self.lengths.images * vision.spatial_merge_size**2
        numbers = 0
        for count, depth, kept, width in (
            (tokens, text.num_hidden_layers, text_numbers(text), text.hidden_size),
            (patches, vision.depth, vision_numbers(vision), vision_width(vision)),
        ):
            layers = depth * width + kept if self.config.gradient_checkpointing else (depth + 1) * kept
            numbers += count * layers
        return numbers * (2 if self.how.autocast else self.how.weights.itemsize)

    def held(self) -> int:
        """Whatever the micro-batches: weights, masters, gradients, moments of AdamW, and the language head's tiles."""
        how, single = self.how, torch.float32.itemsize
        numbers = size(self.network)
        learning = numbers - (size(self.network.model.visual) if self.freeze_vision_tower else 0)
        if self.lora_rank is not None:  # counted as if every linear map had an adapter
            maps = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
            learning = self.lora_rank * sum(one.in_features + one.out_features for one in maps)
        copies = 2 if how.autocast and how.weights == torch.float32 else 0
        own = single if how.masters or self.lora_rank is not None else 0
        buckets = single if self.config.world_size > 1 else 0
        reference = how.weights.itemsize if self.config.beta != 0 and self.lora_rank is None else 0
        tile = TILES * single * HEAD_TILE[0] * HEAD_TILE[1]
        return numbers * (how.weights.itemsize + copies + reference) + learning * (own + 3 * single + buckets) + tile


def size(module: nn.Module) -> int:
    """Numbers of a module's weights."""
    return sum(weight.numel() for weight in module.parameters())


def longest(processor: Any, template: PromptTemplate, samples: Sequence[Sample], config: GRPOConfig) -> Lengths:
    """The longest prompt among some of the samples, and of a completion the limit."""
    assert config.max_completion_length is not None
    some = samples[:: max(1, len(samples) // LOOKED_AT)]
    asked = [request_for(template, one, map(open_image, one.images), key=one.id) for one in some]
    prompts, images = zip(*(prompt_length(processor, request) for request in asked), strict=True)
    return Lengths(max(prompts), max(images), config.max_completion_length)


def free_memory(config: GRPOConfig) -> int | None:
    """Bytes of a GPU that training may take; None on other devices."""
    if config.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(config.device)
    vllm = config.vllm_gpu_memory_utilization if config.use_vllm and config.vllm_mode == "colocate" else 0.0
    return int(free - vllm * total)


def larger(config: GRPOConfig, available: int, needed: Callable[[int], int]) -> GRPOConfig:
    """The settings with the largest micro-batches that fit; the same ones where larger ones do not or are another run.

    Args:
        available: bytes that are free on the device.
        needed: bytes of an update with micro-batches of so many completions.
    """
    assert config.steps_per_generation is not None
    parts = math.gcd(config.gradient_accumulation_steps, config.steps_per_generation)
    sharded = uses_fsdp(config) or config.deepspeed_plugin is not None
    factor = 1
    if learns_in_sums(config) and not sharded and not any(parents_path(config).values()):
        size = config.per_device_train_batch_size
        fits = [n for n in range(2, parts + 1) if parts % n == 0 and needed(n * size) <= USED_SHARE * available]
        factor = max(fits, default=1)
    if dist.is_available() and dist.is_initialized():  # as many everywhere, or processes would wait for each other
        factor = -largest_of_all(-factor, config.device)
    return config if factor == 1 else joined(config, factor)


def joined(config: GRPOConfig, factor: int) -> GRPOConfig:
    """The settings with `factor` micro-batches in one, of the same generation and optimizer step."""
    # Not dataclasses.replace: TRL's derived fields refuse to be given to a second __post_init__.
    changed = copy.copy(config)
    assert config.steps_per_generation is not None
    changed.per_device_train_batch_size = config.per_device_train_batch_size * factor
    changed.gradient_accumulation_steps = config.gradient_accumulation_steps // factor
    changed.steps_per_generation = config.steps_per_generation // factor
    logger.warning(
        "The GPU's memory holds %d completions at once, so a step learns from them in %d calls in place of %d; the "
        "gradient is the same (--join_micro_batches false leaves them as they are asked for).",
        changed.per_device_train_batch_size,
        changed.gradient_accumulation_steps,
        config.gradient_accumulation_steps,
    )
    return changed
