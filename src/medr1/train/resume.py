"""Resuming a vision-language model from a Trainer checkpoint."""

from pathlib import Path
from typing import Any

from torch import nn

from medr1.models.loading import load_model


class RestoresWeights:
    """For trainers: a resumed run starts from the weights of its checkpoint.

    `save_pretrained` writes a Qwen-VL under the names of the published checkpoints, and `Trainer` reads them back with
    `load_state_dict(strict=False)` under the names in memory: only the language head fits, and the run silently goes on
    from the base weights with the optimizer state of others (transformers 5.23). `from_pretrained` knows both names.
    """

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        whole = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
        if not whole or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        target: Any = self.model if model is None else model
        saved = load_model(folder, dtype=target.dtype)
        target.load_state_dict(saved.state_dict(), strict=True)
