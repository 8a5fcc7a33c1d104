"""Runs GRPO and SFT from parsed arguments: data, checks, trainer, checkpoints, resume.

Everything that can be refused is refused before weights are loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, Trainer, TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, SFTConfig, SFTTrainer, get_peft_config

from medr1.data.convert import choose
from medr1.data.images import open_image
from medr1.errors import ConfigError
from medr1.models.loading import image_backend, load_model, load_processor, locate, model_type, save_checkpoint
from medr1.models.sharding import is_sharded
from medr1.prompts import PROMPTS, PromptTemplate, messages, target
from medr1.records import data_hash, manifest, read_samples, write_json
from medr1.rewards import REWARDS, trl_reward
from medr1.train.adversarial import Adversary, check_adversarial
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.augment import Augmentation
from medr1.train.callbacks import CompletionLog, TrainLog
from medr1.train.dataset import EpochOfRows, TrainingRows, check_trainable
from medr1.train.diagnose import Diagnosis
from medr1.train.grpo import SharedPrefixGRPOTrainer, packable_attention
from medr1.train.preflight import check_exploration, check_grpo, check_lora, check_reference
from medr1.train.resume import RestoresWeights
from medr1.train.vllm import check_vllm
from medr1.types import Sample

FINAL = "final"
"""Folder of the finished checkpoint inside the output folder."""


def train_grpo(
    script: GRPOArguments,
    config: GRPOConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Reinforcement learning with verifiable rewards; returns the folder of the final checkpoint.

    Args:
        script: data and rewards.
        config: TRL's; every flag keeps its meaning.
        model_arguments: checkpoint and LoRA.
        samples: questions already in memory, in place of `script.train_data`.

    Raises:
        ConfigError: unknown prompt or reward, nothing to train on, or settings that do not fit together.
        EngineError: vLLM is to generate and is not installed.
        ModelError: the checkpoint cannot be read.
    """
    run, trainer = prepare_grpo(script, config, model_arguments, samples=samples, callbacks=callbacks)
    return run.fit(trainer)


def prepare_grpo(
    script: GRPOArguments,
    config: GRPOConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple["_Run", SharedPrefixGRPOTrainer]:
    """Everything of `train_grpo` up to its first step."""
    template = _named(PROMPTS, script.prompt, "prompt")
    for name in script.reward_funcs:
        _named(REWARDS, name, "reward")
    check_vllm(config)
    check_exploration(config)
    check_reference(config, lora=model_arguments.use_peft)
    check_adversarial(script.adversarial_k, script.adversarial_steps)
    model_arguments.attn_implementation = packable_attention(model_arguments.attn_implementation)
    run = _Run(script, config, model_arguments, template, samples)
    trainer = SharedPrefixGRPOTrainer(
        model=run.model,
        reward_funcs=[trl_reward(name) for name in script.reward_funcs],
        args=config,
        train_dataset=run.rows.dataset(),
        eval_dataset=run.evaluation_rows(),
        processing_class=run.processor,
        peft_config=get_peft_config(model_arguments),
        callbacks=[*run.callbacks(), *callbacks],
        adversary=run.adversary(script),
    )
    trainer.add_callback(CompletionLog(run.folder, lambda: trainer._logs))
    return run, trainer


def train_sft(
    script: DataArguments,
    config: SFTConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Supervised fine-tuning on exactly the completions that evaluation asks for; arguments as `train_grpo`.

    The loss is on the completion alone: no prompt token is trained.
    """
    template = _named(PROMPTS, script.prompt, "prompt")

    def completion(sample: Sample) -> dict[str, Any]:
        text = target(template, sample, sample.rationale)
        return {"completion": [{"role": "assistant", "content": [{"type": "text", "text": text}]}]}

    run = _Run(script, config, model_arguments, template, samples, extra=completion)
    config.max_length = None  # never cut a prompt or its image tokens
    config.remove_unused_columns = False  # the rows are made when they are asked for; their columns are not in the file
    trainer = SupervisedTrainer(
        model=run.model,
        args=config,
        train_dataset=run.rows.dataset(),
        eval_dataset=run.evaluation_rows(),
        processing_class=run.processor,
        peft_config=get_peft_config(model_arguments),
        callbacks=[*run.callbacks(), *callbacks],
    )
    return run.fit(trainer)


class SupervisedTrainer(RestoresWeights, SFTTrainer):
    """TRL's trainer, resuming from the weights of its checkpoint."""


class _Run:
    """What both kinds of training do before and after the trainer."""

    def __init__(
        self,
        script: DataArguments,
        config: Any,
        model_arguments: ModelArguments,
        template: PromptTemplate,
        samples: Sequence[Sample] | None,
        extra: Any = lambda sample: {},
    ) -> None:
        self.script, self.config, self.template, self.extra = script, config, template, extra
        if model_arguments.model_name_or_path is None:
            raise ConfigError("no model: name a checkpoint folder with --model_name_or_path")
        if samples is None and script.train_data is None:
            raise ConfigError("no training data: name a data folder with --train_data")
        self.source = locate(model_arguments.model_name_or_path)
        model_type(self.source)
        self.folder = Path(config.output_dir)
        self.processor: Any = load_processor(self.source)
        _set_pixel_bounds(self.processor, script)
        given = samples if samples is not None else list(read_samples(Path(str(script.train_data))))
        chosen = choose(list(given), script.limit, config.seed)
        check_trainable(chosen, script.reward_funcs if isinstance(script, GRPOArguments) else ())
        self.samples, self.too_long = self._short_enough(chosen)
        self.rows = self._rows(self.samples, shuffle_options=script.shuffle_options, augment=script.augment)
        check_lora(self.source, model_arguments)
        if isinstance(config, GRPOConfig):
            check_grpo(config, template, self.processor.tokenizer, len(self.samples))
        set_seed(config.seed)
        dtype = model_arguments.dtype or "auto"
        self.model: PreTrainedModel = load_model(
            self.source, dtype=dtype, attn_implementation=model_arguments.attn_implementation or "sdpa"
        )
        if script.freeze_vision_tower:
            self.model.model.visual.requires_grad_(False)
        self.facts = {
            "script": asdict(script),
            "trainer": config.to_dict(),
            "model": asdict(model_arguments),
        }

    def _rows(
        self, samples: Sequence[Sample], *, shuffle_options: bool, augment: Augmentation = "none"
    ) -> TrainingRows:
        return TrainingRows(
            samples,
            self.template,
            seed=self.config.seed,
            shuffle_options=shuffle_options,
            images=self.script.train_images,
            augment=augment,
            extra=self.extra,
        )

    def _short_enough(self, samples: Sequence[Sample]) -> tuple[list[Sample], int]:
        """Samples whose prompt fits; the others are counted, never cut."""
        limit = self.script.max_prompt_length
        if limit is None:
            return list(samples), 0
        kept = [sample for sample in samples if self._prompt_length(sample) <= limit]
        if not kept:
            raise ConfigError(
                f"all {len(samples)} prompts are longer than max_prompt_length {limit}; raise it or lower max_pixels"
            )
        return kept, len(samples) - len(kept)

    def _prompt_length(self, sample: Sample) -> int:
        text = self.processor.apply_chat_template(
            messages(self.template, sample), tokenize=False, add_generation_prompt=True
        )
        images = [open_image(ref) for ref in sample.images]
        return len(self.processor(text=[text], images=images or None)["input_ids"][0])

    def evaluation_rows(self) -> Any:
        """Rows of the evaluation data, options as they are; None where there is none."""
        if self.script.eval_data is None:
            return None
        return self._rows(list(read_samples(Path(self.script.eval_data))), shuffle_options=False).dataset()

    def adversary(self, script: GRPOArguments) -> Adversary | None:
        """What moves the training images, where adversarial training is asked for."""
        if not script.adversarial_k:
            return None
        return Adversary(
            processor=self.processor,
            answer_format=self.template.answer_format,
            k=script.adversarial_k,
            steps=script.adversarial_steps,
            seed=self.config.seed,
        )

    def callbacks(self) -> list[TrainerCallback]:
        """Log, its diagnosis, and epoch of the rows."""
        return [TrainLog(self.folder), Diagnosis(self.folder), EpochOfRows(self.rows)]

    def fit(self, trainer: Trainer) -> Path:
        """Train from the last checkpoint of the output folder, if there is one, and save the result."""
        last = get_last_checkpoint(self.folder) if self.folder.is_dir() else None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(
            self.folder / "manifest.json",
            manifest(self.facts, self.config.seed)
            | {
                "data_hash": data_hash(self.samples),
                "num_samples": len(self.samples),
                "prompts_too_long": self.too_long,
                "image_backend": image_backend(),
            },
        )
        trainer.train(resume_from_checkpoint=last)
        final = self.folder / FINAL
        model = trainer.accelerator.unwrap_model(trainer.model)
        # Gathered by all processes, and whole on the main one.
        weights: Any = trainer.accelerator.get_state_dict(trainer.model) if is_sharded(model) else None
        if trainer.accelerator.is_main_process:
            if isinstance(model, PeftModel):
                model, weights = self._merged(model, weights), None
            save_checkpoint(model, self.processor, final, weights=weights)
        trainer.accelerator.wait_for_everyone()
        return final

    def _merged(self, model: PeftModel, weights: Mapping[str, Any] | None) -> Any:
        """The model with its adapter worked in; a sharded one, whose `weights` were gathered, in a copy on the CPU."""
        if weights is not None:
            dtype = next(tensor.dtype for name, tensor in weights.items() if "lora_" not in name)
            model = get_peft_model(load_model(self.source, dtype=dtype), model.peft_config["default"])  # type: ignore[assignment]
            model.load_state_dict(weights)
        return model.merge_and_unload()


def _named(registry: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in registry:
        raise ConfigError(f"there is no {what} {name!r}; choose one of {', '.join(registry)}")
    return registry[name]


def _set_pixel_bounds(processor: Any, script: DataArguments) -> None:
    size = dict(processor.image_processor.size)
    if script.min_pixels is not None:
        size["shortest_edge"] = script.min_pixels
    if script.max_pixels is not None:
        size["longest_edge"] = script.max_pixels
    if size["shortest_edge"] > size["longest_edge"]:
        raise ConfigError(f"min_pixels {size['shortest_edge']} is more than max_pixels {size['longest_edge']}")
    processor.image_processor.size = type(processor.image_processor.size)(**size)
