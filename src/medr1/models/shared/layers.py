"""Norms, rotary embeddings, gated units, patches and the attention of vision towers, in fewer calls and passes.

Modules of transformers spell these out operation by operation, and each operation is a pass over the activations, with
two or three more in the backward. Here each is one function whose gradient is written out: the same function up to
rounding, in half the time or with less memory. On a CPU in float32 they are PyTorch's operations; on a GPU, where calls
are what a step waits for, one kernel each. Parameters, their names and the names of the classes stay.

Axes: E width of the states, D head size, F width of a feed-forward part; the others do not matter.
"""

import importlib
from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu
from transformers.activations import SiLUActivation

from medr1.models.shared.flash import Sequences, VariedAttention, flash_fits

GPU_TYPES = {torch.float32, torch.bfloat16, torch.float16}
"""Types that the kernels of a GPU take."""


@cache
def triton_kernels(module: str) -> ModuleType | None:
    """A module of kernels, where Triton is installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _gpu_kernels() -> ModuleType | None:
    return triton_kernels("medr1.models.shared.kernels")


class RootMeanSquareNorm(torch.autograd.Function):
    """`weight` times the states over their root mean square (Zhang and Sennrich 2019, equation 4).

    Arguments: states (…, E), weight (E), and what is added to the mean square.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # type: ignore[override]
        """See the class."""
        if states.is_cuda:
            rows = states.contiguous()
            out, inverse = kernels().norm(rows.view(-1, len(weight)), weight, epsilon)
            ctx.save_for_backward(rows, inverse, weight)
            return out.view(states.shape)
        norm = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        inverse = norm.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        normed = states * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of states and weight."""
        normed, inverse, weight = ctx.saved_tensors
        width = len(weight)
        if normed.is_cuda:  # then these are the states
            rows = normed.view(-1, width)
            back = kernels().norm_back(grads[0].contiguous().view(rows.shape), rows, weight, inverse)
            return back[0].view(normed.shape), back[1], None
        grad_states = grad_weight = None
        product_NE = (grads[0] * normed).reshape(-1, width)
        if ctx.needs_input_grad[0]:
            along = (product_NE @ weight).div_(-width).view(inverse.shape)
            grad_states = (grads[0] * weight).addcmul_(normed, along).mul_(inverse)
        if ctx.needs_input_grad[1]:
            grad_weight = (product_NE.new_ones(1, len(product_NE)) @ product_NE)[0]
        return grad_states, grad_weight, None


class RotaryEmbedding(torch.autograd.Function):
    """States (…, D) turned by angles: the first half of D pairs with the second (Su et al. 2021, equation 34).

    Arguments: states, cosine and sine, which broadcast to them and need no gradient.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:  # type: ignore[override]
        """See the class."""
        ctx.save_for_backward(cosine, sine)
        first, second = sine.chunk(2, -1)
        return _turned(states, cosine, -first, second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradient of the states: turned back."""
        cosine, sine = ctx.saved_tensors
        first, second = sine.chunk(2, -1)
        return _turned(grads[0], cosine, second, -first), None, None


def _turned(states: Tensor, cosine: Tensor, to_first: Tensor, to_second: Tensor) -> Tensor:
    """The states times the cosine, and of each half the other half times a sine."""
    turned = states * cosine
    for target, source, sine in zip(turned.chunk(2, -1), states.chunk(2, -1)[::-1], (to_first, to_second), strict=True):
        target.addcmul_(source, sine)
    return turned


class TokenRotation(torch.autograd.Function):
    """The same by one kernel: heads (T, H, D) turned by the angles of their token, cosine and sine (T, D)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:  # type: ignore[override]
        """See the class."""
        ctx.save_for_backward(cosine, sine)
        return cast(Tensor, kernels().turn(_heads_together(states), cosine, sine))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradient of the states: turned back."""
        return kernels().turn(_heads_together(grads[0]), *ctx.saved_tensors, back=True), None, None


def _heads_together(states_THD: Tensor) -> Tensor:
    """The states with the heads of a token side by side in memory."""
    _, heads, size = states_THD.shape
    return states_THD if states_THD.stride()[1:] == (size, 1) or heads == 0 else states_THD.contiguous()


class GatedUnit(torch.autograd.Function):
    """SiLU of the gate times the other states, both (…, F) (Shazeer 2020, equation 6), without keeping the SiLU."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        """See the class."""
        if gate.is_cuda:
            gate, other = gate.contiguous(), other.contiguous()
            ctx.save_for_backward(gate, other)
            return cast(Tensor, kernels().gate(gate, other))
        ctx.save_for_backward(gate, other)
        return silu(gate).mul_(other)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of gate and other states."""
        gate, other = ctx.saved_tensors
        if gate.is_cuda:
            return cast(tuple[Tensor, Tensor], kernels().gate_back(grads[0].contiguous(), gate, other))
        grad_gate = grads[0] * other
        torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_gate, silu(gate).mul_(grads[0])


class PatchProduct(nn.Conv3d):
    """The embedding of image patches as the matrix product that it is: the kernel covers the whole patch.

    Inputs (N, C, T, H, W) of exactly the kernel's size, output (N, E, 1, 1, 1). Several times as fast as a general
    convolution, above all backward.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        assert input.shape[2:] == self.weight.shape[2:], "a patch is as large as the kernel"
        return linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


def multiply_patches(model: nn.Module) -> None:
    """Let the patch embeddings of a model be products; parameters and their names stay."""
    for module in model.modules():
        if type(module) is nn.Conv3d and module.stride == module.kernel_size:
            module.__class__ = PatchProduct


HEADS_AXES = {"apply_rotary_pos_emb": 1, "apply_rotary_pos_emb_vision": -2}
"""The functions by which attentions of transformers turn their states, and where cosines get an axis for the heads."""


def lighten(model: nn.Module) -> None:
    """Let norms, attentions and feed-forward parts of a model of transformers use these functions where they can."""
    for module in model.modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.__class__ = _lean_norm(kind)
        elif any(name in HEADS_AXES for name in _code(kind).co_names):
            module.__class__ = _lean_attention(kind)
        elif isinstance(getattr(module, "act_fn", None), SiLUActivation) and "up_proj" in _code(kind).co_names:
            module.__class__ = _lean_feed_forward(kind)


def _code(kind: type[nn.Module]) -> CodeType:
    code: CodeType = kind.forward.__code__
    return code


def _fit(*tensors: Tensor) -> bool:
    """Whether all are of one type and on a device for which the functions were measured.

    The modules compute in float32 whatever they are given, so in float64 the result would be another one.
    """
    first = tensors[0]
    if first.is_cuda:
        # Triton launches on the current device, whatever device the tensors are on.
        here = first.device.index == torch.cuda.current_device() and first.dtype in GPU_TYPES
        alike = all(x.device == first.device and x.dtype == first.dtype for x in tensors)
        return here and alike and _gpu_kernels() is not None
    return all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)


def kernels() -> Any:
    """The kernels of a GPU; the caller has asked whether there are any."""
    found = _gpu_kernels()
    assert found is not None, "_fit comes first"
    return found


@cache
def _lean_norm(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass, under the same name."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if _fit(hidden_states, self.weight):
            return cast(Tensor, RootMeanSquareNorm.apply(hidden_states, self.weight, self.variance_epsilon))
        return cast(Tensor, kind.forward(self, hidden_states))

    return type(kind.__name__, (kind,), {"forward": forward})


@cache
def _lean_attention(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass, under the same name, whose forward is the same code with another rotary function in its module."""
    plain: Any = kind.forward
    scope = plain.__globals__
    names = HEADS_AXES.keys() & set(_code(kind).co_names)
    rotary = {name: _fused_rotary(scope[name], HEADS_AXES[name]) for name in names}
    forward: Any = FunctionType(_code(kind), scope | rotary, plain.__name__, plain.__defaults__, plain.__closure__)
    if "cu_seqlens" in _code(kind).co_varnames:
        forward = _varied_attention(forward, rotary["apply_rotary_pos_emb_vision"])
    return type(kind.__name__, (kind,), {"forward": forward})


def _varied_attention(plain: Callable[..., Tensor], rotary: Callable[..., Any]) -> Callable[..., Tensor]:
    """The forward of a vision tower's attention over several images in one call.

    That of transformers asks the device for the lengths of the images three times a layer, and waits each time.
    """

    def forward(self: Any, hidden_states: Tensor, cu_seqlens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        angles = kwargs.get("position_embeddings")
        if args or angles is None or not (hidden_states.is_cuda and hasattr(self, "qkv")):
            return plain(self, hidden_states, cu_seqlens, *args, **kwargs)
        states = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
        if not flash_fits(states):
            return plain(self, hidden_states, cu_seqlens, *args, **kwargs)
        query, key, value = states.unbind(1)
        query, key = rotary(query, key, *angles)
        sequences = Sequences(cu_seqlens, _longest(cu_seqlens))
        seen: Any = VariedAttention.apply(query, key, value, sequences, self.scaling, False)
        return self.proj(seen.flatten(1))

    return forward


def _longest(ends: Tensor) -> int:
    """Length of the longest sequence; asked of the device once for all layers, which are given the same tensor."""
    known: int | None = getattr(ends, "longest", None)
    if known is None:
        known = int(ends.diff().max())
        ends.longest = known  # type: ignore[attr-defined]
    return known


def _fused_rotary(original: Callable[..., Any], heads_axis: int) -> Callable[..., Any]:
    """The rotary function of a module of transformers."""

    def rotary(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Any, Any]:
        if query.is_cuda and _fit(query, key) and cosine.dtype == sine.dtype:
            query, key = (_turned_tokens(states, cosine, sine, heads_axis) for states in (query, key))
            return query, key
        if not _fit(query, key, cosine, sine):
            return original(query, key, cosine, sine)
        angles = cosine.unsqueeze(heads_axis), sine.unsqueeze(heads_axis)
        return RotaryEmbedding.apply(query, *angles), RotaryEmbedding.apply(key, *angles)

    return rotary


def _turned_tokens(states: Tensor, cosine: Tensor, sine: Tensor, heads_axis: int) -> Tensor:
    """States, their heads along an axis, turned by the angles of their tokens."""
    by_token = states.transpose(1, 2) if heads_axis == 1 else states
    size = states.shape[-1]
    angles = (angle.expand(*by_token.shape[:-2], size).reshape(-1, size) for angle in (cosine, sine))
    turned: Any = TokenRotation.apply(by_token.flatten(0, -3), *angles)
    turned = turned.view(by_token.shape)
    return turned.transpose(1, 2) if heads_axis == 1 else turned


@cache
def _lean_feed_forward(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass, under the same name."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        gate, other = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        if _fit(gate, other):
            return cast(Tensor, self.down_proj(GatedUnit.apply(gate, other)))
        return cast(Tensor, self.down_proj(self.act_fn(gate) * other))

    return type(kind.__name__, (kind,), {"forward": forward})
