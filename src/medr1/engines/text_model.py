"""The text part of a Qwen-VL for one new token per row, over buffers of fixed size: what a graph of calls is made of.

Weights are read where the model has them. Those that one product needs become parts of one tensor; those that are
needed in another type are copied into buffers that stay. So what was captured once reads what has been trained since.

Axes: B batch rows, E hidden size, F width of the feed-forward part, X queries, keys and values side by side (or other
outputs of joined maps), D head size, V vocabulary, R rank of adapters.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from medr1.engines import plain
from medr1.engines.buffers import Draws, States
from medr1.models.shared.layers import triton_kernels
from medr1.models.shared.pack import backbone, joined

FAMILIES = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
"""Model types whose text layers are the ones written out here."""
CHANGING = {"dynamic", "longrope"}
"""Rotations whose frequencies depend on the length."""
TYPES = {torch.float32, torch.bfloat16, torch.float16}
"""Types that a step computes in."""


def kernels_for(device: torch.device, head_size: int, dtype: torch.dtype) -> ModuleType:
    """The kernels of a step: Triton's on a GPU where it is installed, else PyTorch's."""
    fast = triton_kernels("medr1.engines.kernels") if device.type == "cuda" else None
    return fast if fast is not None and fast.supports(head_size, dtype) else plain


@dataclass(frozen=True, slots=True)
class _Adapter:
    """One low-rank adapter of one map."""

    down_RE: Tensor
    up_XR: Tensor
    scaling: float


def _plain_linear(module: nn.Module) -> tuple[nn.Linear, list[_Adapter]] | None:
    """The map and its adapters; None where it is no plain map with plain adapters beside it."""
    if type(module) is nn.Linear:
        return module, []
    base = getattr(module, "base_layer", None)
    lora = type(module).__name__ == "Linear" and type(module).__module__.startswith("peft.tuners.lora")
    if not lora or type(base) is not nn.Linear or module.merged:
        return None
    layer: Any = module
    names = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    if any(layer.use_dora.get(name) or layer.lora_bias.get(name) for name in names):
        return None
    return base, [_Adapter(layer.lora_A[n].weight, layer.lora_B[n].weight, layer.scaling[n]) for n in names]


def _layer_maps(layer: Any) -> list[list[nn.Module]]:
    """The maps of a layer, those of one input together: queries, keys and values; output; gate and up; down."""
    attention, mlp = layer.self_attn, layer.mlp
    joined = [attention.q_proj, attention.k_proj, attention.v_proj]
    return [joined, [attention.o_proj], [mlp.gate_proj, mlp.up_proj], [mlp.down_proj]]


def can_capture(model: Any, dtype: torch.dtype) -> bool:
    """Whether the text part of the model is one that is written out here, with nothing hung into it."""
    if getattr(getattr(model, "config", None), "model_type", None) not in FAMILIES or dtype not in TYPES:
        return False
    text, head = backbone(model).language_model, model.get_output_embeddings()
    kinds = set(getattr(text.config, "layer_types", None) or ["full_attention"])
    maps = [head, *itertools.chain.from_iterable(itertools.chain.from_iterable(map(_layer_maps, text.layers)))]
    # A hook on the embedding asks for its gradients (training adapters with checkpointing) and changes nothing.
    modules = [module for module in text.modules() if module is not text.embed_tokens]
    return (
        kinds == {"full_attention"}
        and text.config.hidden_act == "silu"
        and text.rotary_emb.rope_type not in CHANGING
        and type(text.embed_tokens) is nn.Embedding
        and all(_plain_linear(one) is not None for one in maps)
        and all(type(weight) is nn.Parameter for weight in text.parameters())
        and not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in modules)
    )


class _Weights:
    """The tensors that a step reads: a model's own, or copies of them that are joined or of another type.

    Args:
        dtype: of the products.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.targets: list[Tensor] = []
        self.sources: list[Tensor] = []
        self.scaled: list[tuple[Tensor, Tensor]] = []
        """Tensors to multiply, and by what, once they have been copied."""

    def refresh(self) -> None:
        """Copy what has been trained meanwhile."""
        if self.targets:
            torch._foreach_copy_(self.targets, self.sources)
        for target, factor in self.scaled:
            target.mul_(factor)

    def together(self, sources: Sequence[Tensor]) -> Tensor:
        """Tensors one below the other.

        Weights of the right type are not held twice: they become parts of the whole, which is trained in place.
        """
        plain, heights = [source.detach() for source in sources], [len(source) for source in sources]
        if all(source.dtype == self.dtype for source in sources):
            whole = joined(plain)
            if whole.data_ptr() == plain[0].data_ptr():  # one alone, or parts of a whole since an earlier rollout
                return whole
            if all(map(_stands_alone, plain)):
                for source, part in zip(sources, whole.split(heights), strict=True):
                    source.data = part
                return whole
        else:
            whole = plain[0].new_empty(sum(heights), *plain[0].shape[1:], dtype=self.dtype)
        self.targets += whole.split(heights)
        self.sources += plain
        return whole

    def map(self, modules: Sequence[nn.Module]) -> "_Map":
        """Linear maps of one input as one product."""
        parts = [found for module in modules if (found := _plain_linear(module)) is not None]
        assert len(parts) == len(modules), "the caller asks can_capture first"
        weight_XE = self.together([base.weight for base, _ in parts])
        biases = [base.bias for base, _ in parts if base.bias is not None]
        adapters = [(index, one) for index, (_, some) in enumerate(parts) for one in some]
        joined = self._adapters([len(base.weight) for base, _ in parts], adapters) if adapters else None
        return _Map(weight_XE, self.together(biases) if biases else None, joined)

    def _adapters(self, heights: list[int], adapters: list[tuple[int, _Adapter]]) -> tuple[Tensor, Tensor]:
        """All adapters as one: what narrows stands one below the other, what widens in blocks, scaled."""
        down_RE = self.together([one.down_RE for _, one in adapters])
        up_XR = down_RE.new_zeros(sum(heights), len(down_RE))
        starts = [0, *itertools.accumulate(heights)]
        ranks = [len(one.down_RE) for _, one in adapters]
        for (index, one), start, rank in zip(adapters, [0, *itertools.accumulate(ranks)], ranks, strict=False):
            self.targets.append(up_XR[starts[index] : starts[index + 1], start : start + rank])
            self.sources.append(one.up_XR.detach())
        factors = [one.scaling for (_, one), rank in zip(adapters, ranks, strict=True) for _ in range(rank)]
        self.scaled.append((up_XR, up_XR.new_tensor(factors)))
        return down_RE, up_XR


def _stands_alone(weight: Tensor) -> bool:
    """Whether nothing else is in the memory of a weight; an optimizer may keep all of them in one flat tensor."""
    return weight.is_contiguous() and weight.untyped_storage().nbytes() == weight.nbytes


@dataclass(frozen=True, slots=True)
class _Map:
    """A linear map with its adapters beside it; adding them into narrow weights would round them away."""

    weight_XE: Tensor
    bias_X: Tensor | None
    adapters: tuple[Tensor, Tensor] | None
    """What narrows (R, E) and what widens (X, R)."""

    def __call__(self, input_BE: Tensor, added_BX: Tensor | None = None) -> Tensor:
        """Outputs (B, X), with something added."""
        if self.bias_X is None and added_BX is not None:
            output_BX = torch.addmm(added_BX, input_BE, self.weight_XE.t())
        else:
            output_BX = linear(input_BE, self.weight_XE, self.bias_X)
            output_BX = output_BX if added_BX is None else output_BX + added_BX
        if self.adapters is None:
            return output_BX
        down_RE, up_XR = self.adapters
        return torch.addmm(output_BX, linear(input_BE, down_RE), up_XR.t())


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a step reads of one layer."""

    input_norm: Tensor
    qkv: _Map
    norms: tuple[Tensor, Tensor, float] | None
    """Of queries and keys, for families that have them."""
    output: _Map
    inner_norm: Tensor
    gate_up: _Map
    down: _Map


class TextModel:
    """The text part of a Qwen-VL for one new token per row.

    Args:
        model: one for which `can_capture` holds.
        dtype: of products and states.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        text = backbone(model).language_model
        config = text.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        # The three axes of M-RoPE stand at the same position behind the prompt: the rotation is the ordinary one.
        self.frequencies, self.rotation_scaling = text.rotary_emb.inv_freq, text.rotary_emb.attention_scaling
        self.weights = _Weights(dtype)
        self.embedding = self.weights.together([text.embed_tokens.weight])
        self.norm = self.weights.together([text.norm.weight])
        self.head = self.weights.map([model.get_output_embeddings()])
        self.layers = [self._layer(layer) for layer in text.layers]
        self.kernels: Any = kernels_for(self.embedding.device, self.head_size, dtype)

    def _layer(self, layer: Any) -> _Layer:
        qkv, output, gate_up, down = (self.weights.map(maps) for maps in _layer_maps(layer))
        norms = None
        if (query_norm := getattr(layer.self_attn, "q_norm", None)) is not None:
            weights = [self.weights.together([norm.weight]) for norm in (query_norm, layer.self_attn.k_norm)]
            norms = weights[0], weights[1], self.epsilon
        input_norm, inner_norm = (
            self.weights.together([norm.weight]) for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        return _Layer(input_norm, qkv, norms, output, inner_norm, gate_up, down)

    def __call__(self, states: States, draws: Draws, slots_B: Tensor) -> Tensor:
        """Logits (B, V) behind the newest token of every row, whose keys and values are written to their places."""
        token_B = draws.tokens[slots_B, draws.step.expand(len(slots_B))]
        position_B = draws.position[slots_B] + draws.step
        angles_BD = position_B[:, None].float() * self.frequencies
        rotation = angles_BD.cos() * self.rotation_scaling, angles_BD.sin() * self.rotation_scaling
        hidden_BE = embedding(token_B, self.embedding)
        for index, layer in enumerate(self.layers):
            states_BXD = layer.qkv(self.kernels.norm(hidden_BE, layer.input_norm, self.epsilon))
            states_BXD = states_BXD.view(len(slots_B), -1, self.head_size)
            seen = self.kernels.attend(states_BXD, rotation, layer.norms, index, states, draws, slots_B)
            hidden_BE = layer.output(seen, hidden_BE)
            gate_up_BF = layer.gate_up(self.kernels.norm(hidden_BE, layer.inner_norm, self.epsilon))
            hidden_BE = layer.down(self.kernels.gated(gate_up_BF), hidden_BE)
        return self.head(self.kernels.norm(hidden_BE, self.norm, self.epsilon))
