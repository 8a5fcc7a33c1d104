"""What `medr1 train` takes beyond TRL's own arguments, how it is read, and what of it decides the weights.

Field names are flags and recipe keys alike.
"""

import re
import warnings
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import ModelConfig, TrlParser

from medr1.errors import ConfigError, MedR1Error
from medr1.models.loading import checkpoint_identity
from medr1.prompts import PromptTemplate
from medr1.records import content_hashes, short_hash
from medr1.settings import recipe_path
from medr1.types import Sample


@dataclass
class DataArguments:
    """Which questions are trained on, and how they are asked."""

    train_data: str | None = field(
        default=None, metadata={"help": "Data folder made by `medr1 data convert` or `medr1 data phantom`."}
    )
    eval_data: str | None = field(
        default=None, metadata={"help": "Data folder for evaluation while training (with --eval_strategy)."}
    )
    prompt: str = field(default="think", metadata={"help": "Prompt template; it names its answer format."})
    limit: int | None = field(
        default=None, metadata={"help": "Train on this many questions, drawn at random under --seed."}
    )
    max_prompt_length: int | None = field(
        default=None,
        metadata={"help": "Questions whose prompt with image tokens is longer are left out, with a count; never cut."},
    )
    max_bad_share: float = field(
        default=0.01,
        metadata={
            "help": "Records that cannot be trained on (a picture that cannot be read or that the processor refuses, a "
            "text that breaks the template) are left out and named; where they are a larger share, nothing is trained."
        },
    )
    shuffle_options: bool = field(default=True, metadata={"help": "Draw the order of the options anew per epoch."})
    train_images: Literal["real", "blank", "shuffled"] = field(
        default="real",
        metadata={"help": "blank: the trained blind twin; shuffled: every question with another one's image."},
    )
    augment: Literal["none", "noise", "corruption"] = field(
        default="none",
        metadata={
            "help": "Robust training: noise, or corruptions proper to the modality, on half of the training images, "
            "drawn anew per epoch."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Start anew where the output folder holds another training, which is removed."}
    )
    freeze_vision_tower: bool = field(default=False, metadata={"help": "Leave the vision tower as it is."})
    min_pixels: int | None = field(default=None, metadata={"help": "Smallest image area of the processor."})
    max_pixels: int | None = field(default=None, metadata={"help": "Largest image area of the processor."})


@dataclass
class GRPOArguments(DataArguments):
    """Beside the data: what is rewarded."""

    reward_funcs: list[str] = field(
        default_factory=lambda: ["accuracy", "format"], metadata={"help": "Rewards by name, see `medr1 rewards list`."}
    )
    adversarial_k: int = field(
        default=0,
        metadata={
            "help": "Adversarial training: move the images of half of the groups by up to this many grey levels "
            "against the current policy before they are sampled; 0: off."
        },
    )
    sampler_correction: bool = field(
        default=False,
        metadata={
            "help": "Correct for a sampler that differs from the trainer, as TRL does for vLLM: tokens are weighed by "
            "--vllm_importance_sampling_mode and its clips. Costs one more scoring pass a batch."
        },
    )
    join_micro_batches: bool = field(
        default=True,
        metadata={
            "help": "On a GPU: learn from as many completions at once as its memory holds, where that leaves the "
            "gradient of a step as it is; false: from per_device_train_batch_size."
        },
    )
    adversarial_steps: int = field(default=1, metadata={"help": "Steps of that attack: 1 is FGSM, more is PGD."})
    plan: bool = field(
        default=False, metadata={"help": "Print memory, tokens, steps and time from two dry steps, and train nothing."}
    )


LANGUAGE_PROJECTIONS = r".*\blanguage_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Attention and feed-forward projections of the language model in every family, as peft matches a pattern: whole names.

peft has defaults for none of the families, and in Qwen2.5-VL the vision tower has projections of the same names.
"""
MODULE_NAME = re.compile(r"[\w.]+")
"""A name, or the end of one; anything else is a regular expression or `all-linear`."""


@dataclass
class ModelArguments(ModelConfig):
    """TRL's model arguments; LoRA without dropout, which would make sampling and scoring differ."""

    dtype: str | None = field(
        default="auto",
        metadata={
            "help": "Type of the weights: float32, bfloat16, or auto, which is bfloat16 with --bf16 (trained through "
            "float32 masters) and float32 without."
        },
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of modules, one regular expression of whole names, or all-linear; the attention and "
            "feed-forward projections of the language model where nothing is said."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        targets: Any = self.lora_target_modules
        if isinstance(targets, str) and MODULE_NAME.fullmatch(targets):
            targets = [targets]  # TRL unwraps a list of one, and peft takes a text for a regular expression
        elif targets is None and self.use_peft and self.lora_target_parameters is None:
            targets = LANGUAGE_PROJECTIONS
        self.lora_target_modules = targets  # type: ignore[assignment]


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
DATA = ("train_data", "eval_data", "limit", "max_bad_share", "plan", "overwrite", "join_micro_batches")
"""Arguments that the contents of the questions stand for, or that do not change what is learned."""


def training_identity(
    kind: str,
    script: DataArguments,
    config: Any,
    model: ModelArguments,
    *,
    source: Path,
    template: PromptTemplate,
    samples: Sequence[Sample],
) -> dict[str, object]:
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


def _chosen(config: Any) -> dict[str, object]:
    """The settings of a trainer that are not its defaults and matter, under TRL's names.

    Defaults are left out, since other versions of TRL have more of them.
    """
    values = config.to_dict()
    chosen = {}
    for one in fields(config):
        neutral = one.name in NEUTRAL or one.name.startswith(NEUTRAL_STARTS) or one.name == "seed"
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if not neutral and one.name in values and getattr(config, one.name) != default:
            chosen[one.name] = values[one.name]
    return chosen


FOREIGN_ERRORS = (
    ValueError,
    TypeError,
    ImportError,
    OSError,
    RuntimeError,
    AssertionError,
    AttributeError,
    LookupError,
)
"""What other libraries raise for settings that they do not take, or take for something else."""
FILES = ("accelerator_config", "deepspeed", "fsdp_config")
"""Settings that are the path of a JSON file, or the JSON itself."""
READ_AS: dict[str, object] = {
    "scale_rewards": str | bool,
    "fsdp": str | bool | list[str] | None,
    "num_generations": int,
}
"""Types of settings that TRL and transformers declare otherwise than they read them."""


def parse(kind: str, classes: Sequence[type], arguments: Sequence[str]) -> tuple[Any, ...]:
    """Dataclasses of a training command from its arguments; flags beat the recipe.

    Raises:
        ConfigError: a recipe that is not there or not YAML, an unknown key, or a value that a class refuses.
    """
    words = list(arguments)
    if "--config" in words:
        named = words.index("--config") + 1
        if named == len(words):
            raise ConfigError(f"--config names no recipe; give a path or one of the {kind} recipes")
        words[named] = str(recipe_path(kind, words[named]))
    if "--bf16" not in words and not torch.cuda.is_available():
        words += ["--bf16", "false"]  # TRL's default is bfloat16, which it refuses without a GPU
    try:
        with warnings.catch_warnings():
            # TRL sets a default under the old name, so everybody would be warned.
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
            return Parser(classes).parse_args_and_config(args=words, fail_with_unknown_args=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe is no valid YAML: {str(error).splitlines()[0]}") from error
    except MedR1Error:
        raise
    except FOREIGN_ERRORS as error:
        unset_hf_deepspeed_config()  # every model that this process makes later would ask a half-made one
        if isinstance(error, ImportError) and error.args:
            missing = str(error.args[0]).strip(" .")  # what it says in whole is for programmers
            raise ConfigError(f"{kind}: {missing}; install it, or leave out the setting that needs it") from error
        raise ConfigError(f"{kind}: {str(error).strip() or repr(error)}") from error


class Parser(TrlParser):
    """TRL's, which looks at the values of a recipe before the argument classes do.

    Args:
        classes: the dataclasses to parse.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        super().__init__(list(classes))  # type: ignore[arg-type]
        self.fields: dict[str, Field[Any]] = {}
        self.types: dict[str, Any] = {}
        self.objects: set[str] = set()
        for one in self.dataclass_types:
            self.fields |= {field.name: field for field in fields(one)}
            self.types |= get_type_hints(one)
            self.objects |= set(getattr(one, "_VALID_DICT_FIELDS", ()))
        self.types |= {name: READ_AS[name] for name in READ_AS.keys() & self.types.keys()}

    def error(self, message: str) -> NoReturn:
        """Wrong usage in one line, without the list of all flags."""
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")

    def set_defaults_with_config(self, **recipe: Any) -> list[str]:
        """Take a recipe's values as the defaults of flags. Raises `ConfigError` for one of a wrong type."""
        return super().set_defaults_with_config(**{name: self._checked(name, recipe[name]) for name in recipe})

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """The parent's. Raises `ConfigError` for a text where a JSON object is needed, or a file that is not there."""
        found: Namespace
        found, rest = super().parse_known_args(*args, **kwargs)
        if getattr(found, "num_generations", None) == 0:  # TRL divides by it
            raise ConfigError("num_generations 0 makes no group; take at least 2")
        for name in self.objects:
            value = getattr(found, name, None)
            if not isinstance(value, str) or value.startswith("{"):
                continue
            if name not in FILES:
                raise ConfigError(f"{name} {value!r} is no JSON object; write it as in '{{\"key\": 1}}'")
            if value.endswith(".json") and not Path(value).is_file():
                raise ConfigError(f"{name}: there is no file {value}; give the path of a JSON file")
        return found, rest

    def _checked(self, name: str, value: Any) -> Any:
        """A recipe's value as its field is declared; unknown names are left for TRL to report."""
        if name not in self.types:
            return value
        declared = self.types[name]
        kinds = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
        if isinstance(value, int | float) and not isinstance(value, bool) and declared in (str, str | None):
            value = str(value)  # as the same word on the command line
        takes_list = any(get_origin(kind) is list for kind in kinds) and str not in kinds
        if takes_list and value is not None and not isinstance(value, list):
            value = [value]
        try:
            value = TypeAdapter(declared).validate_python(value)
        except ValidationError as error:
            reasons = dict.fromkeys(one["msg"][0].lower() + one["msg"][1:] for one in error.errors())
            raise ConfigError(f"the recipe's {name} {value!r} does not fit: {', or '.join(reasons)}") from error
        choices = self.fields[name].metadata.get("choices")
        if choices is not None and value is not None and value not in choices:
            raise ConfigError(f"the recipe's {name} {value!r} is unknown; choose one of {', '.join(choices)}")
        return value
