"""The endpoint engine equals the engine on transformers, over a real server with the stock `generate` behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import medr1.cli
from faulty_server import FaultyServer
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.errors import ConfigError, EngineError
from medr1.models.tiny import WARM_START

SERVER = Path(__file__).resolve().parent.parent / "openai_server.py"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """Address of a server of the warm start, in a process of its own."""
    command = [sys.executable, str(SERVER), str(WARM_START)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        server.terminate()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(PhantomSettings(out=folder, split="test", count=10))
    return folder


def evaluated(model: str, data: Path, out: Path, *extra: str) -> tuple[dict[tuple, dict], dict]:
    """Predictions by their key, and results, of `medr1 eval`."""
    arguments = [
        "eval",
        model,
        "--data",
        str(data),
        "--out",
        str(out),
        "--max-new-tokens",
        "40",
        "--prompt",
        "bare",
        "--variants",
        "blank",
    ]
    result = CliRunner().invoke(medr1.cli.app, [*arguments, *extra])
    if result.exception is not None:
        raise result.exception
    lines = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    results = json.loads((out / "results.json").read_text())
    return {(line["id"], line["variant"], line["draw"]): line for line in lines}, results


def test_both_engines_give_the_same_predictions(server_url: str, data: Path, tmp_path: Path) -> None:
    local = evaluated(str(WARM_START), data, tmp_path / "local", "--dtype", "float32", "--device", "cpu")
    endpoint = ("--engine", "endpoint", "--base-url", server_url, "--cache", str(tmp_path / "cache"))
    served = evaluated("tiny", data, tmp_path / "served", *endpoint)
    receipts = [receipt for line in local[0].values() for receipt in line["images"]]
    assert all(receipt.pop("tokens") > 0 for receipt in receipts)
    unknown = [receipt.pop("tokens") for line in served[0].values() for receipt in line["images"]]
    assert unknown == [None] * 20, "this server does not tell how many tokens a picture became"
    assert served == local
    assert len({line["completion"] for line in local[0].values()}) > 5, "the answers do not depend on the question"
    assert len(local[0]) == 20, "ten questions and their blank twins"
    assert all(line["num_tokens"] > 5 for line in served[0].values())
    manifest = (tmp_path / "served" / "manifest.json").read_text()
    assert json.loads(manifest)["arguments"]["engine"] == {"engine": "endpoint", "model": "tiny", "dialect": "vllm"}
    assert "127.0.0.1" not in manifest


def test_the_cache_serves_another_run(server_url: str, data: Path, tmp_path: Path) -> None:
    cache = ("--cache", str(tmp_path / "cache"), "--variants", "")
    with FaultyServer(answer=lambda body: f"<answer>{'AB'[body['seed'] % 2]}</answer>") as server:
        endpoint = ("--engine", "endpoint", "--base-url", server.url, *cache)
        first = evaluated("m", data, tmp_path / "first", *endpoint)
        assert len(server.bodies) == 10
        assert evaluated("m", data, tmp_path / "second", *endpoint) == first
        assert len(server.bodies) == 10, "every answer came from the cache"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--engine", "endpoint"), "--engine endpoint needs an address; add --base-url"),
        (("--base-url", "http://127.0.0.1:9/v1"), "--engine transformers has no --base-url; .*--engine endpoint"),
        (("--requests-per-minute", "3"), "--engine transformers has no --requests-per-minute"),
        (("--engine", "endpoint", "--dtype", "float32"), "--engine endpoint has no --dtype"),
        (
            ("--engine", "endpoint", "--base-url", "http://127.0.0.1:9/v1", "--option-logprobs"),
            "--engine endpoint does not tell --option-logprobs",
        ),
    ],
)
def test_options_of_another_engine_are_refused(
    data: Path, tmp_path: Path, extra: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluated("tiny", data, tmp_path / "out", *extra)
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_is_found_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nobody answers at"):
        evaluated("tiny", data, tmp_path / "out", "--engine", "endpoint", "--base-url", "http://127.0.0.1:9/v1")
    assert not (tmp_path / "out").exists()
