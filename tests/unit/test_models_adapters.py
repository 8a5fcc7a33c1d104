"""Folders with adapters: their base is found, their numbers are kept, and what cannot be opened says so."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from trl import GRPOConfig, SFTConfig

from medr1.data.phantom import phantom
from medr1.engines.vllm import VllmEngine
from medr1.errors import ConfigError, ModelError
from medr1.models import zoo
from medr1.models.adapters import is_adapter
from medr1.models.loading import adapter_base, load_model, load_processor, model_type
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.run import train_grpo, train_sft
from tiny_adapters import make_adapter


@pytest.fixture(scope="module")
def made(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "checkpoint-2"
    make_adapter(checkpoints["qwen2_5_vl"], folder)
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """One to write into."""
    return Path(shutil.copytree(made, tmp_path / "runs" / "checkpoint-2"))


def record(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_adapter_stays_float32_beside_bfloat16_weights(adapter: Path, checkpoints: dict[str, Path]) -> None:
    base = load_model(checkpoints["qwen2_5_vl"], dtype="bfloat16")
    model = load_model(adapter, dtype="bfloat16")
    inside = dict(model.get_base_model().named_parameters())
    adapted = {name: weight for name, weight in inside.items() if "lora_" in name}
    assert len(adapted) == 2 * 7 * 2, "two matrices beside each of seven projections of two layers"
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in adapted.values())
    plain = {name.replace(".base_layer", ""): weight for name, weight in inside.items() if name not in adapted}
    assert plain.keys() == dict(base.named_parameters()).keys()
    assert all(torch.equal(plain[name], weight) for name, weight in base.named_parameters()), "nothing is merged"
    assert (model.dtype, model.training) == (torch.bfloat16, False)


def test_the_base_is_found(adapter: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base = checkpoints["qwen2_5_vl"]
    monkeypatch.chdir(base.parent)
    record(adapter, base_model_name_or_path=base.name)
    assert adapter_base(adapter).samefile(base), "from the working folder"
    monkeypatch.chdir(adapter)
    with pytest.raises(ModelError, match=r"checkpoint-2 is an adapter of .*which is not here.*adapter_config.json"):
        model_type(adapter)
    (adapter.parent / base.name).symlink_to(base)
    record(adapter, base_model_name_or_path=f"../{base.name}")
    monkeypatch.chdir("/")
    assert adapter_base(adapter).samefile(base), "from the adapter's folder"
    assert model_type(adapter) == "qwen2_5_vl"
    (adapter / "other").mkdir()
    record(adapter, base_model_name_or_path="other")
    monkeypatch.chdir(adapter.parent)
    (adapter.parent / "other").mkdir()
    assert adapter_base(adapter) == Path("other"), "from the working folder first"


@pytest.mark.parametrize(
    ("recorded", "fetched"),
    [
        ("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"),
        ("/elsewhere/hub/models--Qwen--Qwen2.5-VL-3B-Instruct/snapshots/0123abc", "Qwen/Qwen2.5-VL-3B-Instruct"),
    ],
)
def test_a_base_of_the_hub_is_fetched(
    adapter: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, recorded: str, fetched: str
) -> None:
    asked: list[str] = []

    def fetch(name: str, **_: Any) -> str:
        asked.append(name)
        return str(checkpoints["qwen2_5_vl"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(zoo, "_silence", lambda name: None)
    record(adapter, base_model_name_or_path=recorded)
    assert adapter_base(adapter) == checkpoints["qwen2_5_vl"]
    assert asked == [fetched]


def test_the_processor_is_the_adapters_else_that_of_its_base(adapter: Path) -> None:
    template = adapter / "chat_template.jinja"
    template.write_text(template.read_text() + "changed")
    assert load_processor(adapter).chat_template.endswith("changed")  # type: ignore[attr-defined]
    for file in adapter.iterdir():
        if not file.name.startswith("adapter_"):
            file.unlink()
    assert "vision_start" in load_processor(adapter).chat_template  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_model_name_or_path": None}, "names no base"),
        ({"base_model_name_or_path": "/no/such/base"}, "is an adapter of /no/such/base, which is not here"),
        ({"base_model_name_or_path": "../gone"}, r"is an adapter of \.\./gone, which is not here"),
        ({"base_model_name_or_path": "."}, "which is an adapter itself"),
        ({"peft_type": "PREFIX_TUNING"}, "of type 'PREFIX_TUNING'; medr1 computes LORA"),
        ({"r": 3}, "cannot be read"),
        ({"r": "three"}, "cannot be read"),
        ({"target_modules": ["q_proj"]}, "do not fit: 24 weights"),
        ({"target_modules": ["lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]}, "do not fit"),
    ],
)
def test_what_cannot_be_opened(adapter: Path, changes: dict[str, Any], words: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(adapter)
    record(adapter, **changes)
    with pytest.raises(ModelError, match=words):
        load_model(adapter)


def test_damaged_and_unsafe_files(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("code could run")

    monkeypatch.setattr(torch, "load", load)
    weights = adapter / "adapter_model.safetensors"
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        load_model(adapter)
    weights.write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        model_type(adapter)


def test_a_folder_with_whole_weights_is_no_adapter(adapter: Path) -> None:
    assert is_adapter(adapter)
    (adapter / "model.safetensors").touch()
    assert not is_adapter(adapter)
    assert not is_adapter("qwen2-vl-2b")


def test_what_needs_whole_weights_says_what_to_take(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"checkpoint-2 is an adapter.*--engine transformers.*final"):
        VllmEngine(adapter)
    arguments = ModelArguments(model_name_or_path=str(adapter))
    samples = [phantom("train", index).sample for index in range(8)]
    common = dict(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to=[])
    with pytest.raises(ConfigError, match=r"checkpoint-2 is an adapter; train from its base /.*final"):
        train_sft(DataArguments(prompt="bare"), SFTConfig(**common), arguments, samples=samples)
    with pytest.raises(ConfigError, match="is an adapter; train from its base"):
        train_grpo(GRPOArguments(prompt="bare"), GRPOConfig(**common), arguments, samples=samples)
