"""float32 masters: which run has them, what arrives in them, what a checkpoint holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from trl import GRPOConfig

from medr1.errors import ConfigError
from medr1.models.loading import load_model
from medr1.models.tiny import WARM_START
from medr1.train.arguments import ModelArguments
from medr1.train.masters import (
    Precision,
    expected_share,
    load_for_training,
    move_masters,
    precision,
    settle,
    stored_type,
    with_masters,
)

F32, BF16 = torch.float32, torch.bfloat16
SHARDED = {"fsdp": "full_shard", "fsdp_config": {"version": 2}}


def how(folder: Path, changes: dict[str, Any], **model: Any) -> Precision:
    config = GRPOConfig(str(folder), use_cpu=True, report_to=[], **({"bf16": True} | changes))
    return precision(config, ModelArguments(**model), WARM_START)


@pytest.mark.parametrize(
    ("changes", "model", "expected"),
    [
        ({}, {}, Precision(BF16, masters=True, autocast=False, final=BF16)),
        ({}, {"dtype": "auto"}, Precision(BF16, masters=True, autocast=False, final=BF16)),
        ({}, {"dtype": "bfloat16"}, Precision(BF16, masters=True, autocast=False, final=BF16)),
        ({"bf16": False}, {"dtype": "bfloat16"}, Precision(BF16, masters=True, autocast=False, final=BF16)),
        ({}, {"dtype": "float32"}, Precision(F32, masters=False, autocast=True, final=F32)),
        ({"bf16": False}, {}, Precision(F32, masters=False, autocast=False, final=F32)),
        ({}, {"use_peft": True}, Precision(BF16, masters=False, autocast=True, final=F32)),
        ({"bf16": False}, {"use_peft": True}, Precision(F32, masters=False, autocast=False, final=F32)),
        (SHARDED, {}, Precision(F32, masters=False, autocast=True, final=BF16)),
        (SHARDED, {"dtype": "bfloat16"}, Precision(BF16, masters=False, autocast=True, final=BF16)),
        (SHARDED | {"bf16": False}, {}, Precision(F32, masters=False, autocast=False, final=F32)),
    ],
)
def test_how_a_run_computes(
    changes: dict[str, Any], model: dict[str, Any], expected: Precision, tmp_path: Path
) -> None:
    assert how(tmp_path, changes, **model) == expected


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        (SHARDED | {"bf16": False, "learning_rate": 1e-6}, {"dtype": "bfloat16"}, r"1e-06 about 2\.\d %.*bf16 true"),
        (SHARDED | {"bf16": False, "learning_rate": 1e-4}, {"dtype": "bfloat16"}, r"0\.0001 about 7\d\.\d %"),
        ({}, {"dtype": "float16"}, "float16 weights without float32 masters"),
        ({}, {"dtype": "float8"}, "no dtype 'float8'"),
    ],
)
def test_a_lost_update_is_refused_with_its_share(
    changes: dict[str, Any], model: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        how(tmp_path, changes, **model)


def test_accelerate_is_told_how_a_run_computes(tmp_path: Path) -> None:
    config: Any = GRPOConfig(str(tmp_path), use_cpu=True, bf16=True, report_to=[])
    settle(config, Precision(BF16, masters=True, autocast=False, final=BF16))
    assert config.mixed_precision == "no"
    config = GRPOConfig(str(tmp_path), use_cpu=True, bf16=True, report_to=[], **SHARDED)
    settle(config, Precision(F32, masters=False, autocast=True, final=BF16))
    assert config.mixed_precision == "bf16"
    policy = config.fsdp_plugin_args["mixed_precision_policy"]
    # Log-probabilities leave the model as they are; gradients are summed wide.
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (BF16, F32, None)


def test_the_share_that_arrives() -> None:
    # Weights around 1e6 have bfloat16 neighbours of 4096 and more: nothing arrives.
    assert expected_share(1e-3, BF16, deviation=1e6) == 0
    assert expected_share(1e-6, F32) > 0.999
    shares = [expected_share(rate, BF16) for rate in (1e-7, 1e-6, 1e-5, 1e-4)]
    assert shares == sorted(shares)
    # Measured on a GPU: of AdamW's update at 1e-6 two weights in a hundred move.
    assert 0.005 < shares[1] < 0.03
    assert expected_share(0.0, BF16) == 1


def test_the_type_of_a_checkpoint_is_that_of_its_widest_tensor(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1, dtype=BF16), "n": torch.zeros(1, dtype=torch.int64)}, tmp_path / "1.safetensors")
    assert stored_type(tmp_path) == BF16
    save_file({"b": torch.zeros(1)}, tmp_path / "2.safetensors")
    assert stored_type(tmp_path) == F32


def test_wide_weights_are_kept_beside_the_rounded_ones() -> None:
    stored = dict(load_model(WARM_START, dtype=F32).named_parameters())
    model, exact = load_for_training(
        WARM_START, Precision(BF16, masters=True, autocast=False, final=BF16), attn_implementation="sdpa"
    )
    assert exact.keys() == stored.keys()
    for name, weight in model.named_parameters():
        assert weight.dtype == BF16
        torch.testing.assert_close(exact[name], stored[name].detach(), rtol=0, atol=0)
        torch.testing.assert_close(weight.detach(), stored[name].detach().to(BF16), rtol=0, atol=0)
    # Rounded frequencies would turn every query and key by another angle.
    assert all(buffer.dtype == F32 for name, buffer in model.named_buffers() if "inv_freq" in name)
    _, none = load_for_training(
        WARM_START, Precision(F32, masters=False, autocast=True, final=F32), attn_implementation="sdpa"
    )
    assert none == {}


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.frozen, self.wide = (nn.Linear(8, 8) for _ in range(3))
        self.tied = self.narrow


def test_masters_move_as_float32_weights_do() -> None:
    torch.manual_seed(0)
    model, reference = TwoLayers(), TwoLayers()
    reference.load_state_dict(model.state_dict())
    exact = {"narrow.weight": model.narrow.weight.detach().clone()}  # the bias starts from what it is rounded to
    model.narrow.to(BF16)
    model.frozen.to(BF16).requires_grad_(False)
    with torch.no_grad():
        reference.narrow.bias.copy_(model.narrow.bias)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    masters = move_masters(model, optimizer, exact)
    plain = torch.optim.AdamW([*reference.narrow.parameters(), *reference.wide.parameters()], lr=1e-6)
    assert masters.keys() == {"narrow.weight", "narrow.bias"}
    for _ in range(20):
        for weight, twin in zip(model.parameters(), reference.parameters(), strict=True):
            if weight.requires_grad:
                twin.grad = torch.randn(weight.shape)
                for _ in range(4):  # micro-batches, whose sum bfloat16 would round
                    weight.backward(twin.grad.to(weight.dtype) / 4)
                twin.grad = weight.grad.clone()
                assert weight.grad.dtype == F32
        optimizer.step()
        plain.step()
        model.zero_grad()
    for name, twin in reference.named_parameters():
        if name in masters:
            torch.testing.assert_close(masters[name], twin, rtol=0, atol=0)
            torch.testing.assert_close(dict(model.named_parameters())[name].detach(), twin.detach().to(BF16))
    torch.testing.assert_close(model.wide.weight, reference.wide.weight, rtol=0, atol=0)
    assert all(state["exp_avg"].dtype == F32 for state in optimizer.state.values())
    state = with_masters(model, masters)
    assert state["narrow.weight"] is state["tied.weight"] is masters["narrow.weight"]
    assert state["frozen.weight"].dtype == BF16


def test_gradients_add_up_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False).to(BF16)
    move_masters(model, torch.optim.SGD(model.parameters()), {})
    for _ in range(1000):
        model.weight.backward(torch.full((1, 1), 0.01, dtype=BF16))
    # In bfloat16 the sum stands still at 4, where its neighbours are 0.03 apart.
    assert model.weight.grad is not None
    assert float(model.weight.grad) == pytest.approx(10, rel=1e-3)


def test_moments_and_masters_stay_float32_through_a_resume(tmp_path: Path) -> None:
    def make() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(4, 4).to(BF16)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        move_masters(model, optimizer, {})
        return model, optimizer

    model, optimizer = make()
    model(torch.randn(2, 4, dtype=BF16)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    _, other = make()
    other.load_state_dict(torch.load(tmp_path / "optimizer.pt"))
    for one, two in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert two["exp_avg"].dtype == F32
        torch.testing.assert_close(one["exp_avg"], two["exp_avg"], rtol=0, atol=0)
