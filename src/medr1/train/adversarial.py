"""Adversarial training (AT-GRPO): before a group is sampled, its image is moved against the current policy.

FGSM or a few steps of PGD within an L-infinity ball, on the image at the size that the model sees. The completions of
the group, the reference and the gradient then see the attacked image; the reward is for the right answer as ever. As
with augmentation, half of the groups stay clean.

Several images of one size are moved as one, one below the other.

Axes: N = 1 image, H height, W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medr1.answers import AnswerFormat
from medr1.attack.objective import Surrogate, letter_loss, option_logits, surrogate
from medr1.attack.steps import SignStep, fixed_size
from medr1.attack.threat import LEVELS, project, realise, uniform_start
from medr1.attack.victim import pieces
from medr1.errors import ConfigError
from medr1.models.pixels import grid_image, preprocess
from medr1.models.shared.pack import PromptTensors, backbone, left_padded
from medr1.streams import stream
from medr1.variants.corruptions import CLEAN_SHARE


def check_adversarial(k: int, steps: int) -> None:
    """Raise `ConfigError` for a budget or a number of steps that makes no sense."""
    if not 0 <= k <= LEVELS or steps < 1:
        raise ConfigError(
            f"adversarial_k is {k} and adversarial_steps {steps}; use 0 to {LEVELS} grey levels and at least one step"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """Moves the images of a generation batch; called by `SharedPrefixGRPOTrainer` with the model as it is now."""

    processor: Any
    """Of the checkpoint: image processor and tokenizer."""
    answer_format: AnswerFormat
    """Of the prompt; the answer tag is forced and the letter behind it attacked (`direct` in `medr1.attack`)."""
    k: int
    """Largest change of a value, in grey levels."""
    steps: int
    """1 is FGSM; more is PGD with a random start."""
    seed: int

    def __call__(
        self, model: Any, prompts: Sequence[PromptTensors], rows: Sequence[Mapping[str, Any]], step: int
    ) -> list[PromptTensors]:
        """The prompts with attacked images; as they are by lot, without images of one size and without an option."""
        training = model.training
        model.eval()
        attacked = [self._attacked(model, prompt, row, step) for prompt, row in zip(prompts, rows, strict=True)]
        model.train(training)
        return attacked

    def _attacked(self, model: Any, prompt: PromptTensors, row: Mapping[str, Any], step: int) -> PromptTensors:
        chance = stream(self.seed, step, row["id"], "adversarial training")
        images = row.get("images") or []
        if not images or row["answer_index"] is None or chance.random() < CLEAN_SHARE:
            return prompt
        on_grid = [grid_image(image, self.processor.image_processor) for image in images]
        if len({piece.shape for piece in on_grid}) > 1:
            return prompt
        words = surrogate(
            "direct",
            self.processor.tokenizer,
            num_options=len(row["options"]),
            gold=row["answer_index"],
            answer_format=self.answer_format,
            completion="",
            letter=None,
        )
        clean = torch.from_numpy(np.concatenate(on_grid)[None]).to(model.device, torch.float32)
        delta = torch.zeros_like(clean)
        if self.steps > 1:
            delta = uniform_start(tuple(clean.shape), self.k, chance).to(clean)
        rule = SignStep(fixed_size(self.k, self.steps))
        for _ in range(self.steps):
            slope, loss_1 = self._slope(model, prompt, words, clean, delta, len(images))
            delta = project(rule.move(delta, slope, loss_1), self.k)
        patches = self._patches(realise(clean, delta), len(images))
        assert prompt.pixel_values is not None, "a prompt with an image has pixels"
        return replace(prompt, pixel_values=patches.to(prompt.pixel_values))

    def _patches(self, images_1HW3: Tensor, pictures: int) -> Tensor:
        return preprocess(pieces(images_1HW3, pictures), self.processor.image_processor)[0]

    def _slope(
        self, model: Any, prompt: PromptTensors, words: Surrogate, clean: Tensor, delta: Tensor, pictures: int
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the cross-entropy of the right letter at the 8-bit image, and that; rounding passes it on."""
        with torch.enable_grad():
            delta = delta.detach().requires_grad_()
            moved = clean + delta
            candidate = moved + (realise(clean, delta) - moved).detach()
            batch = left_padded([prompt.followed_by(words.ids)], self.processor.tokenizer.pad_token_id)
            batch["pixel_values"] = self._patches(candidate, pictures).to(model.dtype)
            backbone(model).rope_deltas = None  # left there by an earlier generation
            logits = model(**batch, use_cache=False, logits_to_keep=1).logits
            loss = letter_loss("ce", option_logits(logits[:, -1].float(), [words]), [words])
            return torch.autograd.grad(loss.sum(), delta)[0], loss.detach()
