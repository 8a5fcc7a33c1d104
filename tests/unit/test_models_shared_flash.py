"""Packed rows by flash kernels, for which a stand-in in plain PyTorch stands here: the joining of their parts."""

from typing import Any

import pytest
import torch
from torch import Tensor

import flash_stand_in
from flash_stand_in import repeated, scores_of
from medr1.models.shared.flash import PackedFlash, Packing, Sequences, VariedAttention

SCALING = 0.3


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    flash_stand_in.install(monkeypatch)


def states(tokens: int, *, heads: int = 4, kv_heads: int = 2, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((tokens, heads, size), (tokens, kv_heads, size), (tokens, kv_heads, size))
    return [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in sizes]


def dense(inputs: list[Tensor], visible: Tensor) -> Tensor:
    query, key, value = inputs
    scores = scores_of(query, key, SCALING, False).masked_fill(~visible, -torch.inf)
    return torch.einsum("hts,shd->thd", scores.softmax(-1), repeated(value, query))


def same_with_gradients(ours: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    grad = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, wanted)
    for one, other in zip(*(torch.autograd.grad(x, inputs, grad) for x in (ours, wanted)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("prompts", "completions"),
    [([5], [[3]]), ([5, 2], [[3, 1, 4], [2, 2]]), ([1, 3, 2], [[1], [4, 0, 2], [7]])],
)
def test_completions_see_their_prompt_and_themselves(prompts: list[int], completions: list[list[int]]) -> None:
    flat = [(group, length) for group, some in enumerate(completions) for length in some]
    inputs = states(sum(prompts) + sum(length for _, length in flat))
    owner = [group for group, length in enumerate(prompts) for _ in range(length)]
    part = [0] * sum(prompts)
    for number, (group, length) in enumerate(flat, start=1):
        owner += [group] * length
        part += [number] * length
    same = torch.tensor(owner)[:, None] == torch.tensor(owner)
    seen = (torch.tensor(part)[:, None] == torch.tensor(part)) | (torch.tensor(part) == 0)
    visible = same & seen & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    packing = Packing.of(prompts, completions, torch.device("cpu"))
    ours: Any = PackedFlash.apply(*inputs, sum(prompts), packing, SCALING)
    same_with_gradients(ours, dense(inputs, visible), inputs)


@pytest.mark.parametrize("causal", [True, False])
def test_sequences_see_themselves(causal: bool) -> None:
    inputs = states(9)
    number = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 2])
    visible = number[:, None] == number
    visible = visible.tril() if causal else visible
    sequences = Sequences.of([3, 5, 1], torch.device("cpu"))
    ours: Any = VariedAttention.apply(*inputs, sequences, SCALING, causal)
    same_with_gradients(ours, dense(inputs, visible), inputs)


FORWARD = ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"]
BACKWARD = ["grad_out", "query", "key", "value", "out", "logsumexp", *FORWARD[3:], "rng_state", "unused"]


def test_the_kernels_are_called_as_this_pytorch_declares_them() -> None:
    wanted = {"forward": [*FORWARD, "return_debug_mask"], "backward": BACKWARD}
    for way, names in wanted.items():
        schema = getattr(torch.ops.aten, f"_flash_attention_{way}").default._schema
        assert [a.name for a in schema.arguments if not a.kwarg_only] == names
        assert "scale" in {a.name for a in schema.arguments if a.kwarg_only}
        if way == "forward":
            assert [r.name for r in schema.returns] == [
                "output", "softmax_logsumexp", "rng_state", "unused", "debug_attn_mask",
            ]  # fmt: skip
