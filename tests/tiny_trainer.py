"""A trainer on a tiny model, one generation batch at a time."""

from pathlib import Path
from typing import Any

from peft import LoraConfig
from trl import GRPOConfig

from medr1.models.loading import load_model, load_processor
from medr1.prompts import PROMPTS
from medr1.train.dataset import TrainingRows
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.types import Sample

GENERATIONS = 4


def rewards_by_place(completions: list[Any], **_: Any) -> list[float]:
    """Rewards under which every completion of every group has an advantage, whatever it says."""
    return [float(place * place % 7) for place in range(len(completions))]


def make_trainer(folder: Path, samples: list[Sample], output: Path, **changes: Any) -> SharedPrefixGRPOTrainer:
    """A trainer in float32 without dropout; `changes` are settings of GRPOConfig, `lora` and `attn_implementation`."""
    lora = (
        LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]) if changes.pop("lora", False) else None
    )
    attention = changes.pop("attn_implementation", "sdpa")
    settings = dict(
        output_dir=str(output),
        per_device_train_batch_size=8,
        num_generations=GENERATIONS,
        max_completion_length=12,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=3,
    )
    rows = TrainingRows(samples, PROMPTS["bare"], seed=0)
    return SharedPrefixGRPOTrainer(
        model=load_model(folder, dtype="float32", attn_implementation=attention),
        reward_funcs=rewards_by_place,
        args=GRPOConfig(**(settings | changes)),
        train_dataset=rows.dataset(),
        processing_class=load_processor(folder),
        peft_config=lora,
    )


def generation_batch(trainer: SharedPrefixGRPOTrainer) -> list[dict[str, Any]]:
    """Rows of the first generation batch."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.model.train()
    return next(iter(trainer.get_train_dataloader()))
