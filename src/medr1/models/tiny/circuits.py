"""Starting weights without which a two-layer model does not learn to answer multiple choice in minutes.

The hard part of a multiple-choice question is not the format but the look-up: having named the finding, return the
letter that stands before it among the options. Trained from random weights it stays at chance for 40,000 questions;
started from the induction circuit below it is learnt in 200 steps (see `docs/log.md`).
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

OFFSETS = (2, 1, 3)
"""How far the first heads of layer 0 look back: "A) cyst" has its letter two tokens before its text."""


def _rotate(vector: Tensor, angles: Tensor) -> Tensor:
    """Rotary embedding of a head vector by the given angles of its coordinate pairs."""
    first, second = vector.chunk(2)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()])


@torch.no_grad()
def look_back_heads(model: PreTrainedModel, *, theta: float, magnitude: float = 6.0, num_pairs: int = 6) -> None:
    """Heads of layer 0 start by attending a fixed distance back.

    Through biases alone: key bias u everywhere and query bias R(-d) u, so that the rotary positions make their product
    largest d tokens back. The weights stay random.
    """
    attention = model.model.language_model.layers[0].self_attn
    size = attention.head_dim
    per_key = attention.q_proj.out_features // attention.k_proj.out_features
    frequencies = theta ** (-torch.arange(size // 2) / (size // 2))
    direction = torch.zeros(size)
    direction[:num_pairs] = magnitude
    for head, offset in enumerate(OFFSETS):
        attention.q_proj.bias[head * size : (head + 1) * size] = _rotate(direction, -offset * frequencies)
        key = head // per_key
        attention.k_proj.bias[key * size : (key + 1) * size] = direction


@torch.no_grad()
def option_lookup(
    model: PreTrainedModel, *, theta: float, sharpness: float = 3.0, gain: float = 0.8, span: int = 24, seed: int = 3
) -> None:
    """An induction circuit: "find the token equal to the one two back of me, return what stands two back of it".

    Layer 0, head 0 (it looks two back) writes what it sees into a subspace of its own; layer 1, head 0 asks with
    that subspace, compares with the embeddings and returns the same subspace of the token that it found: at `<answer>`
    after `… cyst</think>` this is the letter of the option "cyst". Both subspaces are orthogonal, and the
    comparison uses only those coordinates that the rotary positions hardly turn within `span` tokens.
    """
    first, second = (layer.self_attn for layer in model.model.language_model.layers[:2])
    size, width = first.head_dim, first.q_proj.in_features
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, 2 * size, generator=generator))[0]
    read, write = basis.split(size, dim=1)
    frequencies = theta ** (-torch.arange(size // 2) / (size // 2))
    slow = (frequencies * span < 1).repeat(2)[:, None]
    first.v_proj.weight[:size] = gain * read.T
    first.v_proj.bias[:size] = 0
    first.o_proj.weight[:, :size] = write
    second.q_proj.weight[:size] = sharpness * write.T * slow
    second.q_proj.bias[:size] = 0
    second.k_proj.weight[:size] = sharpness * read.T * slow
    second.k_proj.bias[:size] = 0
    second.v_proj.weight[:size] = write.T
    second.o_proj.weight[:, :size] = read


@torch.no_grad()
def whitened_patches(model: PreTrainedModel, patches: Tensor, *, seed: int = 1) -> None:
    """The patch embedding starts as a whitening of the training patches, randomly rotated.

    Args:
        patches: (M, 3 · temporal · patch²) of training images, as the processor makes them.
    """
    weight = model.model.visual.patch_embed.proj.weight  # width, channel, frame, y, x
    width, channels, frames, patch, _ = weight.shape
    still = patches.view(len(patches), channels, frames, patch, patch)[:, :, 0].flatten(1)
    centred = still - still.mean(0)
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    variance, axes = variance.flip(0)[:width], axes.flip(1)[:, :width]
    whitening = (axes / (variance + 0.02 * variance[:20].mean()).sqrt()).T
    rotation = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
    kernel = (rotation @ whitening).view(width, channels, 1, patch, patch) / frames
    weight.copy_(kernel.expand_as(weight))
