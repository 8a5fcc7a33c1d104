"""GRPO with vLLM as sampler: TRL's generation backend, given what its Qwen-VL path needs to be right.

TRL 1.16 hands an engine in the same process prompts whose image placeholders are expanded already; vLLM expands the
first of them once more, and the policy is sampled on prompts that it is never trained on (huggingface/trl#6294). It
also leaves the dtype to vLLM, which makes bfloat16 of float32, and keeps encoded images of weights that are gone.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import trl.generation.vllm_generation as backend
import trl.trainer.grpo_trainer as grpo_trainer
from trl import GRPOConfig
from trl.generation.vllm_generation import VLLMGeneration

from medr1.engines.vllm import engine_settings, never_sampled, require_vllm
from medr1.errors import EngineError

SERVER_BIAS = -100.0
"""Most that a server takes off a logit: it clamps, and JSON has no infinity."""


def check_vllm(config: GRPOConfig) -> None:
    """Raise `EngineError` where `use_vllm` is asked for and vLLM is not installed."""
    if config.use_vllm:
        require_vllm()


def collapsed(prompt_ids: Sequence[int], image_token_id: int) -> list[int]:
    """The prompt with one placeholder per image; between two images there are always other tokens.

    >>> collapsed([5, 9, 9, 9, 6, 5, 9, 9, 6, 1], image_token_id=9)
    [5, 9, 6, 5, 9, 6, 1]
    """
    repeated = [False, *(a == b == image_token_id for a, b in pairwise(prompt_ids))]
    return [token for token, drop in zip(prompt_ids, repeated, strict=False) if not drop]


class ImageGeneration(VLLMGeneration):
    """TRL's backend for models that read images; what `GRPOTrainer` makes inside `image_generation`."""

    model: Any
    processing_class: Any

    def _init_vllm(self) -> None:
        colocated = self.mode == "colocate"
        bias = never_sampled(self.processing_class.tokenizer, -torch.inf if colocated else SERVER_BIAS)
        given = {int(token): value for token, value in (self.generation_kwargs.get("logit_bias") or {}).items()}
        self.generation_kwargs = {**self.generation_kwargs, "logit_bias": given | bias}
        if not colocated:
            super()._init_vllm()
            return
        settings = engine_settings(self.accelerator.device.type, self._dtype())
        with _replaced(backend, "LLM", partial(backend.LLM, **settings)):
            super()._init_vllm()

    def _dtype(self) -> str:
        """What the policy computes in: that of autocast, else that of its weights."""
        autocast = {"bf16": "bfloat16", "fp16": "float16"}
        return autocast.get(self.accelerator.mixed_precision) or str(self.model.dtype).removeprefix("torch.")

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any = None) -> tuple:
        """Completions of the prompts; as the parent's, whose server path takes expanded prompts as they are.

        Raises `EngineError` where vLLM reads a prompt as other tokens than training does.
        """
        if self.mode != "colocate":
            return super().generate(prompts, images, num_generations, profiler)
        image_token_id = self.processing_class.image_token_id
        output = super().generate(
            [collapsed(ids, image_token_id) for ids in prompts], images, num_generations, profiler
        )
        for asked, read in zip(prompts, output[0], strict=True):
            if list(asked) != list(read):
                raise EngineError(
                    f"vLLM reads a prompt as {len(read)} tokens that training has as {len(asked)}; its image processor "
                    "differs from the checkpoint's, so train with --use_vllm false"
                )
        return output

    def sync_weights(self) -> None:
        """Bring the policy's weights to vLLM, and forget what it computed with the old ones."""
        if self.mode == "colocate" and self.accelerator.device.type == "cpu":
            # On processors vLLM has repacked the weights, and what TRL writes into is empty.
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": self._iter_named_params()})
            self.llm.reset_prefix_cache()
        else:
            super().sync_weights()
        if self.mode == "colocate":
            self.llm.llm_engine.reset_encoder_cache()
        elif self.accelerator.is_main_process:
            self.vllm_client.session.post(f"{self.vllm_client.base_url}/reset_encoder_cache").raise_for_status()


def image_generation() -> AbstractContextManager[None]:
    """Inside the block, `GRPOTrainer` makes its backend an `ImageGeneration`."""
    return _replaced(grpo_trainer, "VLLMGeneration", ImageGeneration)


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
