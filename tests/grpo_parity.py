"""The shared-prefix trainer beside TRL's own code: losses and gradients of the same weights and completions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from medr1.train.grpo import SharedPrefixGRPOTrainer
from tiny_trainer import generation_batch

RELATIVE = 1e-5
"""What float32 leaves of a gradient, on a CPU."""

Side = tuple[float, torch.Tensor]
"""A loss and its gradient, as one long float32 vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The same batch in both ways."""

    ours: Side
    theirs: Side
    inputs: dict[str, Any]
    """What TRL's loss was given."""


def parent_inputs(trainer: SharedPrefixGRPOTrainer, rows: list[dict], output: dict[str, Any]) -> dict[str, Any]:
    """The same completions as TRL's own code would hand them to its loss: every row with its own pixels."""
    images = [row["images"] for row in rows]
    texts = [trainer._chat_text(row["prompt"]) for row in rows]
    flat = [image for pictures in images for image in pictures]
    prompt = trainer.processing_class(text=texts, images=flat or None, padding=True, return_tensors="pt")
    prompt = prompt.to(output["prompt_ids"].device)
    assert torch.equal(prompt["input_ids"], output["prompt_ids"])
    types = prompt["mm_token_type_ids"]
    inputs = {key: value for key, value in output.items() if key != "group_index" and not key.startswith("sampled_")}
    inputs["mm_token_type_ids"] = torch.cat([types, types.new_zeros(output["completion_ids"].shape)], 1)
    inputs["pixel_values"], inputs["image_grid_thw"] = prompt["pixel_values"], prompt["image_grid_thw"]
    inputs["num_images"] = [len(pictures) for pictures in images]
    return inputs


def loss_and_gradient(trainer: GRPOTrainer, compute: Callable[..., torch.Tensor], inputs: dict[str, Any]) -> Side:
    trainer.model.zero_grad()
    loss = compute(trainer, trainer.model, inputs)
    loss.backward()
    weights = list(trainer.model.parameters())
    gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
    return loss.item(), torch.cat([gradient.flatten().float() for gradient in gradients])


def move(model: torch.nn.Module) -> None:
    """Take the weights away from where completions were drawn: ratios, clips and the reference model matter then."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_((0.003 * torch.randn(parameter.shape, generator=generator)).to(parameter))


def both(trainer: SharedPrefixGRPOTrainer) -> Sides:
    """Our loss and TRL's, of a generation batch and of weights that have moved since."""
    rows = generation_batch(trainer)
    output = trainer._generate_and_score_completions(rows)
    assert output["advantages"].abs().min() > 0.1, "a completion has nothing to teach"
    move(trainer.model)
    inputs = parent_inputs(trainer, rows, output)
    return Sides(
        ours=loss_and_gradient(trainer, SharedPrefixGRPOTrainer._compute_loss, output),
        theirs=loss_and_gradient(trainer, GRPOTrainer._compute_loss, inputs),
        inputs=inputs,
    )


def distance(gradient: torch.Tensor, reference: torch.Tensor) -> float:
    """Length of the difference over that of the reference."""
    assert reference.norm() > 0
    return float((gradient - reference).norm() / reference.norm())


def compare(trainer: SharedPrefixGRPOTrainer, *, relative: float = RELATIVE) -> None:
    sides = both(trainer)
    assert sides.ours[0] == pytest.approx(sides.theirs[0], rel=relative, abs=0.01 * relative)
    assert distance(sides.ours[1], sides.theirs[1]) <= relative
