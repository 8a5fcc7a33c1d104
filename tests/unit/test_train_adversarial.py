"""Adversarial training images: within the budget, against the right answer, and only where they are asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trl import GRPOConfig

from medr1.attack.craft import ATTACKS
from medr1.attack.objective import letter_loss, option_logits, surrogate
from medr1.attack.steps import SignStep
from medr1.data.phantom import phantom
from medr1.errors import ConfigError
from medr1.models.loading import load_model, load_processor
from medr1.models.pixels import unpatchify
from medr1.models.shared.pack import PromptTensors, backbone, encode_prompts, left_padded
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS
from medr1.train.adversarial import Adversary, check_adversarial
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.dataset import TrainingRows
from medr1.train.run import train_grpo

COUNT = 8


@pytest.fixture(scope="module")
def parts():
    model, processor = load_model(WARM_START).float().train(), load_processor(WARM_START)
    rows = TrainingRows([phantom("train", n).sample for n in range(COUNT)], PROMPTS["bare"], seed=0)
    drawn = [rows.row(n) for n in range(COUNT)]
    texts = [processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False) for row in drawn]
    return model, processor, drawn, encode_prompts(processor, model, texts, [row["images"] for row in drawn])


def adversary(processor, k: int, steps: int) -> Adversary:
    answer_format = PROMPTS["bare"].answer_format
    return Adversary(processor=processor, answer_format=answer_format, k=k, steps=steps, seed=0)


def loss_of(model, processor, prompt: PromptTensors, row) -> float:
    """Cross-entropy of the right letter, by a plain forward pass."""
    words = surrogate(
        "direct",
        processor.tokenizer,
        num_options=len(row["options"]),
        gold=row["answer_index"],
        answer_format=PROMPTS["bare"].answer_format,
        completion="",
        letter=None,
    )
    with torch.no_grad():
        backbone(model).rope_deltas = None
        batch = left_padded([prompt.followed_by(words.ids)], processor.tokenizer.pad_token_id)
        return float(letter_loss("ce", option_logits(model(**batch).logits[:, -1], [words]), [words]))


@pytest.mark.parametrize("steps", [1, 4])
def test_attacked_images_stay_in_the_ball_and_raise_the_loss(parts, steps: int) -> None:
    model, processor, rows, prompts = parts
    attacked = adversary(processor, 6, steps)(model, prompts, rows, step=0)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    moved = [n for n in range(COUNT) if not torch.equal(attacked[n].pixel_values, prompts[n].pixel_values)]
    assert 1 <= len(moved) < COUNT, "about half of the groups stay clean"
    for n in moved:
        side = rows[n]["images"][0].size[0]
        pair = (unpatchify(p.pixel_values, processor.image_processor, side, side) for p in (prompts[n], attacked[n]))
        before, after = pair
        assert (after - before).abs().max() <= 6 + 1e-3
        assert (after - after.round()).abs().max() < 1e-3
    before, after = (sum(loss_of(model, processor, some[n], rows[n]) for n in moved) for some in (prompts, attacked))
    assert after > before + 0.05


def test_its_steps_are_those_of_the_attack_that_evaluates(parts, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor, rows, prompts = parts
    sizes: set[float] = set()
    plain = SignStep.move

    def move(self: SignStep, *moved: torch.Tensor) -> torch.Tensor:
        sizes.add(self.size)
        return plain(self, *moved)

    monkeypatch.setattr(SignStep, "move", move)
    adversary(processor, 8, 10)(model, prompts, rows, step=0)
    wanted = replace(ATTACKS["pgd"], steps=10).step(8)
    assert isinstance(wanted, SignStep)
    assert sizes == {wanted.size} == {4.0}


def test_the_lot_is_drawn_anew_every_step_and_repeats_under_the_seed(parts) -> None:
    model, processor, rows, prompts = parts
    attack = adversary(processor, 2, 1)
    runs = [[p.pixel_values for p in attack(model, prompts, rows, step=step)] for step in (0, 0, 1)]
    same = [all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True)) for other in runs[1:]]
    assert same == [True, False]


def test_a_run_with_adversarial_images(tmp_path: Path) -> None:
    script = GRPOArguments(prompt="bare", adversarial_k=4, augment="corruption")
    config = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        logging_steps=1,
        report_to=[],
        bf16=False,
        use_cpu=True,
    )
    samples = [phantom("train", n).sample for n in range(8)]
    arguments = ModelArguments(model_name_or_path=str(WARM_START))
    assert (train_grpo(script, config, arguments, samples=samples) / "model.safetensors").exists()


def test_budgets_that_make_no_sense() -> None:
    check_adversarial(0, 1)
    for k, steps in ((-1, 1), (256, 1), (4, 0)):
        with pytest.raises(ConfigError, match="adversarial_k"):
            check_adversarial(k, steps)
