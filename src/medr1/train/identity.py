"""What decides the weights that a training ends with: settings that matter, data, base weights and rewards."""

from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from medr1.models.loading import checkpoint_identity
from medr1.prompts import PromptTemplate
from medr1.records import content_hashes, short_hash
from medr1.train.arguments import DataArguments, ModelArguments
from medr1.types import Sample

NEUTRAL = {
    "output_dir", "run_name", "project", "disable_tqdm", "report_to", "trackio_space_id", "log_unique_prompts",
    "log_level", "log_level_replica", "log_on_each_node", "log_multimodal", "log_completions",
    "log_completions_hub_repo", "num_completions_to_print", "print_completions", "torch_empty_cache_steps",
    "save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "save_only_model", "enable_jit_checkpoint",
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps", "do_eval", "do_train",
    "do_predict", "per_device_eval_batch_size", "num_generations_eval", "prediction_loss_only",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers",
    "resume_from_checkpoint", "ignore_data_skip", "ddp_backend", "ddp_timeout", "local_rank", "skip_memory_metrics",
    "vllm_server_host", "vllm_server_port", "vllm_server_base_url", "vllm_server_timeout", "vllm_group_port",
    "vllm_gpu_memory_utilization", "debug", "parallelism_config", "accelerator_config",
}  # fmt: skip
"""Settings that say where a run goes, what it tells and how fast it is, not what it learns."""
NEUTRAL_STARTS = ("logging_", "push_to_hub", "hub_", "include_")
DATA = ("train_data", "eval_data", "limit", "max_bad_share", "plan", "overwrite")
"""Arguments that the contents of the questions stand for, or that say what to do with the folder."""


def training_identity(
    kind: str,
    script: DataArguments,
    config: Any,
    model: ModelArguments,
    *,
    source: Path,
    template: PromptTemplate,
    samples: Sequence[Sample],
) -> dict[str, Any]:
    """By name, everything that decides the result of a training but its seed.

    Args:
        kind: `grpo` or `sft`.
        script, config, model: its arguments.
        source: folder of the checkpoint that it starts from.
        template: the prompt.
        samples: what is trained on.
    """
    return {
        "kind": kind,
        **checkpoint_identity(source),
        **content_hashes(samples),
        "prompt_text": short_hash(asdict(template)),
        **{name: value for name, value in asdict(script).items() if name not in DATA},
        **_chosen(config),
        **{name: value for name, value in asdict(model).items() if name != "model_name_or_path"},
        "processes": config.world_size,
    }


def _chosen(config: Any) -> dict[str, Any]:
    """The settings of a trainer that are not its defaults and matter, under TRL's names.

    Defaults are left out, since other versions of TRL have more of them.
    """
    values = config.to_dict()
    chosen = {}
    for field in fields(config):
        neutral = field.name in NEUTRAL or field.name.startswith(NEUTRAL_STARTS) or field.name == "seed"
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if not neutral and field.name in values and getattr(config, field.name) != default:
            chosen[field.name] = values[field.name]
    return chosen
