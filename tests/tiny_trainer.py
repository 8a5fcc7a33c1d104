"""A trainer on a tiny model, one generation batch at a time."""

from pathlib import Path
from typing import Any

from peft import LoraConfig
from trl import GRPOConfig

from medr1.models.loading import load_processor
from medr1.prompts import PROMPTS
from medr1.train.arguments import ModelArguments
from medr1.train.dataset import TrainingRows
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.train.masters import load_for_training, precision, settle
from medr1.types import Sample

GENERATIONS = 4


def rewards_by_place(completions: list[Any], **_: Any) -> list[float]:
    """Rewards under which every completion of every group has an advantage, whatever it says."""
    return [float(place * place % 7) for place in range(len(completions))]


def make_trainer(
    folder: Path,
    samples: list[Sample],
    output: Path,
    *,
    device: str = "cpu",
    dtype: str | None = "float32",
    lora: bool = False,
    attn_implementation: str = "sdpa",
    **changes: Any,
) -> SharedPrefixGRPOTrainer:
    """A trainer without dropout, in float32 unless told otherwise.

    Args:
        dtype: of the weights; None leaves it to the run.
        changes: settings of GRPOConfig.
    """
    settings = dict(
        output_dir=str(output),
        per_device_train_batch_size=8,
        num_generations=GENERATIONS,
        max_completion_length=12,
        max_steps=1,
        use_cpu=device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=3,
    )
    config = GRPOConfig(**(settings | changes))
    how = precision(config, ModelArguments(dtype=dtype, use_peft=lora), folder)
    settle(config, how)
    model, exact = load_for_training(folder, how, attn_implementation=attn_implementation)
    trainer = SharedPrefixGRPOTrainer(
        model=model,
        reward_funcs=rewards_by_place,
        args=config,
        train_dataset=TrainingRows(samples, PROMPTS["bare"], seed=0).dataset(),
        processing_class=load_processor(folder),
        peft_config=LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]) if lora else None,
    )
    trainer.exact = exact
    return trainer


def ready(trainer: SharedPrefixGRPOTrainer) -> SharedPrefixGRPOTrainer:
    """The trainer as `train` would leave it before its first batch."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.model.train()
    return trainer


def generation_batch(trainer: SharedPrefixGRPOTrainer) -> list[dict[str, Any]]:
    """Rows of the first generation batch."""
    return next(iter(ready(trainer).get_train_dataloader()))
