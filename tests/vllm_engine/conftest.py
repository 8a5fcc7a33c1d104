"""Checkpoints and a server for the tests on vLLM. Where vLLM is not installed these tests do not exist."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB, plenty for tiny models
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # compiling takes longer than all that tiny models compute

SERVER_START = 300
"""Seconds that a server may take on a busy machine."""


@pytest.fixture(scope="session")
def vllm_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random tiny checkpoint of each family that is compared, with heads of a size that vLLM computes on a CPU."""
    import torch

    from medr1.models.loading import save_checkpoint
    from medr1.models.tiny.build import TinyShape, build_model, build_processor
    from medr1.models.tiny.tokenizer import train_tokenizer

    tokenizer = train_tokenizer()
    folders = {}
    for family in ("qwen2_vl", "qwen2_5_vl"):
        shape = TinyShape(family=family, hidden_size=128, num_heads=4, num_kv_heads=2)
        model = build_model(shape, tokenizer, seed=1)
        with torch.no_grad():  # answers should depend visibly on the image
            model.model.visual.merger.mlp[2].weight.mul_(8)
        folders[family] = tmp_path_factory.mktemp(f"vllm_{family}")
        save_checkpoint(model, build_processor(shape, tokenizer), folders[family])
    return folders


@pytest.fixture(scope="session")
def trained() -> Path:
    """The shipped warm start of the tiny model, which answers in the format that it is asked for."""
    from medr1.models.tiny import WARM_START

    return WARM_START


@dataclass(frozen=True)
class Server:
    base_url: str
    model: str


@pytest.fixture(scope="session")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM's own OpenAI server with the trained model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(trained)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--block-size", "32", "--limit-mm-per-prompt", '{"video": 0}']
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Server(base_url=f"http://127.0.0.1:{port}/v1", model="tiny")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SERVER_START
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"the server did not start:\n{log.read_text()[-3000:]}")
