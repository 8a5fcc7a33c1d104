"""Opens a Qwen-VL checkpoint folder: the processor and the weights.

Everything about pictures comes from the checkpoint's own processor. transformers 5 takes the image processor of
torchvision where torchvision can be imported and the one on PIL otherwise; they differ by up to four grey levels after
a resize, so `image_backend` names the one in use for every manifest.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
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

PROCESSORS: dict[str, type[ProcessorMixin]] = {
    "qwen2_vl": Qwen2VLProcessor,
    "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen3_vl": Qwen3VLProcessor,
}
"""Model families that medr1 knows, by the `model_type` of their configuration."""

# What the processor needs to know about videos when another tool, with torchvision, opens a checkpoint that was
# written here without it.
VIDEO_PROCESSOR_TYPE = {
    "qwen2_vl": "Qwen2VLVideoProcessor",
    "qwen2_5_vl": "Qwen2VLVideoProcessor",
    "qwen3_vl": "Qwen3VLVideoProcessor",
}


def model_type(folder: str | Path) -> str:
    """Family of a checkpoint folder, from its `config.json`.

    Raises:
        ModelError: the folder is not there, is no checkpoint, or holds a family that medr1 does not know.
    """
    config_file = Path(folder) / "config.json"
    if not Path(folder).is_dir():
        raise ModelError(f"{folder} is no folder; download a checkpoint or name one that is there")
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
    has no such part; all the rest, and the class name in saved files, stays the original's.
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

    ImageOnly.__name__ = processor_class.__name__
    ImageOnly.__qualname__ = processor_class.__qualname__
    return ImageOnly


def load_processor(folder: str | Path) -> ProcessorMixin:
    """Processor of a checkpoint, with or without torchvision, its tokenizer padding on the left.

    Raises:
        ModelError: no checkpoint, or files of the processor are missing or damaged.
    """
    family = model_type(folder)
    try:
        if is_torchvision_available():
            processor = AutoProcessor.from_pretrained(folder)
        else:
            settings = _image_processor_settings(Path(folder))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            processor = image_only(PROCESSORS[family])(
                image_processor=Qwen2VLImageProcessorPil(**settings),
                tokenizer=tokenizer,
                chat_template=_chat_template(Path(folder), tokenizer),
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


def save_processor(processor: ProcessorMixin, family: str, folder: str | Path) -> None:
    """Write a processor so that every tool that opens a Qwen-VL folder opens it, also those that need the video part."""
    processor.save_pretrained(folder)
    config_file = Path(folder) / "processor_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "video_processor" not in config:
        image = config["image_processor"]
        shared = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "size")
        config["video_processor"] = {
            "video_processor_type": VIDEO_PROCESSOR_TYPE[family],
            **{key: image[key] for key in shared if key in image},
        }
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_model(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = "auto",
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Weights of a checkpoint in evaluation mode. Safetensors only; no code from the folder is run.

    Raises:
        ModelError: no checkpoint, or its weights are missing or damaged.
    """
    model_type(folder)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attn_implementation, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: the weights cannot be read ({error})") from error
    return model.to(device).eval()


def image_backend() -> str:
    """Name of the image processor's back end that transformers picks here: `torchvision` or `pil`."""
    return "torchvision" if is_torchvision_available() else "pil"
