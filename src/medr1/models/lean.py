"""Norms, rotary embeddings and gated units on a CPU, in fewer passes over memory.

Modules of transformers spell these out operation by operation, and each operation is a pass over the activations, with
two or three more in the backward. Here each is one function whose gradient is written out: the same function up to
rounding, in half the time or with less memory. Parameters, their names and the names of the classes stay.

Axes: E width of the states, D head size, F width of a feed-forward part; the others do not matter.
"""

from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu
from transformers.activations import SiLUActivation


class RootMeanSquareNorm(torch.autograd.Function):
    """`weight` times the states over their root mean square (Zhang and Sennrich 2019, equation 4).

    Arguments: states (…, E), weight (E), and what is added to the mean square.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # type: ignore[override]
        """See the class."""
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


class GatedUnit(torch.autograd.Function):
    """SiLU of the gate times the other states, both (…, F) (Shazeer 2020, equation 6), without keeping the SiLU."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        """See the class."""
        ctx.save_for_backward(gate, other)
        return silu(gate).mul_(other)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of gate and other states."""
        gate, other = ctx.saved_tensors
        grad_gate = grads[0] * other
        torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_gate, silu(gate).mul_(grads[0])


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
    """Whether all are of the type and the device for which the functions were measured.

    The modules compute in float32 whatever they are given, so in float64 the result would be another one.
    """
    return all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)


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
    rotary = {name: _lean_rotary(scope[name], HEADS_AXES[name]) for name in names}
    forward = FunctionType(_code(kind), scope | rotary, plain.__name__, plain.__defaults__, plain.__closure__)
    return type(kind.__name__, (kind,), {"forward": forward})


def _lean_rotary(original: Callable[..., Any], heads_axis: int) -> Callable[..., Any]:
    """The rotary function of a module of transformers."""

    def rotary(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Any, Any]:
        if not _fit(query, key, cosine, sine):
            return original(query, key, cosine, sine)
        angles = cosine.unsqueeze(heads_axis), sine.unsqueeze(heads_axis)
        return RotaryEmbedding.apply(query, *angles), RotaryEmbedding.apply(key, *angles)

    return rotary


@cache
def _lean_feed_forward(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass, under the same name."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        gate, other = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        if _fit(gate, other):
            return cast(Tensor, self.down_proj(GatedUnit.apply(gate, other)))
        return cast(Tensor, self.down_proj(self.act_fn(gate) * other))

    return type(kind.__name__, (kind,), {"forward": forward})
