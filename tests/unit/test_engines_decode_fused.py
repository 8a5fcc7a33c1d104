"""The written-out decoding step against the model's own forward, and the models that it leaves to that."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from medr1.engines import sampler
from medr1.engines.decode import SMALL_PRODUCT, FusedDecoder, ModelDecoder, SharedPrefixCache, can_fuse, is_small
from medr1.models.loading import load_model
from medr1.models.shared.attention import SHARED_PREFIX, attention_of
from medr1.models.shared.pack import backbone

PROMPTS, DRAWS, PROMPT_TOKENS = 2, 3, 7
MASK = torch.tensor([[1] * PROMPT_TOKENS, [0, 0, *[1] * (PROMPT_TOKENS - 2)]])
FAMILIES = ["qwen2_vl", "qwen2_5_vl"]


def cache_of(model: Any) -> SharedPrefixCache:
    config = backbone(model).language_model.config
    generator = torch.Generator().manual_seed(0)
    size = config.hidden_size // config.num_attention_heads
    shape = PROMPTS, config.num_key_value_heads, PROMPT_TOKENS, size
    layers = [
        SimpleNamespace(**{name: torch.randn(shape, generator=generator) for name in ("keys", "values")})
        for _ in range(config.num_hidden_layers)
    ]
    return SharedPrefixCache(SimpleNamespace(layers=layers), MASK, DRAWS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_the_step_of_the_model(checkpoints: dict[str, Path], family: str) -> None:
    model: Any = load_model(checkpoints[family]).eval()
    with torch.no_grad():  # of a fresh model they are all one or zero, and a forgotten one would not show
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.uniform_(0.5, 1.5)
    caches = cache_of(model), cache_of(model)
    decoders = FusedDecoder(model, caches[0]), ModelDecoder(model, caches[1])
    position_N = torch.tensor([9, 9, 9, 40, 40, 40])
    token_N = torch.tensor([5, 17, 40, 5, 60, 61])
    with torch.no_grad(), attention_of(backbone(model).language_model.config, SHARED_PREFIX):
        for step in range(4):
            for cache in caches:
                cache.advance()
            ours, wanted = (decoder(token_N, position_N + step) for decoder in decoders)
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
            token_N = wanted.argsort(-1)[:, -1 - step]
    for ours, wanted in zip(caches[0].states_2PKGSD, caches[1].states_2PKGSD, strict=True):
        torch.testing.assert_close(ours[..., :4, :], wanted[..., :4, :], rtol=1e-5, atol=1e-5)


class TestWhatIsFused:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_plain_model(self, checkpoints: dict[str, Path], family: str) -> None:
        assert can_fuse(load_model(checkpoints[family]))

    def test_not_a_narrow_type(self, checkpoints: dict[str, Path]) -> None:
        assert not can_fuse(load_model(checkpoints["qwen2_vl"], dtype="bfloat16"))

    def test_not_a_family_with_other_layers(self, checkpoints: dict[str, Path]) -> None:
        assert not can_fuse(load_model(checkpoints["qwen3_vl"]))

    def test_not_an_adapter(self, checkpoints: dict[str, Path]) -> None:
        from peft import LoraConfig, get_peft_model

        model = load_model(checkpoints["qwen2_vl"])
        adapted: Any = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
        assert not can_fuse(adapted)
        assert not can_fuse(adapted.base_model.model)

    def test_not_a_sliding_window(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        model.model.language_model.config.layer_types = ["full_attention", "sliding_attention"]
        assert not can_fuse(model)

    def test_not_another_activation(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        model.model.language_model.config.hidden_act = "gelu"
        assert not can_fuse(model)

    def test_not_a_hooked_layer(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        handle = model.model.language_model.layers[1].register_forward_hook(lambda *_: None)
        assert not can_fuse(model)
        handle.remove()
        assert can_fuse(model)

    def test_not_autocast(self, checkpoints: dict[str, Path]) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            model = Accelerator(cpu=True, mixed_precision="bf16").prepare(load_model(checkpoints["qwen2_vl"]))
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
        assert not can_fuse(model)

    def test_not_a_layer_with_a_forward_of_its_own(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        layer = model.model.language_model.layers[0].mlp
        layer.forward = layer.forward
        assert not can_fuse(model)

    def test_a_model_that_trl_has_given_its_fused_head(self, checkpoints: dict[str, Path]) -> None:
        model: Any = load_model(checkpoints["qwen2_vl"])
        model.forward = model.forward
        assert can_fuse(model)

    def test_not_another_model(self) -> None:
        assert not can_fuse(nn.Linear(2, 2))


def test_only_small_steps_on_a_processor_are_fused() -> None:
    config = SimpleNamespace(hidden_size=2**8, intermediate_size=2**10)
    rows = SMALL_PRODUCT // 2**18
    assert is_small(config, rows, torch.device("cpu"))
    assert not is_small(config, rows + 1, torch.device("cpu"))
    assert not is_small(config, rows, torch.device("cuda"))


@pytest.mark.parametrize(("policy", "sleeps"), [("PASSIVE", True), ("passive", True), ("ACTIVE", False), (None, False)])
def test_threads_sleep_where_openmp_is_told_so(
    monkeypatch: pytest.MonkeyPatch, policy: str | None, sleeps: bool
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert sampler.threads_sleep() is sleeps


def test_one_thread_inside_the_block_and_as_many_as_before_behind_it() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with sampler.decoding_threads(single=True):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with sampler.decoding_threads(single=False):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
