"""LoRA adapters of tiny models, as training saves them, without training."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from medr1.models.loading import load_model, load_processor, save_checkpoint
from medr1.train.arguments import LANGUAGE_PROJECTIONS


def make_adapter(
    base: Path, folder: Path, *, merged: Path | None = None, processor: bool = True, **changes: Any
) -> None:
    """Save an adapter that changes every answer of a base, and the base with it worked in, in float32."""
    settings: dict[str, Any] = dict(r=4, lora_alpha=8, target_modules=LANGUAGE_PROJECTIONS, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(load_model(base, dtype="float32"), LoraConfig(**(settings | changes)))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    if processor:
        load_processor(base).save_pretrained(folder)
    if merged is not None:
        save_checkpoint(model.merge_and_unload(), load_processor(base), merged)  # type: ignore[operator]
