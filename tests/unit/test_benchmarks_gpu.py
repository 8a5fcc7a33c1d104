"""The GPU benchmark: its arithmetic against hand values and counted products, and the whole of it on a CPU."""

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medr1.engines import sampler
from medr1.engines.graphs import GraphDecoder
from medr1.models.shared.layers import multiply_patches
from medr1.models.tiny.tokenizer import train_tokenizer

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module; its neighbours are imported from its folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


@pytest.fixture
def shapes(gpu: Any) -> Any:
    return importlib.import_module("shapes")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer()


def small(shapes: Any, name: str) -> Any:
    return replace(
        shapes.SHAPES[name], hidden_size=64, num_heads=4, num_layers=2, intermediate_size=96, vocab_size=1000,
        vision_width=32, vision_depth=2, vision_heads=2, full_attention=(1,),
        vision_intermediate_size=128,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "layer", "kv_bytes"),
    [("qwen2-vl-2b", 2_208_985_600, 46_797_824, 28_672), ("qwen2.5-vl-3b", 3_754_622_976, 77_076_992, 36_864)],
)
def test_shapes_are_those_of_the_checkpoints(
    shapes: Any, tokenizer: Any, name: str, parameters: int, layer: int, kv_bytes: int
) -> None:
    shape = shapes.SHAPES[name]
    model = shapes.random_model(shape, tokenizer, device="meta", dtype="bfloat16")
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    first = model.model.language_model.layers[0]
    assert sum(weight.numel() for weight in first.parameters()) == shape.layer_parameters == layer
    assert 2 * shape.num_layers * shape.kv_size * 2 == kv_bytes
    heads = model.config.get_text_config().rope_parameters
    assert heads["mrope_section"] == [16, 24, 24]


def test_flops_and_bytes_of_one_layer_by_hand(shapes: Any) -> None:
    shape = replace(small(shapes, "qwen2-vl-2b"), num_layers=1, vision_depth=1, vocab_size=10)
    # q, k, v, o: 64 x (64 + 32 + 32 + 64); gate, up, down: 3 x 64 x 96.
    assert shape.layer_maps == 12_288 + 18_432
    # Prompt of 3, two completions of 2: 2 + 4 tokens; pairs 1 + 2 of the prompt and 2 x (3 + 4) of the completions.
    assert shapes.text_flops(shape, 3, 2, 2) == 2 * 30_720 * 6 + 4 * 64 * 17 + 2 * 64 * 10 * 4
    # Weights and biases 30,720 + 128 of q, k, v, norms 128; last norm and head 64 x 11; keys and values of 64 numbers.
    assert shapes.decode_bytes(shape, 30, 4, 10, 2) == 2 * (30_976 + 704 + 64 * (30 + 4 * 5))


def test_windows_of_the_vision_tower(shapes: Any) -> None:
    """28 x 28 patches are windows of 8, 8, 8 and 4 a side; attention is 4 x 32 a pair."""
    shape = replace(small(shapes, "qwen2.5-vl-3b"), vision_depth=2)
    windowed = shapes.vision_flops(replace(shape, full_attention=()), 28, 28)
    assert shapes.vision_flops(replace(shape, window=None), 28, 28) - windowed == 2 * 128 * (784**2 - 208**2)
    assert shapes.vision_flops(replace(shape, full_attention=(0,)), 28, 28) - windowed == 128 * (784**2 - 208**2)


@pytest.mark.parametrize("name", ["qwen2-vl-2b", "qwen2.5-vl-3b"])
def test_flops_are_those_of_the_products_that_run(shapes: Any, tokenizer: Any, name: str) -> None:
    """Against PyTorch's own count over a forward, attention apart: its kernels count hidden pairs too."""
    shape = replace(small(shapes, name), full_attention=(0, 1))
    model = shapes.random_model(shape, tokenizer, device="cpu", dtype="float32")
    multiply_patches(model)
    prompt, new = 7, 5
    with FlopCounterMode(display=False) as text:
        model(input_ids=torch.ones(1, prompt - 1 + new, dtype=torch.long), logits_to_keep=new)
    pairs = sum(range(1, prompt + new))
    assert products(text) == shapes.text_flops(shape, prompt, 1, new) - 2 * 4 * 64 * pairs
    with FlopCounterMode(display=False) as vision:
        model.model.visual(torch.zeros(8 * 12, 3 * 2 * 14 * 14), grid_thw=torch.tensor([[1, 8, 12]]))
    assert products(vision) == shapes.vision_flops(shape, 8, 12) - 2 * 4 * 32 * 96**2


def products(counter: FlopCounterMode) -> int:
    """FLOPs outside attention."""
    counts = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in counts.items() if "mm" in str(operation))


def test_an_update_is_three_forwards_of_every_prompt(shapes: Any) -> None:
    shape = small(shapes, "qwen2.5-vl-3b")
    grid = torch.tensor([[1, 8, 12], [1, 4, 4]])
    prompts = [
        SimpleNamespace(input_ids_L=torch.zeros(9), image_grid_thw=grid),
        SimpleNamespace(input_ids_L=torch.zeros(4), image_grid_thw=None),
    ]
    images = shapes.vision_flops(shape, 8, 12) + shapes.vision_flops(shape, 4, 4)
    text = shapes.text_flops(shape, 9, 2, 3) + shapes.text_flops(shape, 4, 2, 3)
    assert shapes.update_flops(shape, prompts, 2, 3) == 3 * (images + text)


def test_both_trainers_start_from_the_same_weights(shapes: Any, tokenizer: Any) -> None:
    one, two, other = (
        shapes.random_model(small(shapes, "qwen2-vl-2b"), tokenizer, device="cpu", dtype="float32", seed=seed)
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert one.lm_head.weight is one.model.language_model.embed_tokens.weight


def test_what_limits(gpu: Any) -> None:
    kernels = {"nvjet_tst_128x256": 0.5, "fmha_cutlassF_bf16": 0.2, "vectorized_elementwise_kernel": 0.3}
    assert gpu.limit(kernels, 1.2) == "matmul 50%, memory traffic 30%, attention 20% of device time"
    assert gpu.limit(kernels, 2.0) == "calls: the device works 50% of the time"
    assert "not known" in gpu.limit({}, 1.0)


def test_steps_stop_before_the_end(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([3.0, 6.0, 9.0])
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert len(gpu.repeated(lambda: {"step": 3.0}, 10, 10.0)) == 3  # a third one would end at 9, a fourth at 12
    assert len(gpu.repeated(lambda: {"step": 3.0}, 1, 10.0)) == 1


def test_shorter_micro_batches_where_memory_is_short(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def step_of(kind: str, shape: Any, options: Any, micro_prompts: int) -> Any:
        tried.append(micro_prompts)
        if micro_prompts > 2:
            raise torch.OutOfMemoryError
        return lambda: {"step": 1.0}

    monkeypatch.setattr(gpu, "step_of", step_of)
    gpu.fitting_step("trl", None, SimpleNamespace(prompts=12, micro_prompts=6, device="cpu"))
    assert tried == [6, 4, 3, 2]


@pytest.mark.parametrize("kind", ["shared", "trl"])
def test_a_rollout_is_drawn_once_and_learned_from_once(
    gpu: Any, shapes: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    options = SimpleNamespace(
        prompts=4, generations=4, tokens=3, side=56, words=1, top_p=1.0, device="cpu", dtype="float32",
        checkpointing=False,
    )  # fmt: skip
    step = gpu.step_of(kind, small(shapes, "qwen2-vl-2b"), options, 2)
    drawn, learned = [], []
    draw, loss = step.trainer._generate_and_score_completions, step.trainer._compute_loss

    def noting_draw(rows: Any) -> Any:
        drawn.append(draw(rows))
        return drawn[-1]

    def noting_loss(model: Any, inputs: Any) -> Any:
        learned.append(inputs)
        return loss(model, inputs)

    monkeypatch.setattr(step.trainer, "_generate_and_score_completions", noting_draw)
    monkeypatch.setattr(step.trainer, "_compute_loss", noting_loss)
    step(), step()
    assert [len(batch["completion_ids"]) for batch in drawn] == [16, 16]
    assert [len(batch["completion_ids"]) for batch in learned] == [8] * 4
    for key in ("completion_ids", "advantages"):
        ends = [sorted(torch.cat([batch[key] for batch in batches]).tolist()) for batches in (drawn, learned)]
        assert ends[0] == ends[1]
    assert all((batch["advantages"] != 0).all() for batch in learned)


def run(gpu: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    gpu.main()


def test_the_whole_on_a_cpu(
    gpu: Any, shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", small(shapes, "qwen2.5-vl-3b"))
    monkeypatch.setattr(gpu, "RUN_PROMPTS", 40)
    run(
        gpu, monkeypatch, "--models", "small", "--device", "cpu", "--dtype", "float32", "--side", "56", "--words", "1",
        "--prompts", "4", "--micro-prompts", "2", "--generations", "4", "--tokens", "3", "--share", "0.3",
        "--top-p", "0.9",
        "--profile", "--out", str(tmp_path / "gpu.json"),
    )  # fmt: skip
    result = json.loads((tmp_path / "gpu.json").read_text())
    model, machine = result["models"]["small"], result["machine"]
    assert (model["run_steps"], len(model["steps"]), model["run_share"], model["micro_prompts"]) == (10, 3, 0.3, 2)
    spent = sum(step["step"] for step in model["steps"]) + 7 * model["step"]
    assert model["run_minutes"] == pytest.approx(spent / 60)
    assert model["tokens_per_second"] == pytest.approx(4 * 4 * 3 / model["rollout"])
    assert model["decode_step"] * 2 == pytest.approx(model["decode"])
    read = shapes.decode_bytes(shapes.SHAPES["small"], round(4 * model["prompt_tokens"]), 16, 3, 4)
    assert model["decode_step_bytes"] == read
    rate = model["decode_step_bytes"] / model["decode_step"]
    assert model["decode_share"] == pytest.approx(rate / machine["copy_bandwidth"])
    assert model["update_mfu"] == pytest.approx(model["update_flops"] / model["update"] / machine["matmul_rate"])
    for part in ("rollout", "update", "step"):
        assert model[f"{part}_ratio"] == pytest.approx(model["trl"][part] / model[part])
    assert any("mm" in kernel for kernel in model["kernels"]["update"])
    printed = capsys.readouterr().out
    for label, _, text in gpu.ROWS:
        line = next(line for line in printed.splitlines() if line.startswith(label))
        assert line.endswith(text(model))
    assert "limited by" in printed
    assert "longest in an update step" in printed


@pytest.mark.parametrize(
    ("part", "there", "absent"),
    [
        ("decode", {"decode_share", "rollout"}, {"update_mfu", "trl", "run_minutes"}),
        ("update", {"update_mfu", "update"}, {"decode_share", "trl", "run_minutes"}),
        ("step", {"step", "step_ratio"}, {"decode_share", "update_mfu", "run_minutes"}),
    ],
)
def test_a_part_measures_what_it_is_about(
    gpu: Any, shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, there: set[str], absent: set[str]
) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", small(shapes, "qwen2-vl-2b"))
    run(
        gpu, monkeypatch, "--models", "small", "--device", "cpu", "--dtype", "float32", "--side", "56", "--words", "1",
        "--prompts", "2", "--micro-prompts", "2", "--generations", "2", "--tokens", "3", "--part", part,
        "--out", str(tmp_path / "gpu.json"),
    )  # fmt: skip
    model = json.loads((tmp_path / "gpu.json").read_text())["models"]["small"]
    assert there <= model.keys()
    assert not absent & model.keys()


def test_a_run_replays_its_lengths(
    shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole: Any = importlib.import_module("gpu_run")
    monkeypatch.setitem(shapes.SHAPES, "small", small(shapes, "qwen2-vl-2b"))
    monkeypatch.setattr(GraphDecoder, "decode", GraphDecoder.decode)  # both are changed by a run, and set back
    monkeypatch.setattr(GraphDecoder, "replay", GraphDecoder.replay)
    monkeypatch.setattr(sampler, "CAPTURED", sampler.CAPTURED)
    run(
        whole, monkeypatch, "--model", "small", "--device", "cpu", "--dtype", "float32", "--side", "56", "--words", "1",
        "--questions", "4", "--epochs", "1", "--prompts", "2", "--micro-prompts", "1", "--generations", "2",
        "--shortest", "2", "--longest", "5", "--out", str(tmp_path / "run.json"),
    )  # fmt: skip
    result = json.loads((tmp_path / "run.json").read_text())
    assert len(result["steps"]) == 2
    assert 8 * 2 <= result["completion_tokens"] <= 8 * 5
    logged = [float(mean) for mean in re.findall(r"'completions/mean_length': '([\d.]+)'", capsys.readouterr().out)]
    assert sum(4 * mean for mean in logged) == pytest.approx(result["completion_tokens"])
    assert result["ready"] < result["trained"] < result["saved"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(gpu, monkeypatch)
    assert "0 GPUs are visible, this is for one: set CUDA_VISIBLE_DEVICES, or --device cpu" in capsys.readouterr().err
