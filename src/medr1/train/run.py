"""Runs GRPO and SFT from parsed arguments: data, checks, trainer, checkpoints, resume.

Everything that can be refused is refused before weights are loaded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, SFTConfig, get_peft_config

from medr1.data.convert import choose
from medr1.errors import ConfigError
from medr1.models.loading import image_backend, load_model, load_processor, model_type, save_checkpoint
from medr1.models.memory import remember
from medr1.models.sharding import is_sharded
from medr1.models.shared.attention import packable_attention
from medr1.models.zoo import locate
from medr1.prompts import PROMPTS, PromptTemplate, target
from medr1.records import data_hash, read_samples
from medr1.rewards import REWARDS, trl_reward
from medr1.runs import Run, stored_manifest
from medr1.settings import known
from medr1.train.adversarial import Adversary, check_adversarial
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments, training_identity
from medr1.train.callbacks import COMPLETIONS, TRAIN_LOG, CompletionLog, Diagnosis, TrainLog
from medr1.train.checkpoints import is_main_process, newest_whole, wait_for_all
from medr1.train.dataset import Augmentation, EpochOfRows, TrainingRows, check_trainable
from medr1.train.grpo import SharedPrefixGRPOTrainer, parents_path
from medr1.train.masters import load_for_training, precision, settle
from medr1.train.micro_batches import Update, free_memory, larger, longest
from medr1.train.preflight import (
    Check,
    check_exploration,
    check_grpo,
    check_model,
    check_reference,
    check_settings,
    skeleton,
    usable,
)
from medr1.train.rehearsal import rehearse
from medr1.train.supervised import SupervisedTrainer
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
    setup = grpo_setup(script, config, model_arguments, samples=samples)
    with setup.opened() as run:
        if not setup.finished(run):
            setup.fit(grpo_trainer(setup, callbacks), run)
    return setup.final


def prepare_grpo(
    script: GRPOArguments,
    config: GRPOConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple["Setup", SharedPrefixGRPOTrainer]:
    """Everything of `train_grpo` up to its first step, with nothing written."""
    setup = grpo_setup(script, config, model_arguments, samples=samples)
    return setup, grpo_trainer(setup, callbacks)


def grpo_setup(
    script: GRPOArguments,
    config: GRPOConfig,
    model_arguments: ModelArguments,
    *,
    samples: Sequence[Sample] | None = None,
) -> "Setup":
    """Checked settings and data of `train_grpo`, before weights are read."""
    check_settings(script, config, model_arguments)
    template = PROMPTS[known("prompt", script.prompt, PROMPTS)]
    for name in script.reward_funcs:
        known("reward", name, REWARDS)
    check_vllm(config)
    check_exploration(config)
    check_reference(config, lora=model_arguments.use_peft)
    check_adversarial(script.adversarial_k, script.adversarial_steps)
    model_arguments.attn_implementation = packable_attention(model_arguments.attn_implementation)
    return Setup("grpo", script, config, model_arguments, template, samples)


def grpo_trainer(setup: "Setup", callbacks: Sequence[TrainerCallback] = ()) -> SharedPrefixGRPOTrainer:
    """The trainer, with the weights of the checkpoint."""
    script = setup.script
    assert isinstance(script, GRPOArguments)
    config = setup.micro_batches() if script.join_micro_batches else setup.config
    model, exact = setup.load()
    trainer = SharedPrefixGRPOTrainer(
        model=model,
        reward_funcs=[trl_reward(name) for name in script.reward_funcs],
        args=config,
        train_dataset=setup.rows.dataset(),
        eval_dataset=setup.evaluation_rows(),
        processing_class=setup.processor,
        peft_config=get_peft_config(setup.model_arguments),
        callbacks=[EpochOfRows(setup.rows), *callbacks],
        adversary=setup.adversary(script),
        sampler_correction=script.sampler_correction,
    )
    trainer.exact = exact
    return trainer


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
    check_settings(script, config, model_arguments)
    template = PROMPTS[known("prompt", script.prompt, PROMPTS)]

    def completion(sample: Sample) -> dict[str, object]:
        text = target(template, sample, sample.rationale)
        return {"completion": [{"role": "assistant", "content": [{"type": "text", "text": text}]}]}

    setup = Setup("sft", script, config, model_arguments, template, samples, extra=completion)
    config.max_length = None  # never cut a prompt or its image tokens
    config.remove_unused_columns = False  # the rows are made when they are asked for; their columns are not in the file
    with setup.opened() as run:
        if not setup.finished(run):
            model, exact = setup.load()
            trainer = SupervisedTrainer(
                model=model,
                args=config,
                train_dataset=setup.rows.dataset(),
                eval_dataset=setup.evaluation_rows(),
                processing_class=setup.processor,
                peft_config=get_peft_config(model_arguments),
                callbacks=[EpochOfRows(setup.rows), *callbacks],
            )
            trainer.exact = exact
            setup.fit(trainer, run)
    return setup.final


class Setup:
    """What both kinds of training do before and after the trainer.

    Args:
        kind: `grpo` or `sft`.
        script, config, model_arguments: the arguments.
        template: the prompt.
        samples: questions in memory; None reads those of `script.train_data`.
        extra: further columns of a training row, from its sample.
    """

    def __init__(
        self,
        kind: str,
        script: DataArguments,
        config: Any,
        model_arguments: ModelArguments,
        template: PromptTemplate,
        samples: Sequence[Sample] | None,
        extra: Any = lambda sample: {},
    ) -> None:
        self.kind, self.script, self.config, self.model_arguments = kind, script, config, model_arguments
        self.template, self.extra = template, extra
        if model_arguments.model_name_or_path is None:
            raise ConfigError("no model: name a checkpoint folder with --model_name_or_path")
        if samples is None and script.train_data is None:
            raise ConfigError("no training data: name a data folder with --train_data")
        self.source = locate(model_arguments.model_name_or_path).resolve()  # adapters name it, from any working folder
        model_type(self.source)
        self.folder = Path(config.output_dir)
        self.final = self.folder / FINAL
        self.processor: Any = load_processor(self.source)
        _set_pixel_bounds(self.processor, script)
        given = samples if samples is not None else list(read_samples(Path(str(script.train_data))))
        chosen = choose(list(given), script.limit, config.seed)
        check_trainable(chosen, script.reward_funcs if isinstance(script, GRPOArguments) else ())
        check = Check(
            processor=self.processor,
            template=template,
            row=extra,
            max_length=script.max_prompt_length,
            literal=kind != "grpo" or not any(parents_path(config).values()),
        )
        found = usable(chosen, check, max_bad_share=script.max_bad_share)
        self.samples, self.bad, self.too_long = found.samples, found.bad, found.too_long
        self.rows = self._rows(self.samples, shuffle_options=script.shuffle_options, augment=script.augment)
        self.evaluation_samples = self._evaluation_samples(replace(check, max_length=None))
        check_model(self.source, model_arguments)
        self.precision = precision(config, model_arguments, self.source)
        settle(config, self.precision)
        if isinstance(config, GRPOConfig):
            check_grpo(config, template, self.processor.tokenizer, len(self.samples))
        rows = self.rows.dataset(), self.evaluation_rows()
        rehearse(script, config, model_arguments, self.source, self.processor, *rows)
        self.facts = {
            "script": asdict(script),
            "trainer": config.to_dict(),
            "model": asdict(model_arguments),
            "precision": self.precision.facts(),
        }

    def micro_batches(self) -> GRPOConfig:
        """The settings with micro-batches as large as the GPU's memory holds."""
        config, arguments, free = self.config, self.model_arguments, free_memory(self.config)
        if free is None:
            return config
        lengths = longest(self.processor, self.template, self.samples, config)
        rank = arguments.lora_r if arguments.use_peft else None
        update = Update(skeleton(self.source), config, self.precision, lengths, rank, self.script.freeze_vision_tower)
        counts = update.counts and arguments.attn_implementation != "eager"
        return larger(config, free if counts else 0, update.bytes)

    def load(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """The model to train, and its float32 weights where it holds rounded ones."""
        set_seed(self.config.seed)
        attention = self.model_arguments.attn_implementation or "sdpa"
        model, exact = load_for_training(self.source, self.precision, attn_implementation=attention)
        if self.script.freeze_vision_tower:
            model.model.visual.requires_grad_(False)
        return model, exact

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

    def _evaluation_samples(self, check: Check) -> list[Sample] | None:
        if self.script.eval_data is None:
            return None
        given = list(read_samples(Path(self.script.eval_data)))
        return usable(given, check, max_bad_share=self.script.max_bad_share, name="evaluation").samples

    def evaluation_rows(self) -> Any:
        """Rows of the evaluation data, options as they are; None where there is none."""
        samples = self.evaluation_samples
        return None if samples is None else self._rows(samples, shuffle_options=False).dataset()

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

    @contextmanager
    def opened(self) -> Iterator[Run | None]:
        """The run's folder, for the main process; None on the others, which write their parts of checkpoints only.

        Raises:
            ConfigError: the folder holds another training, or another process writes it.
        """
        if not is_main_process():
            yield None
            return
        identity = training_identity(
            self.kind,
            self.script,
            self.config,
            self.model_arguments,
            source=self.source,
            template=self.template,
            samples=self.samples,
        )
        with Run(
            self.folder,
            command="train",
            arguments=self.facts,
            identity=identity,
            seed=self.config.seed,
            owns=(TRAIN_LOG, COMPLETIONS, FINAL, "README.md", f"{PREFIX_CHECKPOINT_DIR}-*"),
            overwrite=self.script.overwrite,
        ) as run:
            yield run

    def finished(self, run: Run | None) -> bool:
        """Whether nothing is left to train, on every process."""
        if run is not None:
            return run.done
        stored = stored_manifest(self.folder) if self.folder.is_dir() and not self.script.overwrite else None
        return stored is not None and stored.state == "done"

    def fit(self, trainer: Any, run: Run | None) -> None:
        """Train from the newest whole checkpoint of the folder, if there is one, and publish the result."""
        if run is not None:
            run.start(
                data_hash=data_hash(self.samples),
                num_samples=len(self.samples),
                prompts_too_long=self.too_long,
                bad_records=self.bad,
                image_backend=image_backend(),
            )
        trainer.add_callback(TrainLog(run))
        trainer.add_callback(Diagnosis(self.folder))
        beside: list[Callable[[Path], None]] = [lambda checkpoint: remember(checkpoint, self.template)]
        if isinstance(trainer, SharedPrefixGRPOTrainer):
            completions = CompletionLog(run, lambda: trainer._logs)
            trainer.add_callback(completions)
            beside.append(completions.beside_checkpoint)
        trainer.keep(run, *beside)
        wait_for_all()  # what a killed run left has been swept
        last = newest_whole(self.folder)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        trainer.drop_old_checkpoints()  # a run that was killed while it did so has none to write any more
        model = trainer.accelerator.unwrap_model(trainer.model)
        # Gathered by all processes, and whole on the main one.
        weights: Any = trainer.accelerator.get_state_dict(trainer.model) if is_sharded(model) else None
        if run is not None:
            if isinstance(model, PeftModel):
                model, weights = self._merged(model, weights), None
            with run.staged() as aside:
                save_checkpoint(model, self.processor, aside / FINAL, weights=weights, dtype=self.precision.final)
                remember(aside / FINAL, self.template)
                run.publish(aside / FINAL, FINAL)
            run.reach("done")
        wait_for_all()

    def _merged(self, model: PeftModel, weights: Mapping[str, torch.Tensor] | None) -> Any:
        """The model with its adapter worked in, in float32: narrow weights would round away what the adapter adds.

        A sharded one, whose `weights` were gathered, is merged in a copy on the CPU.
        """
        if weights is not None:
            base = load_model(self.source, dtype=torch.float32)
            model = get_peft_model(base, model.peft_config["default"])  # type: ignore[assignment]
            model.load_state_dict(weights)
        for weight in model.parameters():
            weight.data = weight.data.float()
        return model.merge_and_unload()


def _set_pixel_bounds(processor: Any, script: DataArguments) -> None:
    size = dict(processor.image_processor.size)
    if script.min_pixels is not None:
        size["shortest_edge"] = script.min_pixels
    if script.max_pixels is not None:
        size["longest_edge"] = script.max_pixels
    if size["shortest_edge"] > size["longest_edge"]:
        raise ConfigError(f"min_pixels {size['shortest_edge']} is more than max_pixels {size['longest_edge']}")
    processor.image_processor.size = type(processor.image_processor.size)(**size)
