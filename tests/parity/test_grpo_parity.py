"""The shared-prefix trainer equals TRL's: same log-probabilities, entropies, losses and gradients."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

import flash_stand_in
from grpo_parity import RELATIVE, compare, distance, loss_and_gradient, parent_inputs
from medr1.models.tiny.build import FAMILIES
from medr1.train.groups import Scoring
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.types import Sample
from tiny_trainer import GENERATIONS, generation_batch, make_trainer


@pytest.mark.parametrize(
    ("family", "lora", "checkpointing", "attention"),
    list(product(FAMILIES, (False, True), (False, True), ("sdpa", "eager"))),
)
def test_loss_and_gradient_equal_the_parent(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    tmp_path: Path,
    family: str,
    lora: bool,
    checkpointing: bool,
    attention: str,
) -> None:
    trainer = make_trainer(
        checkpoints[family],
        questions,
        tmp_path,
        lora=lora,
        gradient_checkpointing=checkpointing,
        attn_implementation=attention,
    )
    compare(trainer)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_for_flash_kernels_equals_the_parent(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    tmp_path: Path,
    family: str,
    lora: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medr1.train.grpo.packs_flat", lambda *_: True)
    flash_stand_in.install(monkeypatch)
    compare(make_trainer(checkpoints[family], questions, tmp_path, lora=lora, gradient_checkpointing=lora))


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"])
def test_every_loss_type(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, loss_type: str, beta: float
) -> None:
    compare(make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path, loss_type=loss_type, beta=beta))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_row_tokens": 20},
        {"max_row_tokens": 20, "family": "qwen3_vl"},
        {"num_iterations": 2},
        {"num_iterations": 2, "beta": 0.04, "epsilon": 0.001},
        {"importance_sampling_level": "sequence"},
        {"mask_truncated_completions": True},
        {"top_entropy_quantile": 0.5},
        {"entropy_coef": 0.01},
        {"scale_rewards": "none"},
        {"temperature": 0.7},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_other_settings(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes = dict(changes)
    width, family = changes.pop("max_row_tokens", None), changes.pop("family", "qwen2_5_vl")
    trainer = make_trainer(checkpoints[family], questions, tmp_path, **changes)
    if width:
        trainer.max_row_tokens = width
    compare(trainer)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_and_entropies_equal_the_parent(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, family: str
) -> None:
    trainer = make_trainer(checkpoints[family], questions, tmp_path, beta=0.04)
    rows = generation_batch(trainer)
    output = trainer._generate_and_score_completions(rows)
    reference = parent_inputs(trainer, rows, output)
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
    width = output["completion_ids"].shape[1]
    keys = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
    theirs, their_entropy, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, ids, mask, width, compute_entropy=True, **{key: reference[key] for key in keys}
    )
    with trainer._about(Scoring(trainer._batches["train"].prompts, output["group_index"])):
        ours, our_entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, width, batch_size=3, compute_entropy=True
        )
    real = output["completion_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], rtol=RELATIVE, atol=2e-6)
    torch.testing.assert_close(our_entropy[real], their_entropy[real], rtol=RELATIVE, atol=2e-6)
    # the reference model is the model itself before its first step
    torch.testing.assert_close(output["ref_per_token_logps"][real], theirs[real], rtol=RELATIVE, atol=2e-6)
    # and what was noted at sampling time is the same distribution, but for the image tokens that may not be drawn
    torch.testing.assert_close(output["sampled_logps"][real], theirs[real], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "rows_scored"),
    [
        ({}, [1]),  # one of the two groups has nothing to learn and is left out
        # Here it does have something to learn, from the reference model or its entropy, or is needed by a quantile.
        ({"beta": 0.04}, [2]),
        ({"entropy_coef": 0.01}, [2]),
        ({"top_entropy_quantile": 0.5}, [2]),
        ({"off_policy_mask_threshold": 0.5}, [2]),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else "",
)
def test_completions_without_advantage_cost_no_forward_where_that_is_exact(
    checkpoints: dict[str, Path],
    questions: list[Sample],
    tmp_path: Path,
    changes: dict[str, Any],
    rows_scored: list[int],
) -> None:
    trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path, **changes)
    rows = generation_batch(trainer)
    output = trainer._generate_and_score_completions(rows)
    output["advantages"][:GENERATIONS] = 0
    reference = parent_inputs(trainer, rows, output)
    seen = []
    hook = trainer.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    ours, our_gradient = loss_and_gradient(trainer, SharedPrefixGRPOTrainer._compute_loss, output)
    hook.remove()
    theirs, their_gradient = loss_and_gradient(trainer, GRPOTrainer._compute_loss, reference)
    assert seen == rows_scored
    assert ours == pytest.approx(theirs, rel=RELATIVE, abs=1e-7)
    assert distance(our_gradient, their_gradient) <= RELATIVE
    # The entropy that is logged counts what was left out too, as it was noted when it was drawn.
    our_entropy, their_entropy = trainer._metrics["train"]["entropy"][-2:]
    assert our_entropy == pytest.approx(their_entropy, rel=0.01)


def test_a_batch_without_any_advantage_has_a_gradient_of_zero(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path
) -> None:
    trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    output["advantages"][:] = 0
    loss, gradient = loss_and_gradient(trainer, SharedPrefixGRPOTrainer._compute_loss, output)
    assert loss == 0
    assert gradient.norm() == 0
