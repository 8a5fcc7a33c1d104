"""What can be refused before weights are loaded: settings with which a training cannot work."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText
from trl import GRPOConfig, get_peft_config

from medr1.errors import ConfigError
from medr1.models.loading import model_type
from medr1.prompts import PromptTemplate, target
from medr1.train.arguments import ModelArguments
from medr1.types import Sample

MIN_TOP_P = 0.1
"""Below it, nucleus sampling leaves one token wherever the model gives any token a tenth: greedy decoding in effect."""


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


def check_lora(folder: Path, arguments: ModelArguments) -> None:
    """Raise `ConfigError` when a LoRA target is in no module of the checkpoint; the weights are not read."""
    lora = get_peft_config(arguments)
    if lora is None or arguments.lora_target_parameters is not None:
        return
    wanted = arguments.lora_target_modules
    if wanted is None:
        family = model_type(folder)
        if family not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
            raise ConfigError(f"no default LoRA targets for {family}; set lora_target_modules, such as q_proj v_proj")
        return
    if wanted == "all-linear":
        return
    names = [name for name, _ in skeleton(folder).named_modules()]
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
