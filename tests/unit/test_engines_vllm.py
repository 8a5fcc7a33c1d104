"""What has to hold about vLLM where it is not installed; with it, see `tests/vllm_engine`."""

from pathlib import Path

import pytest
from trl import GRPOConfig
from typer.testing import CliRunner

import medr1.engines.vllm as vllm_engine
from medr1.cli import app
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.vllm import VllmEngine, checkpoint_dtype, engine_settings, generation_settings
from medr1.errors import ConfigError, EngineError
from medr1.models.tiny import WARM_START
from medr1.train.vllm import check_vllm, collapsed


@pytest.fixture
def _no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "PACKAGE", "a_package_that_nobody_has")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(PhantomSettings(out=folder, split="test", count=2))
    return folder


@pytest.mark.usefixtures("_no_vllm")
def test_a_missing_package_is_one_line_that_names_the_mend(data: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="vLLM is not installed; install vllm"):
        VllmEngine(WARM_START)
    with pytest.raises(EngineError, match="vLLM is not installed"):
        check_vllm(GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, use_vllm=True))
    check_vllm(GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False))
    command = ["eval", str(WARM_START), "--engine", "vllm", "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", "--dtype", "float32"])
    assert isinstance(result.exception, EngineError)


def test_options_of_other_engines_are_refused(data: Path, tmp_path: Path) -> None:
    command = ["eval", str(WARM_START), "--data", str(data), "--out", str(tmp_path / "out")]
    for options, flag in (
        (["--engine", "vllm", "--base-url", "http://127.0.0.1:1/v1"], "--base-url"),
        (["--engine", "vllm", "--cache", str(tmp_path)], "--cache"),
        (["--engine", "endpoint", "--base-url", "http://127.0.0.1:1/v1", "--dtype", "float32"], "--dtype"),
    ):
        result = CliRunner().invoke(app, [*command, *options])
        assert isinstance(result.exception, ConfigError)
        assert f"--engine {options[1]} has no {flag}" in str(result.exception)
    result = CliRunner().invoke(app, [*command, "--engine", "vllm", "--option-logprobs"])
    assert isinstance(result.exception, ConfigError)


def test_one_placeholder_stays_of_every_image() -> None:
    image = 9
    assert collapsed([], image) == []
    assert collapsed([1, 2, 2, 3], image) == [1, 2, 2, 3]
    assert collapsed([9, 9, 1, 9, 2, 2], image) == [9, 1, 9, 2, 2]


def test_settings_are_explicit_and_the_checkpoints(checkpoints: dict[str, Path]) -> None:
    assert engine_settings("cuda", "bfloat16") == {
        "dtype": "bfloat16",
        "limit_mm_per_prompt": {"video": 0},
        "generation_config": "vllm",
    }
    assert engine_settings("cpu", "float32")["enforce_eager"]
    for folder in checkpoints.values():
        assert checkpoint_dtype(folder) == "float32"
        assert isinstance(generation_settings(folder).eos_token_id, int)
