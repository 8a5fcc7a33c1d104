"""LoRA adapters as training saves them: a folder with `adapter_config.json` and `adapter_model.safetensors`.

An adapter is computed beside the weights of its base, in float32. Added into bfloat16 weights most of it would be
rounded away.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from medr1.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WHOLE = ("model.safetensors", "model.safetensors.index.json")
KIND = "LORA"


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter, and no weights of its own."""
    there = Path(folder)
    return (there / CONFIG).is_file() and not any((there / name).is_file() for name in WHOLE)


def recorded_base(folder: Path) -> str:
    """What an adapter names as its base.

    Raises:
        ModelError: it names none, is damaged, or is no LoRA.
    """
    file = folder / CONFIG
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is not readable JSON ({error}); copy the adapter again") from None
    if not isinstance(record, dict) or record.get("peft_type") != KIND:
        kind = record.get("peft_type") if isinstance(record, dict) else None
        raise ModelError(f"{folder} holds an adapter of type {kind!r}; medr1 computes {KIND}")
    base = record.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder} is an adapter that names no base; write it into base_model_name_or_path of {file}")
    return base


def with_adapter(base: nn.Module, folder: Path) -> Any:
    """The model of an adapter's base with the adapter beside its weights, frozen; its modules are changed in place.

    Raises:
        ModelError: weights of the adapter are missing or damaged, or belong to another base.
    """
    from peft import PeftConfig, PeftModel  # takes long to import, and most models have no adapter

    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: the adapter has no {WEIGHTS}; other formats could run code and are not read")
    names = getattr(base, "_checkpoint_conversion_mapping", {})  # of modules that were called otherwise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers has renamed
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            model = PeftModel(base, config)  # type: ignore[arg-type]
            result = model.load_adapter(str(folder), "default", torch_device="cpu", key_mapping=names)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the adapter cannot be read ({error}); copy it again, or check its base") from error
    strange = [*result.missing_keys, *result.unexpected_keys]
    if strange:
        raise ModelError(
            f"{folder} and its base do not fit: {len(strange)} weights of one are not in the other, such as "
            f"{strange[0]}; check base_model_name_or_path in {CONFIG}"
        )
    return model
