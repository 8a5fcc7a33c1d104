"""The model under attack: its prompts, its logits as a function of pixels, and its free generation from pixels.

Every tensor that `generate` would pass is passed here too (positions from the model's own rule, `mm_token_type_ids`):
without them Qwen2.5-VL falls back on other positions, silently, and another model would be attacked.

Several pictures of a sample are one image here, one below the other: a budget is for all of them.

Axes: N samples, H height, W width, T forced tokens, V vocabulary.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medr1.engines.engine import SamplingParams, request_for
from medr1.engines.sampler import sample
from medr1.engines.transformers import TransformersEngine, end_token_ids, image_token_ids
from medr1.models.pixels import preprocess
from medr1.models.shared.pack import PromptTensors, backbone, left_padded
from medr1.prompts import PromptTemplate
from medr1.types import ParsedAnswer, ParseStatus, Sample

Reader = Callable[[str, Sample], ParsedAnswer]


@dataclass(frozen=True, slots=True)
class Reading:
    """A free generation and what was read from it."""

    completion: str
    letter: str | None
    status: ParseStatus


class Victim:
    """A checkpoint, how it is asked, and how its answers are read.

    On a CPU the weights are copied to float64: the sign of a gradient then depends neither on the batch nor on the
    padding, so that a sample gets the same bytes alone and among others. On a GPU the engine's own weights are used.

    Args:
        engine: gives weights and processor.
        prompt: how the model is asked.
        params: how it generates; greedy, so that a success is one answer and not a draw.
        read: completion and sample to the answer, the rule that will judge the saved image.
    """

    def __init__(
        self, engine: TransformersEngine, *, prompt: PromptTemplate, params: SamplingParams, read: Reader
    ) -> None:
        assert params.temperature == 0, "attacks are judged by greedy decoding"
        self.engine, self.prompt, self.params, self.read = engine, prompt, params, read
        on_cpu = engine.model.device.type == "cpu"
        self.model: Any = (copy.deepcopy(engine.model).double() if on_cpu else engine.model).eval()
        self.model.requires_grad_(False)
        self.tokenizer = engine.tokenizer
        self.image_processor: Any = engine.processor.image_processor  # type: ignore[attr-defined]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; perturbations and losses are float64 on a CPU and float32 elsewhere, never less."""
        return self.model.dtype

    @property
    def pixel_dtype(self) -> torch.dtype:
        """Of images, perturbations and scores."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def encode(self, samples: Sequence[Sample], images: Sequence[np.ndarray]) -> list[PromptTensors]:
        """Prompts of samples, whose images are one below the other, as the engine makes them."""
        requests = [
            request_for(
                self.prompt, one, [Image.fromarray(piece) for piece in np.split(image, len(one.images))], key=one.id
            )
            for one, image in zip(samples, images, strict=True)
        ]
        return [prompt.to(self.model.device) for prompt in self.engine.prompts(requests)]

    def patches(self, images_NHW3: Tensor, pictures: int) -> Tensor:
        """What the vision tower takes of samples with so many pictures, with gradients to the images (grey levels)."""
        return preprocess(pieces(images_NHW3, pictures), self.image_processor)[0].to(self.dtype)

    def logits(
        self, prompts: Sequence[PromptTensors], forced: Sequence[Sequence[int]], images_NHW3: Tensor, *, keep: int
    ) -> Tensor:
        """Logits `(N, keep, V)` of the last columns: the last one predicts what follows the forced tokens."""
        extended = [prompt.followed_by(ids) for prompt, ids in zip(prompts, forced, strict=True)]
        batch = left_padded(extended, self.tokenizer.pad_token_id)
        batch["pixel_values"] = self.patches(images_NHW3, self._pictures(prompts[0]))
        backbone(self.model).rope_deltas = None  # left there by an earlier generation
        return self.model(**batch, use_cache=False, logits_to_keep=keep).logits.to(self.pixel_dtype)

    @staticmethod
    def _pictures(prompt: PromptTensors) -> int:
        assert prompt.image_grid_thw is not None, "only questions with pictures are attacked"
        return len(prompt.image_grid_thw)

    def generate(
        self, prompts: Sequence[PromptTensors], images_NHW3: Tensor, samples: Sequence[Sample]
    ) -> list[Reading]:
        """Greedy completions for 8-bit images, and how they read."""
        patches = torch.chunk(self.patches(images_NHW3, len(samples[0].images)), len(prompts))
        shown = [replace(prompt, pixel_values=rows) for prompt, rows in zip(prompts, patches, strict=True)]
        drawn = sample(
            self.model,
            shown,
            [[one.id] for one in samples],
            self.params,
            eos_token_ids=end_token_ids(self.engine.model, self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            forbidden_token_ids=image_token_ids(self.tokenizer),
        )
        texts = [self.tokenizer.decode(draws[0].token_ids, skip_special_tokens=True) for draws in drawn]
        parsed = [self.read(text, one) for text, one in zip(texts, samples, strict=True)]
        return [Reading(text, p.letter, p.status) for text, p in zip(texts, parsed, strict=True)]


def pieces(images_NHW3: Tensor, pictures: int) -> Tensor:
    """The pictures of samples that have so many each, one below the other, as images of their own, in order.

    >>> pieces(torch.zeros(2, 12, 5, 3), 3).shape
    torch.Size([6, 4, 5, 3])
    """
    samples, height, width, channels = images_NHW3.shape
    return images_NHW3.reshape(samples * pictures, height // pictures, width, channels)
