"""What is refused before weights are loaded: settings with which a training cannot work, records that cannot be used.

A bad record is one whose picture cannot be read or is refused by the checkpoint's processor, or whose text breaks the
chat template or cannot be taught. It is left out and named, alike in every process, up to a share of all records. A
prompt that is too long is left out too, and counted apart.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    is_azureml_available,
    is_flytekit_available,
)
from transformers.training_args import ParallelMode
from transformers.utils import is_liger_kernel_available
from trl import GRPOConfig, ModelConfig, get_peft_config

from medr1.data.images import open_image
from medr1.engines.engine import Request, about_pictures, request_for
from medr1.engines.transformers import chat_text, refusal
from medr1.errors import ConfigError, DataError
from medr1.models.literal import has_control_text, token_ids
from medr1.models.loading import adapter_base, is_adapter
from medr1.models.pixels import image_tokens
from medr1.prompts import PromptTemplate, question_text, target
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.types import Sample

logger = logging.getLogger(__name__)

MIN_TOP_P = 0.1
"""Below it, nucleus sampling leaves one token wherever the model gives any token a tenth: greedy decoding in effect."""


NAMES = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("colocate", "server"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
"""What GRPO's settings of names may be; TRL looks at them in the first step only."""
AT_LEAST_ONE = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "num_iterations",
    "steps_per_generation", "max_completion_length", "limit", "max_prompt_length", "lora_r",
)  # fmt: skip
UNHEEDED = {
    "model_revision": "download that revision and name its folder",
    "load_in_8bit": "weights are not quantised here; leave it out",
    "load_in_4bit": "weights are not quantised here; leave it out",
    "bnb_4bit_quant_type": "weights are not quantised here; leave it out",
    "use_bnb_nested_quant": "weights are not quantised here; leave it out",
    "bnb_4bit_quant_storage": "weights are not quantised here; leave it out",
    "lora_task_type": "a model that answers is trained; leave it out",
}
"""Settings of TRL's `ModelConfig` that mean nothing here, and what to do instead."""
ZERO3 = 3
MAX_SEED = 2**32 - 1
"""Largest that NumPy takes."""


def check_settings(script: DataArguments, config: Any, model: ModelArguments) -> None:
    """Raise `ConfigError` for settings of either training that cannot work, whatever the checkpoint and the data.

    What TRL and transformers refuse when a trainer is made, `medr1.train.rehearsal` finds.
    """
    for arguments in (script, config, model):
        for name in AT_LEAST_ONE:
            value = getattr(arguments, name, None)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; take at least 1")
    if not 0 <= config.seed <= MAX_SEED:
        raise ConfigError(f"seed {config.seed} is no seed; take a number from 0 to {MAX_SEED}")
    for field in fields(ModelConfig):
        if field.name in UNHEEDED and getattr(model, field.name) != field.default:
            raise ConfigError(f"{field.name} {getattr(model, field.name)} has no effect: {UNHEEDED[field.name]}")
    if config.eval_strategy != "no" and script.eval_data is None:
        raise ConfigError(f"eval_strategy {config.eval_strategy.value} has nothing to evaluate on; add --eval_data")
    if config.use_liger_kernel and not is_liger_kernel_available():
        raise ConfigError("use_liger_kernel needs the package liger-kernel; install it, or leave the setting out")
    check_trackers(config.report_to)
    check_processes(config)
    if model.use_peft and config.deepspeed_plugin is not None and config.deepspeed_plugin.zero_stage == ZERO3:
        logger.warning(
            "Under DeepSpeed ZeRO-3 adapters take the type of the base's weights, in which small updates are rounded "
            "away unless DeepSpeed keeps float32 masters; take ZeRO-2, or --dtype float32."
        )
    if isinstance(script, GRPOArguments):
        check_names(config)
        if not script.reward_funcs:
            raise ConfigError("no reward: name at least one with --reward_funcs, such as accuracy format")


def check_names(config: Any) -> None:
    """Raise `ConfigError` for a name that TRL's GRPO does not know, or two that do not go together."""
    for name, known in NAMES.items():
        if getattr(config, name) not in known:
            raise ConfigError(f"{name} {getattr(config, name)!r} is unknown; choose one of {', '.join(known)}")
    per_sequence = config.vllm_importance_sampling_mode.startswith("sequence")
    if config.loss_type == "vespo" and config.use_vllm and config.vllm_importance_sampling_correction and per_sequence:
        raise ConfigError(
            "loss_type vespo with use_vllm needs vllm_importance_sampling_mode token_truncate or token_mask"
        )


def check_trackers(names: Sequence[str]) -> None:
    """Raise `ConfigError` for an experiment tracker that is unknown or not installed; none is started."""
    if not names:
        return
    installed = set(get_available_reporting_integrations())
    # Two that this list leaves out.
    installed |= {"flyte"} if is_flytekit_available() else set()
    installed |= {"azure_ml"} if is_azureml_available() else set()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(["none", *INTEGRATION_TO_CALLBACK])
            raise ConfigError(f"report_to {name!r} is no experiment tracker; choose {known}")
        if name not in installed:
            raise ConfigError(f"report_to {name}: its package is not installed; install it, or take --report_to none")


def check_processes(config: Any) -> None:
    """Raise `ConfigError` where devices and processes do not fit together."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > config.world_size:
        raise ConfigError(
            f"{started} processes were started together, and each would train for itself; on CPUs add --use_cpu true "
            "--ddp_backend gloo, or start one"
        )
    if config.n_gpu > 1:
        raise ConfigError(
            f"one process sees {config.n_gpu} GPUs, and one model is trained on one; start with `torchrun "
            f"--nproc_per_node {config.n_gpu} -m medr1 train …`, or show it one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    if config.fsdp and config.parallel_mode != ParallelMode.DISTRIBUTED:
        raise ConfigError(
            "fsdp spreads weights over processes; start with `torchrun --nproc_per_node 2 -m medr1 train …`"
        )


def check_grpo(config: GRPOConfig, template: PromptTemplate, tokenizer: Any, num_questions: int) -> None:
    """Raise `ConfigError` for settings of GRPO that cannot train.

    Args:
        config: TRL's, whose own checks (whole groups in a generation batch, two completions a group) have passed.
        template: prompt, which names the answer format that completions must have room for.
        tokenizer: of the checkpoint.
        num_questions: those that are left to train on.
    """
    assert config.generation_batch_size is not None and config.num_generations is not None
    together = config.generation_batch_size // config.num_generations
    if num_questions < together:
        raise ConfigError(
            f"{num_questions} questions do not fill one generation batch of {together} prompts; lower "
            "per_device_train_batch_size or gradient_accumulation_steps, or raise num_generations"
        )
    needed = shortest_answer(template, tokenizer)
    if config.max_completion_length is not None and config.max_completion_length < needed:
        raise ConfigError(
            f"max_completion_length {config.max_completion_length} has no room for the answer format of prompt "
            f"{template.name!r}, whose shortest answer has {needed} tokens; raise it"
        )


def check_exploration(config: GRPOConfig) -> None:
    """Raise `ConfigError` when the completions of a group would be equal, after `generation_kwargs` has its say."""
    names = ("temperature", "top_k", "top_p", "min_p")
    extra: Any = config.generation_kwargs or {}
    sampling = {name: getattr(config, name) for name in names} | extra
    greedy = {
        "temperature": sampling["temperature"] <= 0,
        "top_k": sampling["top_k"] == 1,
        "top_p": sampling["top_p"] < MIN_TOP_P,
        "min_p": sampling["min_p"] is not None and sampling["min_p"] >= 1,
        "do_sample": not sampling.get("do_sample", True),
    }
    for name, cannot_explore in greedy.items():
        if cannot_explore:
            raise ConfigError(
                f"{name} {sampling[name]} draws the same completion every time, so no group has an advantage; "
                "take temperature 1, top_k 0, top_p 1 and min_p 0"
            )


def check_reference(config: GRPOConfig, *, lora: bool) -> None:
    """Raise `ConfigError` when `beta` and the reference model do not fit together."""
    if config.beta < 0:
        raise ConfigError(f"beta {config.beta} would push the policy away from the reference model; take 0 or more")
    if config.sync_ref_model and config.beta == 0:
        raise ConfigError("sync_ref_model needs a reference model, which beta 0 does without; set beta or drop it")
    if config.sync_ref_model and lora:
        raise ConfigError("sync_ref_model does not work with LoRA, whose reference is the base model; drop one of them")


def shortest_answer(template: PromptTemplate, tokenizer: Any) -> int:
    """Tokens of the shortest completion that the prompt's answer format accepts, its end token included."""
    sample = Sample(id="", images=(), question="", options=("", ""), answer_index=0)
    return len(tokenizer(target(template, sample, "."))["input_ids"]) + 1


def check_model(folder: Path, arguments: ModelArguments) -> None:
    """Raise `ConfigError` where a folder cannot be trained from as the arguments ask; the weights are not read."""
    if is_adapter(folder):
        raise ConfigError(
            f"{folder} is an adapter; train from its base {adapter_base(folder)}, or from the merged folder `final` of "
            "the run that made it"
        )
    check_lora(folder, arguments)


def check_lora(folder: Path, arguments: ModelArguments) -> None:
    """Raise `ConfigError` when a LoRA target is in no module of the checkpoint; the weights are not read."""
    lora = get_peft_config(arguments)
    if lora is None:
        return
    names = [name for name, _ in skeleton(folder).named_modules()]
    for one in arguments.lora_modules_to_save or ():
        if not any(f".{name}".endswith(f".{one}") for name in names):
            raise ConfigError(
                f"lora_modules_to_save: {one!r} is no module of the checkpoint; Qwen-VL has merger, norm, …"
            )
    wanted = arguments.lora_target_modules
    if wanted is None or wanted == "all-linear":
        return
    for one in [wanted] if isinstance(wanted, str) else wanted:
        if not any(_matches(lora, one, name) for name in names):
            raise ConfigError(f"LoRA target {one!r} is no module of the checkpoint; Qwen-VL has q_proj, v_proj, qkv, …")


def _matches(lora: PeftConfig, one: str, name: str) -> bool:
    lora.target_modules = one if isinstance(lora.target_modules, str) else {one}  # type: ignore[attr-defined]
    return bool(check_target_module_exists(lora, name))


def skeleton(folder: Path) -> nn.Module:
    """The network of a checkpoint without its weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))


NAMED = 3
"""Bad records that a message names."""
THREADS = 8
"""Pictures that a process decodes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a record must pass.

    Args:
        processor: of the checkpoint, with the bounds of the run.
        template: how it is asked.
        row: the further columns of a training row; raises `DataError` for a record that cannot be taught.
        max_length: longest prompt, image tokens included; None: no bound.
        literal: whether the training encodes text as text; TRL's own path does not, and control text is refused there.
    """

    processor: Any
    template: PromptTemplate
    row: Callable[[Sample], Mapping[str, object]] = lambda sample: {}
    max_length: int | None = None
    literal: bool = True

    def __call__(self, sample: Sample) -> str | bool:
        """What is wrong with a record, else whether its prompt is short enough."""
        try:
            request = request_for(self.template, sample, [open_image(ref) for ref in sample.images], key=sample.id)
            self.row(sample)
        except DataError as error:
            return about_pictures(sample, str(error))
        refused = refusal(self.processor, request)
        if refused is not None:
            return about_pictures(sample, refused.text) if refused.failure == "picture" else refused.text
        if not self.literal and has_control_text(self.processor.tokenizer, question_text(sample, "lines")):
            return "its text holds a control token, which TRL's own path would take for one"
        if self.max_length is None:
            return True
        return prompt_length(self.processor, request)[0] <= self.max_length


def prompt_length(processor: Any, request: Request) -> tuple[int, int]:
    """Tokens of a prompt, and how many of them are its pictures'."""
    ids = token_ids(processor.tokenizer, chat_text(processor, request))
    sizes = [image_tokens(image.width, image.height, processor.image_processor) for image in request.images]
    return len(ids) + sum(size - 1 for size in sizes), sum(sizes)


@dataclass(frozen=True, slots=True)
class Usable:
    """What a run trains on, and what it leaves out."""

    samples: list[Sample]
    bad: dict[str, str]
    """Why, by id."""
    too_long: int


def usable(samples: Sequence[Sample], check: Check, *, max_bad_share: float, name: str = "training") -> Usable:
    """The records that pass, found by all processes together, so that all of them leave out the same.

    Raises:
        ConfigError: a larger share is bad, or every prompt is too long.
    """
    found = _checked(samples, check)
    bad = {sample.id: why for sample, why in zip(samples, found, strict=True) if isinstance(why, str)}
    kept = [sample for sample, fits in zip(samples, found, strict=True) if fits is True]
    if bad:
        _tell(bad, len(samples), max_bad_share, name)
    if not kept:
        raise ConfigError(
            f"all {len(samples)} prompts are longer than max_prompt_length {check.max_length}; raise it or lower "
            "max_pixels"
        )
    return Usable(kept, bad, len(samples) - len(kept) - len(bad))


def _checked(samples: Sequence[Sample], check: Check) -> list[str | bool]:
    """Findings of all samples; every process looks at its share."""
    processes = PartialState()
    own = range(processes.process_index, len(samples), processes.num_processes)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        shares: Any = [dict(zip(own, threads.map(check, (samples[i] for i in own)), strict=True))]
    found = {index: why for share in gather_object(shares) for index, why in share.items()}
    return [found[index] for index in range(len(samples))]


def _tell(bad: Mapping[str, str], count: int, max_bad_share: float, name: str) -> None:
    """Name the first bad records in a warning; raise `ConfigError` where there are too many."""
    first = "; ".join(f"{key}: {why}" for key, why in list(bad.items())[:NAMED])
    told = f"{len(bad)} of {count} {name} records ({len(bad) / count:.1%}) cannot be used (first: {first})"
    if len(bad) > max_bad_share * count:
        raise ConfigError(f"{told}; mend or remove them, or raise max_bad_share {max_bad_share:g}")
    if PartialState().is_main_process:
        logger.warning("%s; they are left out.", told)
