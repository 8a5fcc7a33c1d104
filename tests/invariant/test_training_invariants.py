"""Configurations that must agree, agree: whole trajectories on the tiny model, through the functions behind the CLI."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, SFTConfig

from medr1.data.phantom import phantom
from medr1.models.tiny import WARM_START
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.run import train_grpo, train_sft
from medr1.types import Sample

SHARED: dict[str, Any] = dict(
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to=[],
    disable_tqdm=True,
    logging_steps=1,
    dataloader_pin_memory=False,
    seed=5,
)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("train", index).sample for index in range(24)]


class Steps(TrainerCallback):
    """The steps that a run takes itself."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.taken.append(state.global_step)


def grpo(folder: Path, samples: list[Sample], model: Path = WARM_START, callbacks: Any = (), **changes: Any) -> Path:
    settings = SHARED | dict(
        per_device_train_batch_size=32,
        num_generations=4,
        max_completion_length=10,
        max_steps=4,
        learning_rate=1e-3,
        loss_type="grpo",
        save_steps=2,
    )
    script = GRPOArguments(prompt="bare")
    for key in ("train_images", "shuffle_options", "freeze_vision_tower"):
        if key in changes:
            setattr(script, key, changes.pop(key))
    lora = {key: changes.pop(key) for key in ("use_peft", "lora_r", "lora_target_modules") if key in changes}
    config = GRPOConfig(output_dir=str(folder), **(settings | changes))
    arguments = ModelArguments(model_name_or_path=str(model), **lora)
    return train_grpo(script, config, arguments, samples=samples, callbacks=callbacks)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def assert_same_weights(one: Path, other: Path, *, rtol: float = 0, atol: float = 0) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_same_seed_same_weights_other_seed_others(samples: list[Sample], tmp_path: Path) -> None:
    one, two = grpo(tmp_path / "one", samples), grpo(tmp_path / "two", samples)
    assert_same_weights(one, two)
    other = grpo(tmp_path / "three", samples, seed=6)
    assert any(not torch.equal(weights(one)[name], tensor) for name, tensor in weights(other).items())


@pytest.mark.parametrize(
    "settings", [{}, {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}], ids=["full", "lora"]
)
def test_resumed_equals_uninterrupted(samples: list[Sample], tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = grpo(tmp_path / "whole", samples, **settings)
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", killed / "checkpoint-2")
    shutil.copy(tmp_path / "whole" / "train_log.jsonl", killed)  # the log of a killed run has steps too many
    steps_of_resumed = Steps()
    resumed = grpo(killed, samples, callbacks=[steps_of_resumed], **settings)
    assert steps_of_resumed.taken == [3, 4], "the first two are not taken again"
    assert_same_weights(whole, resumed)
    steps = [record["step"] for record in log_of(killed)]
    assert steps == [record["step"] for record in log_of(tmp_path / "whole")]
    for key in ("reward", "completions/mean_length", "grad_norm"):
        first = [record[key] for record in log_of(tmp_path / "whole") if key in record]
        assert first == [record[key] for record in log_of(killed) if key in record]


def test_resumed_supervised_training_equals_uninterrupted(samples: list[Sample], tmp_path: Path) -> None:
    def sft(folder: Path) -> Path:
        settings = SHARED | dict(max_steps=4, save_steps=2, per_device_train_batch_size=4, learning_rate=1e-3)
        config = SFTConfig(output_dir=str(folder), **settings)
        model = ModelArguments(model_name_or_path=str(WARM_START))
        return train_sft(DataArguments(prompt="bare"), config, model, samples=samples)

    whole = sft(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "killed" / "checkpoint-2")
    assert_same_weights(whole, sft(tmp_path / "killed"))


@pytest.mark.parametrize(
    ("loss_type", "micro_batch"),
    [*((name, 4) for name in ("grpo", "dapo", "dr_grpo", "cispo", "sapo", "vespo", "luspo")), ("grpo", 2), ("dapo", 1)],
)
def test_accumulation_equals_one_large_batch(
    samples: list[Sample], tmp_path: Path, loss_type: str, micro_batch: int
) -> None:
    # Of four completions a group: micro-batches below four split it.
    sizes = dict(per_device_train_batch_size=micro_batch, gradient_accumulation_steps=32 // micro_batch)
    # Two steps: Adam divides by the gradient's size, which turns rounding differences of tiny gradients into steps.
    common = dict(loss_type=loss_type, max_steps=2, optim="sgd", learning_rate=1e-2)
    whole = grpo(tmp_path / "whole", samples, per_device_train_batch_size=32, **common)
    split = grpo(tmp_path / "split", samples, **sizes, **common)
    assert_same_weights(whole, split, rtol=1e-5, atol=1e-6)
    start = load_file(WARM_START / "model.safetensors")
    moved = max((tensor - start[name]).abs().max().item() for name, tensor in weights(whole).items())
    assert moved > 1e-4, "nothing was learned, so nothing was compared"


def test_blank_training_shows_grey_images_only(samples: list[Sample], tmp_path: Path) -> None:
    blank = grpo(tmp_path / "blank", samples, train_images="blank", max_steps=1)
    real = grpo(tmp_path / "real", samples, max_steps=1)
    assert any(not torch.equal(weights(blank)[name], tensor) for name, tensor in weights(real).items())
    manifest = json.loads((tmp_path / "blank" / "manifest.json").read_text())
    assert manifest["arguments"]["script"]["train_images"] == "blank"


def test_lora_is_merged_into_an_ordinary_checkpoint(samples: list[Sample], tmp_path: Path) -> None:
    final = grpo(
        tmp_path / "lora", samples, use_peft=True, lora_r=4, lora_target_modules=["q_proj", "v_proj"], max_steps=2
    )
    start, trained = load_file(WARM_START / "model.safetensors"), weights(final)
    assert start.keys() == trained.keys()
    changed = {name for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    assert changed, "the adapter learned nothing"
    assert all("q_proj.weight" in name or "v_proj.weight" in name for name in changed)


def test_frozen_vision_tower_stays(samples: list[Sample], tmp_path: Path) -> None:
    final = grpo(tmp_path / "frozen", samples, freeze_vision_tower=True, max_steps=2)
    start, trained = load_file(WARM_START / "model.safetensors"), weights(final)
    changed = {name for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    assert changed
    assert not any("visual" in name for name in changed)


def test_sft_trains_no_prompt_token_and_never_the_word_none(samples: list[Sample], tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(TrainerCallback):
        def on_train_begin(
            self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any
        ) -> None:
            collate = train_dataloader.collate_fn

            def noting(rows: Any) -> Any:
                seen.append(collate(rows))
                return seen[-1]

            train_dataloader.base_dataloader.collate_fn = noting

    config = SFTConfig(output_dir=str(tmp_path / "sft"), max_steps=2, per_device_train_batch_size=4, **SHARED)
    model = ModelArguments(model_name_or_path=str(WARM_START))
    final = train_sft(DataArguments(prompt="bare"), config, model, samples=samples, callbacks=[Watch()])
    assert final.is_dir()
    tokenizer = AutoTokenizer.from_pretrained(WARM_START)
    assert seen, "no batch was seen"
    for batch in seen:
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            taught = tokenizer.decode(labels[labels != -100])
            assert taught.startswith("<think>")
            assert taught.strip().endswith("</answer><|im_end|>")
            assert "None" not in taught
            image = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).nonzero()[0, 0]
            question = tokenizer.decode(ids[image:])
            assert "A)" in question, "the image stands before the question"
