"""What the shared-prefix trainer does around TRL's: groups, random numbers, sampling settings, regrouping, rows."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import image_token_ids
from medr1.models.shared.attention import packable_attention
from medr1.train import grpo
from medr1.train.groups import chunks_of
from medr1.train.grpo import SharedPrefixGRPOTrainer
from medr1.types import Sample
from tiny_trainer import generation_batch, make_trainer


def bare(*, process: int = 0, training: bool = True, **facts: Any) -> Any:
    """As much of a trainer as its bookkeeping asks for: four generations, two in evaluation."""
    return SimpleNamespace(
        accelerator=SimpleNamespace(process_index=process),
        model=SimpleNamespace(training=training),
        num_generations=4,
        num_generations_eval=2,
        args=SimpleNamespace(steps_per_generation=1),
        _mode="train" if training else "eval",
        **facts,
    )


@pytest.mark.parametrize(
    ("process", "training", "index"),
    [
        (0, True, [0, 0, 0, 0, 1, 1]),
        (1, True, [0, 0, 1, 1, 1, 1]),  # the group that straddles two processes is the first one of the second
        (2, True, [0, 0, 0, 0, 1, 1]),
        (1, False, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_groups_of_a_process(process: int, training: bool, index: list[int]) -> None:
    assert SharedPrefixGRPOTrainer._group_index(bare(process=process, training=training), 6) == index


def draw_keys(process: int = 0, step: int = 0, batch: int = 0, *, training: bool = True) -> list[list[str]]:
    trainer = bare(
        process=process,
        training=training,
        state=SimpleNamespace(global_step=step),
        current_gradient_accumulation_steps=3,
        _step=3 * step + batch,
    )
    evaluations = iter(range(batch, 99))
    trainer._next_evaluation = lambda: next(evaluations)
    return SharedPrefixGRPOTrainer._draw_keys(trainer, SharedPrefixGRPOTrainer._group_index(trainer, 6))


def test_no_two_draws_share_their_random_numbers() -> None:
    places = [(process, step, batch) for process in range(2) for step in range(2) for batch in range(3)]
    keys = [
        key
        for place in places
        for mode in (True, False)
        for prompt in draw_keys(*place, training=mode)
        for key in prompt
    ]
    assert len(set(keys)) == len(keys) == 6 * 2 * len(places)


def test_random_numbers_do_not_depend_on_the_number_of_processes() -> None:
    halves = [key for process in range(2) for prompt in draw_keys(process) for key in prompt]
    trainer = bare(state=SimpleNamespace(global_step=0), current_gradient_accumulation_steps=1, _step=0)
    whole = SharedPrefixGRPOTrainer._draw_keys(trainer, SharedPrefixGRPOTrainer._group_index(trainer, 12))
    assert halves == [key for prompt in whole for key in prompt]
    assert [len(prompt) for prompt in whole] == [4, 4, 4]


def test_every_evaluation_batch_has_its_own_random_numbers(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path
) -> None:
    trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path)
    assert [trainer._next_evaluation() for _ in range(3)] == [0, 1, 2]


def test_sampling_follows_the_configuration(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(temperature=0.9, top_p=0.95, top_k=50, min_p=0.01, repetition_penalty=1.1, seed=17)
    trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path, **settings)
    calls: list[tuple[SamplingParams, bool, dict[str, Any]]] = []
    original = grpo.sample

    def noting(model: Any, prompts: Any, keys: Any, params: SamplingParams, **kwargs: Any) -> Any:
        calls.append((params, model.training, kwargs))
        return original(model, prompts, keys, params, **kwargs)

    monkeypatch.setattr(grpo, "sample", noting)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    ((params, training, kwargs),) = calls
    assert params == SamplingParams(max_new_tokens=12, **settings)
    assert not training, "dropout is off while completions are drawn"
    assert trainer.model.training, "and on again behind it"
    tokenizer = trainer.processing_class.tokenizer
    assert kwargs["forbidden_token_ids"] == image_token_ids(tokenizer) != []
    assert tokenizer.eos_token_id in kwargs["eos_token_ids"]
    assert output["completion_ids"].shape[1] <= 12


def micro_batches() -> list[dict[str, Any]]:
    """Four micro-batches of four completions, two to an optimizer step; every value is the completion's number."""
    groups = [[4, 1, 4, 2], [1, 4, 2, 4], [5, 3, 5, 3], [3, 5, 3, 5]]
    return [
        {
            "group_index": torch.tensor(index),
            "advantages": torch.arange(4.0) + 4 * number,
            "completion_ids": (torch.arange(4) + 4 * number)[:, None].repeat(1, 3),
            "num_items_in_batch": torch.tensor(16),
        }
        for number, index in enumerate(groups)
    ]


def test_groups_come_together_within_each_optimizer_step() -> None:
    batches = micro_batches()
    before = {
        int(number): int(group)
        for batch in batches
        for number, group in zip(batch["advantages"], batch["group_index"], strict=True)
    }
    trainer: Any = SimpleNamespace(args=SimpleNamespace(gradient_accumulation_steps=2))
    SharedPrefixGRPOTrainer._regroup(trainer, batches)
    # Nothing left its step, every part of a completion moved with it, and members of a group kept their order.
    places = [[1, 4, 3, 6], [0, 2, 5, 7], [9, 11, 12, 14], [8, 10, 13, 15]]
    assert [batch["group_index"].tolist() for batch in batches] == [[1, 1, 2, 2], [4] * 4, [3] * 4, [5] * 4]
    assert [batch["advantages"].tolist() for batch in batches] == places
    for batch in batches:
        numbers = batch["advantages"].int().tolist()
        assert batch["group_index"].tolist() == [before[number] for number in numbers]
        assert batch["completion_ids"].tolist() == [[number] * 3 for number in numbers]
        assert batch["num_items_in_batch"] == 16


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo"])
def test_only_losses_that_are_sums_over_the_step_are_regrouped(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, loss_type: str
) -> None:
    trainer = make_trainer(
        checkpoints["qwen2_5_vl"],
        questions,
        tmp_path,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=3,
        loss_type=loss_type,
    )
    batch = generation_batch(trainer)
    seen = []
    for step in range(3):
        trainer._step = step
        inputs = trainer._prepare_inputs(batch)
        assert all(len(value) == 4 for key, value in inputs.items() if key in ("advantages", "completion_ids"))
        seen.append(inputs["group_index"].tolist())
    assert sorted(group for part in seen for group in part) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    together = seen == [[0] * 4, [1] * 4, [2] * 4]
    assert together == (loss_type == "grpo"), "bnpo divides by the tokens of the micro-batch"


@pytest.mark.parametrize(
    ("batch_size", "chunks"),
    [
        (None, [[0, 2, 3, 4, 5, 6]]),
        (6, [[0, 2, 3, 4, 5, 6]]),
        (4, [[0, 3, 5, 6], [2, 4]]),  # 4 + 2: groups 0 and 1 fit, group 2 does not
        (3, [[0, 3, 5], [6, 2, 4]]),
        (1, [[0, 3, 5], [6], [2, 4]]),  # a group is never cut
    ],
)
def test_scoring_is_cut_at_the_borders_of_groups(batch_size: int | None, chunks: list[list[int]]) -> None:
    index, scored = torch.tensor([0, 1, 2, 0, 2, 0, 1]), torch.tensor([1, 0, 1, 1, 1, 1, 1]).bool()
    assert [rows.tolist() for rows in chunks_of(index, scored, batch_size)] == chunks


@pytest.mark.parametrize(("width", "num_rows"), [(None, 2), (20, 8)])
def test_rows_are_as_wide_as_allowed(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, width: int | None, num_rows: int
) -> None:
    trainer = make_trainer(checkpoints["qwen2_5_vl"], questions, tmp_path)
    trainer.max_row_tokens = width
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    packed_rows: list[int] = []
    trainer.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: packed_rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    trainer._compute_loss(trainer.model, output)
    assert packed_rows == [num_rows]


def test_what_cannot_share_prompts_runs_as_trl_does_and_says_so(
    checkpoints: dict[str, Path], questions: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        # TRL's own path does not take questions without an image beside others.
        trainer = make_trainer(checkpoints["qwen2_5_vl"], questions[:3], tmp_path, generation_kwargs={"top_k": 5})
    assert "Prompts are not shared because generation_kwargs are set" in caplog.text
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    assert "group_index" not in output
    assert torch.isfinite(trainer._compute_loss(trainer.model, output))


def test_attention_that_cannot_be_packed_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    assert [packable_attention(name) for name in (None, "sdpa", "eager")] == ["sdpa", "sdpa", "eager"]
    assert caplog.text == ""
    assert packable_attention("flash_attention_2") == "sdpa"
    assert "flash_attention_2 takes no mask of packed rows" in caplog.text
