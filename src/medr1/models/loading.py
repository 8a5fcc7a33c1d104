"""Opens a Qwen-VL checkpoint folder: the processor and the weights. A folder with an adapter opens as its base with it.

Everything about pictures comes from the checkpoint's own processor. transformers 5 takes the image processor of
torchvision where torchvision can be imported and the one on PIL otherwise; they differ by up to four grey levels after
a resize, so `image_backend` names the one in use for every manifest.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
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
from medr1.models.adapters import CONFIG, is_adapter, recorded_base, with_adapter
from medr1.models.guarded import check_checkpoint
from medr1.models.shared.layers import lighten, multiply_patches
from medr1.models.zoo import locate
from medr1.records import check_finished, files_hash, short_hash

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

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""Where settings of the image processor are: in transformers 5, and before."""

HUB_CACHE = re.compile(r".*[/\\]models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\].*")
"""Path of a fetched repository, which other machines keep elsewhere."""


def adapter_base(folder: Path) -> Path:
    """Folder of an adapter's base: what it names, seen from the working folder, else from its own.

    Raises:
        ModelError: the base is not within reach, or is an adapter itself.
    """
    record = recorded_base(folder)
    here = next((path for path in (Path(record), folder / record) if path.is_dir()), None)
    fetched = HUB_CACHE.fullmatch(record)
    try:
        base = here or locate(record if fetched is None else "/".join(fetched.groups()))
    except ModelError as error:
        raise ModelError(
            f"{folder} is an adapter of {record}, which is not here; put its base there, or write where it is into "
            f"base_model_name_or_path of {folder / CONFIG}"
        ) from error
    if is_adapter(base):
        raise ModelError(f"{folder} is an adapter of {base}, which is an adapter itself; merge that one into its base")
    return base


def model_type(model: str | Path) -> str:
    """Family of a checkpoint, from its `config.json`, or of an adapter's base.

    Raises:
        DataError: the command that makes it has not come to its end.
        ModelError: it is not there, is no checkpoint, or holds a family that medr1 does not know.
    """
    folder = locate(model)
    check_finished(folder, above=0)  # a checkpoint inside a training that still runs is whole
    check_checkpoint(folder)
    if is_adapter(folder):
        return model_type(adapter_base(folder))
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


PROCESSOR_PATTERNS = (
    "*processor*.json",
    "tokenizer*",
    "vocab*",
    "merges*",
    "added_tokens*",
    "special_tokens*",
    "chat_*",
)
WEIGHT_PATTERNS = ("*.safetensors", "config.json", "generation_config.json", "adapter_config.json")


def checkpoint_identity(model: str | Path) -> dict[str, str]:
    """Hashes of a checkpoint's content, apart by what may differ: weights and processor, of an adapter its base too.

    Chat template and tokenizer belong to the processor, what ends a completion to the weights.

    Raises:
        ModelError: there is no such checkpoint within reach.
    """
    folder = locate(model)
    check_checkpoint(folder)
    identity = {
        "weights": _content(folder, WEIGHT_PATTERNS),
        "processor": _content(folder, PROCESSOR_PATTERNS),
    }
    if is_adapter(folder):
        base = checkpoint_identity(adapter_base(folder))
        identity["base_weights"] = base["weights"]
        if not any((folder / name).is_file() for name in PROCESSOR_FILES):
            identity["processor"] = base["processor"]
    return identity


def identity_in_memory(model: nn.Module, processor: Any) -> dict[str, str]:
    """As `checkpoint_identity`, of a model that is in no folder."""
    weights = hashlib.sha256()
    for name, weight in model.state_dict().items():
        weights.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        weights.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    read = [processor.to_json_string(), processor.chat_template, processor.tokenizer.backend_tokenizer.to_str()]
    return {"weights": weights.hexdigest()[:16], "processor": short_hash(read)}


def _content(folder: Path, patterns: Sequence[str]) -> str:
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return files_hash(files, folder)


def load_processor(model: str | Path) -> ProcessorMixin:
    """Processor of a checkpoint, with or without torchvision, its tokenizer padding on the left.

    An adapter that was saved without one has that of its base.

    Raises:
        ModelError: no checkpoint, or files of the processor are missing or damaged.
    """
    family, folder = model_type(model), locate(model)
    if is_adapter(folder) and not any((folder / name).is_file() for name in PROCESSOR_FILES):
        folder = adapter_base(folder)
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
        processor.tokenizer.padding_side = "left"
        _try_out(processor)
    except MemoryError:
        raise
    except Exception as error:  # what libraries raise for damaged files has no common kind
        raise ModelError(f"{folder}: the processor does not work ({error}); copy the checkpoint again") from error
    return processor


def _try_out(processor: Any) -> None:
    """One question with one picture through a processor, so that what is damaged in it shows before it is needed."""
    content = [{"type": "image"}, {"type": "text", "text": "?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=[text, text], images=[Image.new("RGB", (56, 56))] * 2, padding=True, return_tensors="pt")
    merged = processor.image_processor.merge_size**2
    expected = int(inputs["image_grid_thw"].prod(-1).sum()) // merged
    found = int((inputs["input_ids"] == processor.image_token_id).sum())
    if processor.tokenizer.eos_token_id is None or processor.tokenizer.pad_token_id is None:
        raise ValueError("its tokenizer names no token for the end or for padding")
    if found != expected:
        raise ValueError(f"a prompt has {found} places for pictures of {expected} tokens")


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
    dtype: torch.dtype | None = None,
) -> None:
    """Write weights (safetensors) and processor in the layout that every tool for Qwen-VL opens.

    Args:
        weights: by their names in the model, where the model itself holds only a part of them.
        dtype: of the written weights, and of the configuration; None: the model's.
    """
    if dtype is not None and dtype != model.dtype:
        held = model.state_dict() if weights is None else weights
        weights = {name: w.to(dtype) if w.is_floating_point() else w for name, w in held.items()}
    model.save_pretrained(folder, state_dict=None if weights is None else dict(weights))
    if dtype is not None:
        _set_dtype(Path(folder) / "config.json", dtype)
    forget_padding(processor)
    processor.save_pretrained(folder)
    for file in Path(folder).glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner may read


def forget_padding(processor: Any) -> None:
    """Take from a tokenizer how its last batch was padded and cut, which it would save for every later user."""
    processor.tokenizer.backend_tokenizer.no_padding()
    processor.tokenizer.backend_tokenizer.no_truncation()


def _set_dtype(config_file: Path, dtype: torch.dtype) -> None:
    """Name the type of the weights in every part of a saved configuration, which names that of the model in memory."""
    name = str(dtype).removeprefix("torch.")
    config = json.loads(config_file.read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "dtype" in part:
            part["dtype"] = name
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_model(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = "auto",
    attn_implementation: str = "sdpa",
) -> Any:
    """Weights of a checkpoint in evaluation mode. Safetensors only; no code from the folder is run.

    A `PreTrainedModel`; of an adapter a `PeftModel` around that of its base, the adapter in float32.

    Raises:
        ModelError: no checkpoint, or its weights are missing, quantised or damaged.
    """
    model_type(model)
    folder = locate(model)
    if is_adapter(folder):
        base = load_model(adapter_base(folder), dtype=dtype, attn_implementation=attn_implementation)
        return with_adapter(base, folder).to(device).eval()
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config"):
        raise ModelError(
            f"{folder} has quantised weights, which code from elsewhere unpacks; name its base, or --engine vllm"
        )
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attn_implementation, use_safetensors=True
        )
        check_ends(loaded.generation_config)
        _check_rotation(loaded.config.get_text_config())
    except MemoryError:
        raise
    except Exception as error:  # what libraries raise for damaged files has no common kind
        raise ModelError(f"{folder}: the weights cannot be read ({error}); copy the checkpoint again") from error
    multiply_patches(loaded)
    lighten(loaded)
    return loaded.to(device).eval()


def _check_rotation(text: Any) -> None:
    """Raise `ValueError` where the shares of M-RoPE's axes are none: transformers looks at them in a forward only."""
    shares = (getattr(text, "rope_parameters", None) or {}).get("mrope_section")
    if shares is not None and not (isinstance(shares, list) and all(isinstance(one, int) for one in shares)):
        raise ValueError(f"mrope_section of config.json is {shares!r}, which are no numbers of frequencies")


def check_ends(generation: Any) -> None:
    """Raise `ValueError` where the tokens that end a completion are none."""
    ends = generation.eos_token_id
    for end in ends if isinstance(ends, list) else [ends]:
        if ends is not None and (not isinstance(end, int) or end < 0):
            raise ValueError(f"eos_token_id of generation_config.json is {ends!r}, which is no token")


def image_backend() -> str:
    """Name of the image processor's back end that transformers picks here: `torchvision` or `pil`."""
    return "torchvision" if is_torchvision_available() else "pil"
