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

from medr1.data.phantom import phantom, write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.models.loading import load_model
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
    for key in ("train_images", "shuffle_options", "freeze_vision_tower", "eval_data", "sampler_correction"):
        if key in changes:
            setattr(script, key, changes.pop(key))
    lora = {key: changes.pop(key) for key in ("use_peft", "lora_r", "lora_target_modules") if key in changes}
    config = GRPOConfig(output_dir=str(folder), **(settings | changes))
    arguments = ModelArguments(model_name_or_path=str(model), **lora)
    return train_grpo(script, config, arguments, samples=samples, callbacks=callbacks)


def stopped(whole: Path, folder: Path, step: int) -> None:
    """The folder as a run leaves it that is killed behind a checkpoint: its log has steps too many."""
    folder.mkdir()
    shutil.copytree(whole / f"checkpoint-{step}", folder / f"checkpoint-{step}")
    shutil.copy(whole / "train_log.jsonl", folder)
    manifest = json.loads((whole / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"state": "started"}))


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
    stopped(tmp_path / "whole", killed, 2)
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
    stopped(tmp_path / "whole", tmp_path / "killed", 2)
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


NARROW: dict[str, Any] = {"bf16": True, "learning_rate": 1e-6}
"""The defaults of a run on a GPU: bfloat16 weights, moved by their float32 masters."""


class Gradients(TrainerCallback):
    """The gradients that the optimizer saw in every step, by the names of the weights."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, *arguments: Any, model: Any = None, optimizer: Any = None, **kwargs: Any) -> None:
        self.steps.append({name: weight.grad.double() for name, weight in model.named_parameters()})
        self.rates.append(optimizer.param_groups[0]["lr"])


def share_that_arrived(start: Any, end: Any, seen: Gradients) -> float:
    """Projection of the way that the weights went on AdamW's in float64, over that way's length squared."""
    along = length = 0.0
    for name, weight in start.items():
        exact = torch.nn.Parameter(weight.double())
        optimizer = torch.optim.AdamW([exact], lr=1.0, weight_decay=0.0)
        for gradients, rate in zip(seen.steps, seen.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            exact.grad = gradients[name]
            optimizer.step()
        way = exact.detach() - weight.double()
        along += float((way * (end[name].double() - weight.double())).sum())
        length += float((way * way).sum())
    return along / length


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_the_update_arrives_in_the_masters(samples: list[Sample], tmp_path: Path, kind: str) -> None:
    """50 steps at 1e-6, of which 1 % arrives in bfloat16 weights that are their own masters."""
    seen = Gradients()
    settings = SHARED | NARROW | dict(max_steps=50, save_steps=50, lr_scheduler_type="constant")
    if kind == "grpo":
        grpo(tmp_path / "run", samples, callbacks=[seen], **settings)
    else:
        config = SFTConfig(output_dir=str(tmp_path / "run"), per_device_train_batch_size=4, **settings)
        model = ModelArguments(model_name_or_path=str(WARM_START))
        train_sft(DataArguments(prompt="bare"), config, model, samples=samples, callbacks=[seen])
    names = {name for name, _ in load_model(WARM_START).named_parameters()}
    start, end = (
        {name: weight for name, weight in load_model(folder, dtype="float32").named_parameters() if name in names}
        for folder in (WARM_START, tmp_path / "run" / "checkpoint-50")
    )
    assert share_that_arrived(start, end, seen) >= 0.99
    final = load_model(tmp_path / "run" / "final")
    assert final.dtype == torch.bfloat16
    for name, weight in final.named_parameters():
        torch.testing.assert_close(weight.detach(), end[name].detach().bfloat16(), rtol=0, atol=0)


def test_a_training_checkpoint_holds_masters_and_opens_in_what_computed(samples: list[Sample], tmp_path: Path) -> None:
    grpo(tmp_path / "run", samples, **NARROW)
    checkpoint = tmp_path / "run" / "checkpoint-2"
    assert {tensor.dtype for tensor in weights(checkpoint).values()} == {torch.float32}
    assert load_model(checkpoint).dtype == torch.bfloat16
    assert load_model(checkpoint, dtype="float32").dtype == torch.float32
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["arguments"]["precision"] == {"weights": "bfloat16", "masters": "float32", "autocast": False}
    # Trained on from a checkpoint, the next run starts from its masters, not from what they round to.
    grpo(tmp_path / "next", samples, model=checkpoint, **NARROW | dict(learning_rate=0.0, max_steps=1, save_steps=1))
    assert_same_weights(checkpoint, tmp_path / "next" / "checkpoint-1")


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_resumed_masters_and_moments_equal_uninterrupted_ones(samples: list[Sample], tmp_path: Path, kind: str) -> None:
    def train(folder: Path) -> None:
        if kind == "grpo":
            grpo(folder, samples, **NARROW)
            return
        settings = SHARED | NARROW | dict(max_steps=4, save_steps=2, per_device_train_batch_size=4)
        model = ModelArguments(model_name_or_path=str(WARM_START))
        train_sft(DataArguments(prompt="bare"), SFTConfig(str(folder), **settings), model, samples=samples)

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(whole)
    stopped(whole, resumed, 2)
    train(resumed)
    assert_same_weights(whole / "checkpoint-4", resumed / "checkpoint-4")
    assert_same_weights(whole / "final", resumed / "final")
    one, two = (torch.load(folder / "checkpoint-4" / "optimizer.pt")["state"] for folder in (whole, resumed))
    assert one.keys() == two.keys()
    for moments, others in zip(one.values(), two.values(), strict=True):
        for name, tensor in moments.items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, others[name]), name


def test_the_best_checkpoint_is_what_is_kept_where_that_is_asked_for(samples: list[Sample], tmp_path: Path) -> None:
    """`Trainer` reads it back under names that a Qwen-VL has not, and keeps the last weights without a word."""

    class FirstIsBest(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            metrics["eval_reward"] = -float(state.global_step)

    write_phantoms(PhantomSettings(out=tmp_path / "data", split="validation", count=8))
    settings = dict(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, metric_for_best_model="reward")
    for name, precise in (("float32", {}), ("bfloat16", {"bf16": True})):
        run = tmp_path / name
        final = grpo(
            run, samples, callbacks=[FirstIsBest()], eval_data=str(tmp_path / "data"), per_device_eval_batch_size=8,
            **settings, **precise,
        )  # fmt: skip
        best = load_model(run / "checkpoint-2", dtype="float32").state_dict()
        for key, tensor in load_model(final).state_dict().items():
            torch.testing.assert_close(tensor, best[key].to(tensor.dtype), rtol=0, atol=0, msg=f"{name} {key}")


def test_the_sampler_and_the_trainer_are_compared_at_every_step(samples: list[Sample], tmp_path: Path) -> None:
    names = [f"sampling/sampling_logp_difference/{kind}" for kind in ("mean", "max")]

    def gaps(folder: Path) -> list[list[float]]:
        return [[record[name] for name in names] for record in log_of(folder) if "reward" in record]

    grpo(tmp_path / "exact", samples)
    assert len(gaps(tmp_path / "exact")) == 4
    # What is left is the probability of image tokens, which are not drawn, and rounding.
    assert all(0 < mean < 1e-3 and mean < largest < 0.01 for mean, largest in gaps(tmp_path / "exact"))
    grpo(tmp_path / "narrow", samples, per_device_train_batch_size=8, gradient_accumulation_steps=4, **NARROW)
    assert all(1e-4 < mean < 0.05 and mean < largest < 1 for mean, largest in gaps(tmp_path / "narrow"))
    # Steps that go on with completions of an older policy say nothing about the sampler, and are left out.
    grpo(tmp_path / "reused", samples, num_iterations=2)
    logged = [names[0] in record for record in log_of(tmp_path / "reused") if "reward" in record or "loss" in record]
    assert logged == [True, False, True, False]


def test_the_correction_for_the_sampler_is_trls(samples: list[Sample], tmp_path: Path) -> None:
    key = "sampling/importance_sampling_ratio"
    final = grpo(tmp_path / "corrected", samples, sampler_correction=True, **NARROW)
    for record in log_of(tmp_path / "corrected"):
        if "reward" in record:
            assert record[f"{key}/min"] < record[f"{key}/mean"] < record[f"{key}/max"]
            assert record[f"{key}/mean"] == pytest.approx(1, abs=0.05)
    plain = grpo(tmp_path / "plain", samples, **NARROW)
    assert not any(key in name for record in log_of(tmp_path / "plain") for name in record)
    start = tmp_path / "corrected" / "checkpoint-2", tmp_path / "plain" / "checkpoint-2"
    assert any(not torch.equal(weights(start[0])[name], tensor) for name, tensor in weights(start[1]).items())
    assert weights(final).keys() == weights(plain).keys()
