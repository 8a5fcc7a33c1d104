"""GRPO with shared prompts: TRL's trainer, with only the computing of log-probabilities and completions replaced.

A group is one prompt and its images, computed once: in sampling (one prefill, expanded cache) and in every scoring
pass (one packed row, `medr1.models.shared.pack`). Losses, advantages, masks, metrics, optimisation and checkpoints are
TRL's.
vLLM may draw the completions; then they are scored and learned from in the same way. Where a mode cannot share (tools,
environments, custom rollouts), the parent's own path runs.

Axes: N completions of a batch, C completion tokens, G completions per prompt.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from medr1.engines.engine import SamplingParams
from medr1.engines.sampler import sample
from medr1.engines.transformers import image_token_ids
from medr1.errors import ConfigError
from medr1.models.literal import chat_text
from medr1.models.sharding import head_gathered, is_sharded, largest_of_all
from medr1.models.shared.attention import PACKABLE_ATTENTION, SHARED_PREFIX, packs_flat, product_type
from medr1.models.shared.pack import PackedGroups, PromptTensors, backbone, encode_prompts, pack_flat, pack_groups
from medr1.prompts import Message
from medr1.train.adversarial import Adversary
from medr1.train.checkpoints import PublishesCheckpoints
from medr1.train.groups import GroupBatch, SamplerGap, Scoring, chunks_of, sampled_statistics
from medr1.train.masters import MasterWeights
from medr1.train.vllm import image_generation

logger = logging.getLogger(__name__)

SUMS = {"grpo", "dapo", "dr_grpo", "cispo", "sapo", "vespo", "luspo"}
"""Losses that are sums over the whole optimizer step."""


def learns_in_sums(config: GRPOConfig) -> bool:
    """Whether it does not matter for the gradient which micro-batch of a step a completion is in, and how many are one.

    Means of entropies, and bounds among them, are those of a micro-batch.
    """
    means = config.entropy_coef != 0 or config.use_adaptive_entropy or config.top_entropy_quantile != 1.0
    return config.loss_type in SUMS and not means


def parents_path(config: GRPOConfig) -> dict[str, bool]:
    """Settings under which TRL's own path runs, and whether they are on."""
    return {
        "generation_kwargs are set": bool(config.generation_kwargs) and not config.use_vllm,
        "continuous batching is on": config.use_transformers_continuous_batching,
    }


class SharedPrefixGRPOTrainer(PublishesCheckpoints, MasterWeights, GRPOTrainer):
    """`trl.GRPOTrainer` that computes each prompt and image once per group.

    Args:
        max_row_tokens: longest packed row; a larger group is split into several rows of the same prompt.
        adversary: moves the images of training prompts against the current policy before they are sampled.
        sampler_correction: weighs tokens by the trainer's probability over the sampler's, as TRL does for vLLM, with
            the same settings (`vllm_importance_sampling_mode` and its clips); costs one more scoring pass a batch.
        args, kwargs: those of `trl.GRPOTrainer`.
    """

    args: GRPOConfig  # type: ignore[assignment]
    model: Any
    processing_class: Any
    chat_template_kwargs: Any
    max_completion_length: int

    def __init__(
        self,
        *args: Any,
        max_row_tokens: int | None = 8192,
        adversary: Adversary | None = None,
        sampler_correction: bool = False,
        **kwargs: Any,
    ) -> None:
        self._batches: dict[str, GroupBatch] = {}
        self._scoring: Scoring | None = None
        self._drawn_at: dict[str, int] = {}
        self._gaps = {"train": SamplerGap(), "eval": SamplerGap()}
        self.max_row_tokens, self.adversary, self.sampler_correction = max_row_tokens, adversary, sampler_correction
        with image_generation():
            super().__init__(*args, **kwargs)
        self._vllm_draws: bool = self.use_vllm
        self.pad_token_id: int = self._tokenizer.pad_token_id  # type: ignore[assignment]
        self.shares_prefix = self._can_share()
        if adversary is not None and (self.use_vllm or self.is_fsdp_enabled or not self.shares_prefix):
            raise ConfigError(
                "adversarial training samples on the patches that it moves, and moves other ones on every process; "
                "switch off use_vllm and fsdp, and what a warning above names"
            )
        model = self.accelerator.unwrap_model(self.model)
        self._forbidden = image_token_ids(self._tokenizer)
        attention = model.config._attn_implementation
        assert attention in PACKABLE_ATTENTION, f"load the model with packable_attention, not {attention}"
        self._additive_mask = model.dtype if attention == "eager" else None
        if self._additive_mask is None:
            for scored in (self.model, self.ref_model):
                if scored is not None:
                    text = backbone(self.accelerator.unwrap_model(scored)).language_model.config
                    text._attn_implementation = SHARED_PREFIX

    def _can_share(self) -> bool:
        """Whether this run can share prompts; says so once where it cannot."""
        reasons = {
            "tools are used": bool(self.tools),
            "environments are used": self.environment_factories is not None,
            "a rollout function is set": self.rollout_func is not None,
            **parents_path(self.args),
            "an auxiliary router loss is on": self.aux_loss_enabled,
            "the model is text-only": not self._is_vlm,
        }
        blocking = [reason for reason, present in reasons.items() if present]
        if blocking:
            logger.warning("Prompts are not shared because %s; TRL's own path runs.", " and ".join(blocking))
        return not blocking

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    # Generation ----------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.shares_prefix:
            return super()._generate_and_score_completions(inputs)
        index = self._group_index(len(inputs))
        first = [index.index(group) for group in range(index[-1] + 1)]
        texts = [self._chat_text(inputs[row]["prompt"]) for row in first]
        images = [inputs[row].get("images") or [] for row in first]
        model = self.accelerator.unwrap_model(self.model)
        device = self.accelerator.device
        prompts = [prompt.to(device) for prompt in encode_prompts(self.processing_class, model, texts, images)]
        if self.adversary is not None and self.model.training:
            prompts = self.adversary(model, prompts, [inputs[row] for row in first], self.state.global_step)
        batch = GroupBatch(prompts, images, torch.tensor(index, device=device), self._draw_keys(index))
        self._batches[self._mode] = batch
        # The parent sees text only: the pixels stay here, once per group.
        blind = [{key: value for key, value in row.items() if key not in ("image", "images")} for row in inputs]
        with self._about(Scoring(batch.prompts, batch.index_N)), self._corrected():
            output = super()._generate_and_score_completions(blind)
        self._drawn_at[self._mode] = self.state.global_step
        output["group_index"] = batch.index_N
        if batch.draws is not None:
            output |= sampled_statistics(batch.draws, output["completion_ids"])
        return output

    def _group_index(self, count: int) -> list[int]:
        """Which prompt each completion of this process belongs to, counted from its first one.

        TRL's sampler repeats every prompt G times in a row over all processes; a group may straddle two of them.
        """
        size = self.num_generations if self.model.training else self.num_generations_eval
        start = self.accelerator.process_index * count
        return [(start + i) // size - start // size for i in range(count)]

    def _draw_keys(self, index: list[int]) -> list[list[str]]:
        """Random numbers depend on run, step, prompt and draw, never on the process or the batch around them."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        start = self.accelerator.process_index * len(index)
        if self.model.training:  # several generations can fall into one optimizer step
            part = self._step % self.current_gradient_accumulation_steps // self.args.steps_per_generation  # type: ignore[operator]
        else:
            part = self._next_evaluation()
        keys: list[list[str]] = [[] for _ in range(index[-1] + 1)]
        for i, group in enumerate(index):
            prompt, draw = divmod(start + i, size)
            keys[group].append(f"{self._mode}/{self.state.global_step}/{part}/{prompt}/{draw}")
        return keys

    def _next_evaluation(self) -> int:
        self._evaluation_batches = getattr(self, "_evaluation_batches", -1) + 1
        return self._evaluation_batches

    def _chat_text(self, prompt: list[Message]) -> str:
        settings = {"chat_template": self.chat_template, **self.chat_template_kwargs}
        return chat_text(self.processing_class, prompt, **settings)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if not self.shares_prefix:
            return super()._tokenize_prompts(prompts)
        batch = self._batches[self._mode]
        ids = [prompt.input_ids_L.tolist() for prompt in batch.prompts]
        return [ids[group] for group in batch.index_N.tolist()], None, {}

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if not self.shares_prefix:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
            )
        batch = self._batches[self._mode]
        if self._vllm_draws:
            seen = [batch.images[group] or None for group in batch.index_N.tolist()]
            some = seen if any(seen) else None
            return super()._generate_single_turn(prompt_ids, some, multimodal_fields, num_generations, *args, **kwargs)
        params = SamplingParams(
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty,
            seed=self.args.seed,
        )
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,  # type: ignore[arg-type]
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            training = model.training
            model.eval()
            # As in scoring: the sampler's log-probabilities are the trainer's only where both compute alike.
            with self.accelerator.autocast():
                batch.draws = sample(
                    model,
                    batch.prompts,
                    batch.keys,
                    params,
                    eos_token_ids=self.eos_token_ids,
                    pad_token_id=self.pad_token_id,
                    forbidden_token_ids=self._forbidden,
                )
            model.train(training)
        flat = [draw for draws in batch.draws for draw in draws]
        return [draw.token_ids for draw in flat], [draw.logprobs for draw in flat] if self.use_vllm else None

    # Scoring -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _about(self, scoring: Scoring) -> Iterator[None]:
        before, self._scoring = self._scoring, scoring
        try:
            yield
        finally:
            self._scoring = before

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        buffered: Any = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.shares_prefix or not self.model.training:
            return inputs
        generated: Any = self._buffered_inputs
        if generated is not buffered and learns_in_sums(self.args):
            self._regroup(generated)
            inputs = generated[self._step % len(generated)]
        return inputs

    def _regroup(self, batches: list[dict[str, Any]]) -> None:
        """Bring the members of a group into one micro-batch within each optimizer step: the gradient stays the same."""
        window = self.args.gradient_accumulation_steps
        for start in range(0, len(batches), window):
            part = batches[start : start + window]
            if len(part) < 2:
                continue
            order = torch.cat([batch["group_index"] for batch in part]).argsort(stable=True)
            sizes = [len(batch["group_index"]) for batch in part]
            for key, value in part[0].items():
                if isinstance(value, Tensor) and value.dim() > 0:
                    pieces = torch.cat([batch[key] for batch in part])[order].split(sizes)
                    for batch, piece in zip(part, pieces, strict=True):
                        batch[key] = piece

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        if "group_index" not in inputs:
            return super()._compute_loss(model, inputs)
        scoring = Scoring(
            self._batches[self._mode].prompts,
            inputs["group_index"],
            self._live_completions(inputs) if self.model.training else None,
            inputs.get("sampled_logps", inputs.get("sampling_per_token_logps")),
            inputs.get("sampled_entropies"),
            # Later updates of the policy would be taken for a difference between sampler and trainer.
            same_policy=self._drawn_at[self._mode] == self.state.global_step,
        )
        with self._about(scoring), self._corrected():
            return super()._compute_loss(model, inputs)

    @contextmanager
    def _corrected(self) -> Iterator[None]:
        """Inside, the parent corrects for the sampler as it does for vLLM, where that is asked for."""
        self.use_vllm = self._vllm_draws or self.sampler_correction
        try:
            yield
        finally:
            self.use_vllm = self._vllm_draws

    def _note_gap(self, scoring: Scoring, logps_NC: Tensor, counted_NC: Tensor) -> None:
        by_parent = self.use_vllm and self.vllm_importance_sampling_correction  # where it corrects
        if scoring.same_policy and scoring.sampled_logps_NC is not None and not by_parent:
            self._gaps[self._mode].note(logps_NC, scoring.sampled_logps_NC, counted_NC)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The parent's, with the trainer's distance from the sampler since the last record."""
        gap = self._gaps[self._mode].report(self.accelerator)
        self._metrics[self._mode].update({name: [value] for name, value in gap.items()})
        super().log(logs, start_time)

    def _live_completions(self, inputs: dict[str, Any]) -> Tensor | None:
        """Completions that can move the policy, where leaving the others out is exact; None where it is not."""
        exact = (
            self.beta == 0
            and not self._entropy_bonus_enabled
            and self.top_entropy_quantile == 1.0
            and self.off_policy_mask_threshold is None
            and "sampled_entropies" in inputs  # vLLM does not tell them
        )
        if not exact:
            return None
        live_N = inputs["advantages"] != 0
        if not live_N.any():
            live_N[0] = True  # every process runs the same number of forwards, and the loss keeps its graph
        return live_N

    def _packed(self, prompts: list[PromptTensors], index_N: Tensor, ids_NC: Tensor, mask_NC: Tensor) -> PackedGroups:
        """Groups as one forward takes them."""
        text = backbone(self.accelerator.unwrap_model(self.model)).language_model
        with self.accelerator.autocast():
            dtype = product_type(text.norm.weight)
        if self._additive_mask is None and packs_flat(text.config, dtype, ids_NC.device):
            return pack_flat(prompts, index_N, ids_NC, mask_NC)
        return pack_groups(
            prompts,
            index_N,
            ids_NC,
            mask_NC,
            pad_token_id=self.pad_token_id,
            max_row_tokens=self.max_row_tokens,
            additive_mask=self._additive_mask,
        )

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self._scoring is None:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **kwargs,
            )
        scoring, device = self._scoring, input_ids.device
        ids_NC, mask_NC = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        logps_NC = torch.zeros(ids_NC.shape, device=device)
        entropies_NC = torch.zeros_like(logps_NC)
        scored_N = torch.ones(len(ids_NC), dtype=torch.bool, device=device)
        if scoring.live_N is not None:
            assert scoring.sampled_logps_NC is not None and scoring.sampled_entropies_NC is not None
            scored_N = scoring.live_N
            width = min(logits_to_keep, scoring.sampled_logps_NC.shape[1])
            # Left out because nothing depends on them but the metrics, for which the values at sampling time stand.
            logps_NC[:, :width] = scoring.sampled_logps_NC[:, :width]
            entropies_NC[:, :width] = scoring.sampled_entropies_NC[:, :width]
        plain = self.accelerator.unwrap_model(model)
        chunks = list(chunks_of(scoring.index_N, scored_N, batch_size))
        if batch_size is not None and is_sharded(plain):
            # Groups that straddle two processes are cut differently; the last chunk is scored again where one has more.
            chunks += chunks[-1:] * (largest_of_all(len(chunks), device) - len(chunks))
        for rows in chunks:
            groups, local_index = scoring.index_N[rows].unique(return_inverse=True)
            packed = self._packed(
                [scoring.prompts[group] for group in groups.tolist()], local_index, ids_NC[rows], mask_NC[rows]
            )
            with self.accelerator.autocast(), head_gathered(plain), packed.head_on_completions(plain):
                outputs = model(**packed.inputs, fused_lm_head=True)
            logps_NC = logps_NC.index_copy(0, rows, packed.unpack(outputs.log_probs).to(logps_NC.dtype))
            if compute_entropy:
                entropies = packed.unpack(outputs.entropy).to(entropies_NC.dtype)
                entropies_NC = entropies_NC.index_copy(0, rows, entropies)
        self._note_gap(scoring, logps_NC, mask_NC.bool() & scored_N[:, None])
        return logps_NC, entropies_NC if compute_entropy else None, None
