"""Two processes take the same way as one: same completions, same weights after every step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medr1.data.phantom import write_phantoms
from medr1.models.tiny import WARM_START

SETTINGS = (
    "--prompt", "bare", "--use_cpu", "true", "--gradient_checkpointing", "false", "--report_to", "none",
    "--logging_steps", "1", "--num_generations", "4", "--max_completion_length", "10", "--max_steps", "3",
    "--learning_rate", "1e-2", "--optim", "sgd", "--save_strategy", "no", "--seed", "5",
    "--dataloader_pin_memory", "false",
)  # fmt: skip


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def train(folder: Path, data: Path, processes: int, loss_type: str) -> dict[str, torch.Tensor]:
    words = [
        "-m", "medr1", "train", "grpo", *SETTINGS, "--model_name_or_path", str(WARM_START), "--train_data", str(data),
        "--per_device_train_batch_size", str(24 // processes), "--loss_type", loss_type, "--output_dir", str(folder),
    ]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", free_port()]
    command = [sys.executable, *(launch if processes > 1 else []), *words]
    if processes > 1:
        command += ["--ddp_backend", "gloo"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(folder / "final" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_two_processes_equal_one(loss_type: str, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", "train", 24)
    one = train(tmp_path / "one", tmp_path / "data", 1, loss_type)
    two = train(tmp_path / "two", tmp_path / "data", 2, loss_type)
    start = load_file(WARM_START / "model.safetensors")
    moved = max((one[name] - tensor).abs().max().item() for name, tensor in start.items())
    assert moved > 1e-4, "nothing was learned, so nothing was compared"
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
