"""Two processes take the same way as one: same completions, same weights after every step."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.models.loading import load_model
from medr1.models.tiny import WARM_START

SETTINGS = (
    "--prompt", "bare", "--use_cpu", "true", "--gradient_checkpointing", "false", "--report_to", "none",
    "--logging_steps", "1", "--max_steps", "3", "--learning_rate", "1e-2", "--seed", "5",
    "--dataloader_pin_memory", "false",
)  # fmt: skip
SAMPLING = ("--num_generations", "4", "--max_completion_length", "10")
PLAIN = ("-m", "medr1", "train", "grpo", *SAMPLING)
SHARDED = (str(Path(__file__).parents[1] / "fsdp_training.py"), "grpo", *SAMPLING)
NO_CHECKPOINTS = ("--optim", "sgd", "--save_strategy", "no")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def train(folder: Path, data: Path, processes: int, program: tuple[str, ...], *words: str) -> str:
    """Run a training that learns from 24 completions per step; returns what it printed."""
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", free_port()]
    command = [
        sys.executable, *(launch if processes > 1 else []), *program, *SETTINGS, *words,
        "--model_name_or_path", str(WARM_START), "--train_data", str(data), "--output_dir", str(folder),
    ]  # fmt: skip
    if processes > 1:
        command += ["--ddp_backend", "gloo", "--ddp_timeout", "300"]  # one that waits for the other fails
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final" / "model.safetensors")


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    start = load_file(WARM_START / "model.safetensors")
    moved = max((expected[name] - tensor).abs().max().item() for name, tensor in start.items())
    assert moved > 1e-4, "nothing was learned, so nothing was compared"
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_two_processes_equal_one(loss_type: str, tmp_path: Path) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="train", count=24))
    words = ["--loss_type", loss_type, *NO_CHECKPOINTS, "--per_device_train_batch_size"]
    train(tmp_path / "one", tmp_path / "data", 1, PLAIN, *words, "24")
    train(tmp_path / "two", tmp_path / "data", 2, PLAIN, *words, "12")
    assert_same_weights(weights(tmp_path / "two"), weights(tmp_path / "one"))


NARROW = ("--bf16", "true", "--optim", "sgd", "--save_strategy", "steps", "--save_steps", "1", "--max_steps", "1")


def distance(found: Path, expected: Path) -> float:
    """How far the masters of one run are from those of another, over the way that those went."""
    start, one, two = (load_file(folder / "model.safetensors") for folder in (WARM_START, expected, found))
    way = sum(float((one[name] - tensor).square().sum()) for name, tensor in start.items())
    assert way > 0, "nothing was learned, so nothing was compared"
    return (sum(float((two[name] - one[name]).square().sum()) for name in one) / way) ** 0.5


@pytest.mark.slow
def test_two_processes_with_masters_equal_one(tmp_path: Path) -> None:
    """bfloat16 weights, copied or sharded: gradients of all micro-batches of all processes are summed in float32."""
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="train", count=24))
    # Supervised: sampled completions differ where a bit does, and then all that follows.
    words = [*NARROW, "--gradient_accumulation_steps", "2", "--per_device_train_batch_size"]
    train(tmp_path / "one", tmp_path / "data", 1, (*PLAIN[:3], "sft"), *words, "12")
    train(tmp_path / "two", tmp_path / "data", 2, (*PLAIN[:3], "sft"), *words, "6")
    train(tmp_path / "shards", tmp_path / "data", 2, (SHARDED[0], "sft"), *words, "6", "--fsdp")
    expected = tmp_path / "one" / "checkpoint-1"
    for name in ("two", "shards"):
        masters = load_file(tmp_path / name / "checkpoint-1" / "model.safetensors")
        assert {tensor.dtype for tensor in masters.values()} == {torch.float32}
        assert {tensor.dtype for tensor in weights(tmp_path / name).values()} == {torch.bfloat16}
        assert load_model(tmp_path / name / "final").dtype == torch.bfloat16
        assert distance(tmp_path / name / "checkpoint-1", expected) < (0.01 if name == "two" else 0.04)  # autocast


@pytest.mark.slow
def test_two_processes_with_sharded_weights_equal_one(tmp_path: Path) -> None:
    """FSDP2, with completions that end at different steps on the two processes and two micro-batches per update."""
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="train", count=24))
    # An epsilon that large keeps AdamW from blowing up the rounding of gradients that are next to nothing.
    words = ("--loss_type", "dapo", "--optim", "adamw_torch", "--adam_epsilon", "1e-2", "--temperature", "1.3")
    train(tmp_path / "one", tmp_path / "data", 1, PLAIN, *words, "--per_device_train_batch_size", "24")
    expected = weights(tmp_path / "one")

    words += ("--per_device_train_batch_size", "6", "--gradient_accumulation_steps", "2", "--fsdp")
    words += ("--save_strategy", "steps", "--save_steps", "2")
    two = tmp_path / "two"
    proof = json.loads(train(two, tmp_path / "data", 2, SHARDED, *words).splitlines()[-1])
    assert not proof["whole"], "these weights were not sharded"
    assert not proof["fusable"], "the fused decoder would take a part of a weight for the whole"
    assert any(first != second for first, second in proof["longest"]), "choose other settings: both ended together"
    assert_same_weights(weights(two), expected)
    assert_same_weights(load_file(two / "checkpoint-3" / "model.safetensors"), expected)

    shutil.rmtree(two / "checkpoint-3")
    shutil.rmtree(two / "final")
    train(two, tmp_path / "data", 2, SHARDED, *words)
    assert_same_weights(weights(two), expected)
