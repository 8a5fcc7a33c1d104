"""Opens a Qwen-VL checkpoint folder: the processor and the weights.

Everything about pictures comes from the checkpoint's own processor. transformers 5 takes the image processor of
torchvision where torchvision can be imported and the one on PIL otherwise; they differ by up to four grey levels after
a resize, so `image_backend` names the one in use for every manifest.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin
from transformers.utils import is_torchvision_available

from medr1.errors import ModelError
from medr1.models.lean import lighten
from medr1.models.patches import multiply_patches
from medr1.models.zoo import ZOO

PROCESSORS: dict[str, type[ProcessorMixin]] = {
    "qwen2_vl": Qwen2VLProcessor,
    "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen3_vl": Qwen3VLProcessor,
}
"""Model families that medr1 knows, by the `model_type` of their configuration."""

VIDEO_PROCESSORS: dict[type[ProcessorMixin], str] = {
    Qwen2VLProcessor: "Qwen2VLVideoProcessor",
    Qwen2_5_VLProcessor: "Qwen2VLVideoProcessor",
    Qwen3VLProcessor: "Qwen3VLVideoProcessor",
}
IMAGE_AND_VIDEO_SETTINGS = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "size")


HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""What is fetched of a repository: weights as safetensors only, and no code."""


def locate(model: str | Path) -> Path:
    """Folder of a checkpoint: a path, a short name of the zoo, or a name on the hub, fetched when it is not cached.

    Raises:
        ModelError: there is neither such a folder nor such a repository within reach.
    """
    if Path(model).is_dir():
        return Path(model)
    name = ZOO[str(model)].hub_id if str(model) in ZOO else str(model)
    if not HUB_NAME.fullmatch(name):
        raise ModelError(f"{model} is no folder; name a checkpoint folder, a hub name or one of {', '.join(ZOO)}")
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{model} is no folder, and the hub did not give it ({type(error).__name__})") from error


def model_type(model: str | Path) -> str:
    """Family of a checkpoint, from its `config.json`.

    Raises:
        ModelError: it is not there, is no checkpoint, or holds a family that medr1 does not know.
    """
    folder = locate(model)
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no checkpoint: it has no config.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{config_file} is not readable JSON ({error}); the checkpoint is damaged") from None
    family = config.get("model_type") if isinstance(config, dict) else None
    if family not in PROCESSORS:
        known = ", ".join(PROCESSORS)
        raise ModelError(f"{folder} holds a model of type {family!r}; medr1 knows {known}")
    return family


@cache
def image_only(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same processor without its video part, for machines without torchvision.

    transformers has video processors on torchvision only. Without it `Qwen2VLProcessor(...)` fails and
    `AutoProcessor.from_pretrained` silently returns the bare tokenizer, because the list of a processor's parts is read
    from the signature of `__init__` and the video part cannot be made. A subclass whose `__init__` has no such argument
    has no such part. What it saves keeps the original's class name and names a video part, so that a tool that needs
    one opens the folder too.
    """

    class ImageOnly(processor_class):  # type: ignore[valid-type,misc]
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any):
            self.image_token = "<|image_pad|>"
            self.video_token = "<|video_pad|>"
            self.vision_start_token = "<|vision_start|>"
            self.vision_end_token = "<|vision_end|>"
            for name in ("image_token", "video_token", "vision_start_token", "vision_end_token"):
                setattr(self, f"{name}_id", tokenizer.convert_tokens_to_ids(getattr(self, name)))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

        def to_dict(self) -> dict[str, Any]:
            image = self.image_processor.to_dict()
            shared = {key: image[key] for key in IMAGE_AND_VIDEO_SETTINGS if key in image}
            video = {"video_processor_type": VIDEO_PROCESSORS[processor_class], **shared}
            return super().to_dict() | {"video_processor": video}

    ImageOnly.__name__ = processor_class.__name__
    ImageOnly.__qualname__ = processor_class.__qualname__
    return ImageOnly


def load_processor(model: str | Path) -> ProcessorMixin:
    """Processor of a checkpoint, with or without torchvision, its tokenizer padding on the left.

    Raises:
        ModelError: no checkpoint, or files of the processor are missing or damaged.
    """
    family, folder = model_type(model), locate(model)
    try:
        if is_torchvision_available():
            processor = AutoProcessor.from_pretrained(folder)
        else:
            settings = _image_processor_settings(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            processor = image_only(PROCESSORS[family])(
                image_processor=Qwen2VLImageProcessorPil(**settings),
                tokenizer=tokenizer,
                chat_template=_chat_template(folder, tokenizer),
            )
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder}: the processor cannot be read ({error}); copy the checkpoint again") from error
    processor.tokenizer.padding_side = "left"
    return processor


def _image_processor_settings(folder: Path) -> dict[str, Any]:
    """Settings of the image processor: nested in `processor_config.json` (transformers 5) or in a file of their own."""
    nested = folder / "processor_config.json"
    if nested.is_file():
        settings = json.loads(nested.read_text(encoding="utf-8")).get("image_processor")
        if settings:
            return dict(settings)
    return json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))


def _chat_template(folder: Path, tokenizer: Any) -> str | None:
    """Chat template from whichever of its three places a checkpoint uses."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    old = folder / "chat_template.json"
    if old.is_file():
        return json.loads(old.read_text(encoding="utf-8"))["chat_template"]
    return tokenizer.chat_template


def save_checkpoint(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    folder: str | Path,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write weights (safetensors) and processor in the layout that every tool for Qwen-VL opens.

    Args:
        weights: by their names in the model, where the model itself holds only a part of them.
    """
    model.save_pretrained(folder, state_dict=None if weights is None else dict(weights))
    processor.save_pretrained(folder)
    for file in Path(folder).glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner may read


def load_model(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = "auto",
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Weights of a checkpoint in evaluation mode. Safetensors only; no code from the folder is run.

    Raises:
        ModelError: no checkpoint, or its weights are missing or damaged.
    """
    model_type(model)
    folder = locate(model)
    try:
        loaded = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attn_implementation, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the weights cannot be read ({error})") from error
    multiply_patches(loaded)
    lighten(loaded)
    return loaded.to(device).eval()  # type: ignore[arg-type]


def image_backend() -> str:
    """Name of the image processor's back end that transformers picks here: `torchvision` or `pil`."""
    return "torchvision" if is_torchvision_available() else "pil"
