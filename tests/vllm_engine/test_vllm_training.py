"""GRPO with vLLM in the same process samples from the policy that it trains, and learns from it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import disable_progress_bars
from peft import PeftModel

from medr1.engines.transformers import image_token_ids
from medr1.models.loading import load_model, load_processor
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.types import Sample
from tiny_trainer import generation_batch, make_trainer

pytestmark = pytest.mark.vllm

disable_progress_bars()


def vllm_trainer(folder: Path, samples: list[Sample], output: Path, **changes: Any) -> SharedPrefixGRPOTrainer:
    settings = dict(
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=512,
        vllm_importance_sampling_mode="token_truncate",
        max_completion_length=32,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        max_steps=3,
        logging_steps=1,
        max_grad_norm=1e9,
        beta=0.0,
    )
    return make_trainer(folder, samples, output, **(settings | changes))


@torch.no_grad()
def plain_logps(
    trainer: SharedPrefixGRPOTrainer, row: dict[str, Any], completion_ids: list[int], *, forbidden: list[int]
) -> torch.Tensor:
    """Log-probabilities of a completion by the stock processor and the stock forward, without some tokens."""
    processor = load_processor(trainer.model.name_or_path)
    text = processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=row["images"] or None, return_tensors="pt")
    tail = torch.tensor([completion_ids])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1)
    current = copy.deepcopy(trainer.model)
    plain = load_model(trainer.model.name_or_path, dtype="float32")
    plain.load_state_dict((current.merge_and_unload() if isinstance(current, PeftModel) else current).state_dict())
    logits = plain(**inputs).logits[0, -tail.shape[1] - 1 : -1]
    logits[:, forbidden] = -torch.inf
    return logits.log_softmax(-1).gather(1, tail[0][:, None])[:, 0]


def check_against_plain_forward(
    trainer: SharedPrefixGRPOTrainer, batch: list[dict[str, Any]], output: dict[str, Any]
) -> None:
    """What vLLM says it sampled with, and what training scores, are the current weights' own log-probabilities.

    They differ by the share of the image tokens, which sampling forbids and training, like TRL, does not know of.
    """
    forbidden = image_token_ids(trainer._tokenizer)
    for n in range(0, len(batch), 3):
        ids = output["completion_ids"][n][output["completion_mask"][n].bool()].tolist()
        sampled, scored = (output[f"{name}_per_token_logps"][n, : len(ids)] for name in ("sampling", "old"))
        expected = plain_logps(trainer, batch[n], ids, forbidden=forbidden)
        torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(scored, plain_logps(trainer, batch[n], ids, forbidden=[]), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def trainer(
    trained: Path, questions: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> SharedPrefixGRPOTrainer:
    """On a question with one image and one without, a second image and its own size among them."""
    return vllm_trainer(trained, questions, tmp_path_factory.mktemp("colocate"), per_device_train_batch_size=40)


def update(trainer: SharedPrefixGRPOTrainer, scale: float) -> None:
    """What an optimizer step does: other weights everywhere, the vision tower among them, and another step."""
    generator = torch.Generator().manual_seed(trainer.state.global_step)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(scale * weight.std().nan_to_num(0) * torch.randn(weight.shape, generator=generator))
    trainer.state.global_step += 1


def test_sampling_and_training_agree_before_and_after_an_update(trainer: SharedPrefixGRPOTrainer) -> None:
    assert trainer.shares_prefix
    assert str(trainer.vllm_generation.llm.llm_engine.model_config.dtype) == "torch.float32"
    batch = generation_batch(trainer)
    assert {len(row["images"] or ()) for row in batch} == {0, 1, 2}
    for _ in range(3):
        output = trainer._generate_and_score_completions(batch)
        check_against_plain_forward(trainer, batch, output)
        assert len(set(map(tuple, output["completion_ids"].tolist()))) > 10
        before = output["old_per_token_logps"]
        update(trainer, 0.05)
        moved = trainer._generate_and_score_completions(batch)["old_per_token_logps"]
        width = min(before.shape[1], moved.shape[1])
        assert not torch.allclose(before[:, :width], moved[:, :width], atol=1e-2), "an update that changes nothing"


def test_image_tokens_are_never_sampled(trainer: SharedPrefixGRPOTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_token_ids(trainer._tokenizer)
    monkeypatch.setattr(trainer.vllm_generation, "temperature", 2.0)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    assert not torch.isin(output["completion_ids"], torch.tensor(images)).any()
    assert len(output["completion_ids"].unique()) > 50, "so hot that every token comes up, were it not forbidden"


def test_training_learns_from_what_vllm_drew(trainer: SharedPrefixGRPOTrainer) -> None:
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer._metrics["train"].clear()  # of the tests before
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    assert len(steps) == 3
    for entry in steps:
        # The image tokens' share, and nothing of the size that other weights or another prompt would bring.
        assert entry["sampling/sampling_logp_difference/max"] <= 0.02
        assert entry["sampling/importance_sampling_ratio/min"] == pytest.approx(1, abs=0.02)
        assert entry["grad_norm"] > 0
        assert entry["entropy"] > 0
    moved = [name for name, weight in trainer.model.named_parameters() if not torch.equal(before[name], weight)]
    assert len(moved) == len(before), "the vision tower too"


def test_lora_adapters_reach_vllm(trained: Path, questions: list[Sample], tmp_path: Path) -> None:
    trainer = vllm_trainer(trained, questions, tmp_path, per_device_train_batch_size=40, lora=True)
    batch = generation_batch(trainer)
    before = trainer._generate_and_score_completions(batch)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    trainer.state.global_step += 1
    output = trainer._generate_and_score_completions(batch)
    assert not torch.equal(before["completion_ids"], output["completion_ids"])
    check_against_plain_forward(trainer, batch, output)
