"""Settings that cannot work end in one line before weights are read, whichever library refuses them."""

import copy
import logging
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from trl import GRPOConfig, ModelConfig, SFTConfig

from medr1.cli import main
from medr1.data.phantom import phantom, write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.errors import ConfigError
from medr1.models.loading import load_processor
from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.prompts import PROMPTS
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.dataset import TrainingRows
from medr1.train.preflight import UNHEEDED, check_processes, check_settings
from medr1.train.rehearsal import narrow_network, rehearse

TINY = dict(
    model_name_or_path=str(WARM_START), use_cpu=True, bf16=False, prompt="bare", per_device_train_batch_size=8,
    max_steps=2, report_to="none",
)  # fmt: skip
GRPO = TINY | dict(num_generations=4, max_completion_length=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(PhantomSettings(out=folder, split="train", count=12))
    return folder


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", read)


@pytest.fixture
def command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a recipe and flags by `medr1 train`; the line that it ends with."""

    def run(kind: str, recipe: Any, flags: list[str]) -> str:
        settings = GRPO if kind == "grpo" else TINY
        text = recipe if isinstance(recipe, str) else yaml.safe_dump(settings | recipe)
        (tmp_path / "recipe.yaml").write_text(text)
        words = ["--config", tmp_path / "recipe.yaml", "--train_data", data, "--output_dir", tmp_path / "run", *flags]
        monkeypatch.setattr(sys, "argv", ["medr1", "train", kind, *map(str, words)])
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            with pytest.raises(SystemExit) as end:
                main()
        seen = capsys.readouterr().err
        assert end.value.code == 1, seen
        lines = seen.strip().splitlines()
        assert len(lines) == 1, seen
        assert lines[0].startswith("medr1: ")
        return lines[0]

    return run


MISSING = "/no/such/file.json"


@pytest.mark.parametrize(
    ("kind", "recipe", "flags", "words"),
    [
        # Trackers
        ("grpo", {"report_to": "nope"}, [], "report_to 'nope' is no experiment tracker; choose none, azure_ml"),
        ("sft", {"report_to": ["nope"]}, [], "report_to 'nope'"),
        *(
            ("grpo", {}, ["--report_to", name], f"report_to {name}: its package is not installed")
            for name in ("wandb", "tensorboard", "trackio", "mlflow", "neptune", "azure_ml", "flyte")
        ),
        # Packages and files
        ("grpo", {}, ["--deepspeed", MISSING], f"there is no file {MISSING}"),
        ("grpo", {"deepspeed": {"zero_optimization": {"stage": 2}}}, [], "The 'deepspeed>=.* found .*; install it"),
        ("grpo", {"accelerator_config": MISSING}, [], "accelerator_config: there is no file"),
        ("grpo", {"use_liger_kernel": True}, [], "use_liger_kernel needs the package liger-kernel"),
        ("grpo", {"optim": "adamw_8bit"}, [], "bitsandbytes"),
        ("sft", {"optim": "ademamix"}, [], "bitsandbytes"),
        # Values of a wrong type
        ("grpo", {"beta": None}, [], "the recipe's beta None does not fit"),
        ("grpo", {"learning_rate": [1]}, [], r"learning_rate \[1\] does not fit: input should be a valid number"),
        ("sft", {"learning_rate": "fast"}, [], "learning_rate 'fast'"),
        ("grpo", {"num_generations": None}, [], "num_generations None"),
        ("grpo", {"limit": [3]}, [], "limit"),
        ("grpo", {"train_images": "grey"}, [], "'real', 'blank' or 'shuffled'"),
        ("grpo", {"log_level": "loud"}, [], "log_level 'loud' is unknown"),
        ("grpo", {"generation_kwargs": "hot"}, [], "generation_kwargs 'hot' is no JSON object"),
        ("grpo", {}, ["--lr_scheduler_kwargs", "hot"], "lr_scheduler_kwargs 'hot' is no JSON object"),
        ("grpo", {"lr_scheduler_kwargs": '{"a"'}, [], "grpo: "),
        ("grpo", {"use_vllm": [True]}, [], "use_vllm"),
        ("grpo", "- a\n- b\n", [], "YAML mapping"),
        ("grpo", "a: b: c\n", [], "no valid YAML"),
        ("grpo", "1: 2\n", [], "strings"),
        ("grpo", {"learning_rat": 1}, [], "learning_rat"),
        # Values that are impossible
        ("grpo", {"seed": -1}, [], "seed -1 is no seed"),
        ("sft", {"seed": 2**32}, [], "is no seed"),
        ("grpo", {"per_device_train_batch_size": 0}, [], "per_device_train_batch_size is 0; take at least 1"),
        ("sft", {"limit": 0}, [], "limit is 0"),
        ("grpo", {"learning_rate": -1.0}, [], "Invalid learning rate: -1.0"),
        ("grpo", {"num_iterations": 0}, [], "num_iterations is 0"),
        # Names
        ("grpo", {"loss_type": "nope"}, [], "loss_type 'nope' is unknown; choose one of grpo"),
        ("sft", {"loss_type": "nope"}, [], "loss_type 'nope' is unknown; choose one of nll, dft"),
        ("grpo", {"importance_sampling_level": "nope"}, [], "importance_sampling_level 'nope'"),
        ("grpo", {"scale_rewards": "nope"}, [], "scale_rewards 'nope'"),
        ("grpo", {"multi_objective_aggregation": "nope"}, [], "multi_objective_aggregation 'nope'"),
        ("grpo", {"vllm_importance_sampling_mode": "nope"}, [], "vllm_importance_sampling_mode 'nope'"),
        ("grpo", {"vllm_mode": "nope"}, [], "vllm_mode 'nope'"),
        ("grpo", {"loss_type": "vespo", "use_vllm": True}, [], "vllm_importance_sampling_mode token_truncate or"),
        ("grpo", {"optim": "nope"}, [], "nope is not a valid OptimizerNames, please select one of"),
        ("grpo", {"lr_scheduler_type": "nope"}, [], "nope is not a valid SchedulerType"),
        ("grpo", {"eval_strategy": "nope"}, [], "nope is not a valid IntervalStrategy"),
        ("grpo", {"cache_implementation": "nope"}, [], "cache_implementation"),
        # Settings that do not go together
        ("grpo", {"reward_funcs": []}, [], "no reward"),
        ("grpo", {"reward_weights": [1.0]}, [], r"Number of reward weights \(1\) must match .* \(2\)"),
        ("grpo", {"eval_strategy": "steps"}, [], "eval_strategy steps has nothing to evaluate on"),
        ("sft", {"eval_strategy": "epoch"}, [], "eval_strategy epoch has nothing"),
        ("grpo", {"eval_strategy": "steps", "eval_data": "/no/such/data"}, [], "/no/such/data does not exist"),
        ("grpo", {"use_peft": True, "lora_target_modules": ["lm_head"], "cast_lm_head_to_fp32": True}, [], "lm_head"),
        ("sft", {"use_peft": True, "lora_target_modules": ["q_proj", "lm_head"]}, [], "lm_head"),
        ("grpo", {"use_peft": True, "lora_r": 0}, [], "lora_r is 0"),
        ("grpo", {"num_generations": 0}, [], "take at least 2"),
        ("grpo", {"use_peft": True, "lora_modules_to_save": ["nope"]}, [], "lora_modules_to_save: 'nope'"),
        ("grpo", {"dataloader_num_workers": -1}, [], "num_workers"),
        ("grpo", {"optim_args": "nope"}, [], "training cannot start"),
        ("grpo", {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}, [], "lr_end"),
        ("grpo", {"lr_scheduler_kwargs": {"nope": 1}}, [], "nope"),
        ("grpo", {"use_transformers_continuous_batching": True}, [], "does not support multimodal models"),
        ("grpo", {"router_aux_loss_coef": 0.1}, [], "Mixture-of-Experts"),
        ("grpo", {"fsdp": True}, [], "torchrun --nproc_per_node 2"),
        ("sft", {"packing": True}, [], "Packing is not supported for vision datasets"),
        ("sft", {"eos_token": "<nope>"}, [], "<nope>"),
        # What TRL's ModelConfig has and medr1 does not heed
        ("grpo", {"model_revision": "v2"}, [], "model_revision v2 has no effect: download that revision"),
        ("grpo", {"load_in_8bit": True}, [], "load_in_8bit True has no effect"),
        ("sft", {}, ["--load_in_4bit", "true"], "load_in_4bit True has no effect"),
        ("sft", {"lora_task_type": "SEQ_CLS"}, [], "lora_task_type SEQ_CLS has no effect"),
    ],
)  # fmt: skip
def test_one_line(command: Any, kind: str, recipe: Any, flags: list[str], words: str) -> None:
    line = command(kind, recipe, flags)
    assert re.search(words, line), line


def settings(kind: str, folder: Path, **changes: Any) -> tuple[DataArguments, Any, ModelArguments]:
    common = dict(output_dir=str(folder), use_cpu=True, bf16=False, report_to=[]) | changes
    if kind == "sft":
        return DataArguments(prompt="bare"), SFTConfig(**common), ModelArguments()
    config = GRPOConfig(num_generations=4, per_device_train_batch_size=8, **common)
    return GRPOArguments(prompt="bare"), config, ModelArguments()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["grpo", "sft"])
@pytest.mark.parametrize("lora", [False, True])
def test_a_rehearsal_of_what_works_says_nothing_and_leaves_nothing(
    checkpoints: dict[str, Path], tmp_path: Path, kind: str, family: str, lora: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoints[family]
    changes: dict[str, Any] = {"truncation_mode": "keep_end"}  # of no meaning where nothing is cut
    if kind == "grpo":
        changes = {"importance_sampling_level": "sequence", "beta": 0.1}  # warned of; with a reference model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script, config, _ = settings(
            kind, tmp_path / "run", gradient_checkpointing_kwargs={"selective": False}, **changes
        )
    rows = TrainingRows([phantom("train", 0).sample], PROMPTS["bare"], seed=0, extra=with_completion).dataset()
    before, processor = copy.deepcopy(config.to_dict()), load_processor(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rehearse(script, config, ModelArguments(use_peft=lora), folder, processor, rows, None)
    assert config.to_dict() == before
    assert not (tmp_path / "run").exists()
    assert not caplog.records, "the run itself will warn"
    assert not AcceleratorState._shared_state, "an accelerator of other settings can follow"
    logging.getLogger("medr1").warning("said")
    assert caplog.messages == ["said"]


def with_completion(sample: Any) -> dict[str, Any]:
    return {"completion": [{"role": "assistant", "content": [{"type": "text", "text": "<answer>A</answer>"}]}]}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_of_a_rehearsal_has_the_modules_of_the_checkpoint(
    checkpoints: dict[str, Path], family: str
) -> None:
    config = AutoConfig.from_pretrained(checkpoints[family])
    with torch.device("meta"):
        real = AutoModelForImageTextToText.from_config(config)
    narrow = narrow_network(checkpoints[family])
    assert [name for name, _ in narrow.named_modules()] == [name for name, _ in real.named_modules()]
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in real.parameters()) / 2


def test_one_process_trains_on_one_gpu(tmp_path: Path) -> None:
    _, config, _ = settings("sft", tmp_path)
    check_processes(config)
    config._n_gpu = 4
    with pytest.raises(
        ConfigError, match=r"sees 4 GPUs.*torchrun --nproc_per_node 4 -m medr1 train.*CUDA_VISIBLE_DEVICES=0"
    ):
        check_processes(config)


@pytest.mark.parametrize(("stage", "lora", "warns"), [(3, True, True), (2, True, False), (3, False, False)])
def test_adapters_that_cannot_be_wide_are_warned_of(
    tmp_path: Path, stage: int, lora: bool, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script, config, _ = settings("sft", tmp_path)
    config.deepspeed_plugin = SimpleNamespace(zero_stage=stage)
    check_settings(script, config, ModelArguments(use_peft=lora))
    assert any("ZeRO-3" in message for message in caplog.messages) == warns


def test_every_setting_of_the_model_is_heeded_or_refused() -> None:
    heeded = {name for name in ModelConfig.__dataclass_fields__ if name not in UNHEEDED}
    assert heeded == {
        "model_name_or_path", "dtype", "attn_implementation", "use_peft", "lora_r", "lora_alpha", "lora_dropout",
        "lora_target_modules", "lora_target_parameters", "lora_modules_to_save", "use_rslora", "use_dora",
    }  # fmt: skip
