"""Preflight: refusals before weights are read, and the plan from two dry steps."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig

from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.errors import ConfigError
from medr1.models.loading import load_processor
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS
from medr1.train import run as training
from medr1.train.arguments import GRPOArguments, ModelArguments, parse
from medr1.train.meter import MemoryPeak, Meter
from medr1.train.plan import plan_grpo, planned_steps, size
from medr1.train.preflight import shortest_answer
from medr1.types import Sample

TINY = dict(
    use_cpu=True, bf16=False, per_device_train_batch_size=8, num_generations=4, max_completion_length=10, report_to=[],
    max_steps=2,
)  # fmt: skip


def config(folder: Path, **changes: Any) -> GRPOConfig:
    return GRPOConfig(str(folder), **(TINY | changes))


class WeightsReadError(Exception):
    """Raised in place of reading weights."""


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise WeightsReadError

    monkeypatch.setattr(training, "load_for_training", load)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("settings", "script", "model", "words"),
    [
        ({"temperature": 0.0}, {}, {}, "temperature 0.0"),
        ({"top_k": 1}, {}, {}, "top_k 1"),
        ({"top_p": 0.05}, {}, {}, "top_p 0.05"),
        ({"min_p": 1.0}, {}, {}, "min_p 1.0"),
        ({"generation_kwargs": {"top_k": 1}}, {}, {}, "top_k 1"),
        ({"generation_kwargs": {"do_sample": False}}, {}, {}, "do_sample False"),
        ({"beta": -0.1}, {}, {}, "beta -0.1"),
        ({"sync_ref_model": True}, {}, {}, "beta 0"),
        ({"sync_ref_model": True, "beta": 0.1}, {}, {"use_peft": True, "lora_target_modules": ["q_proj"]}, "LoRA"),
        ({"max_completion_length": 6}, {}, {}, "has 7 tokens"),
        ({"per_device_train_batch_size": 44}, {}, {}, "one generation batch of 11 prompts"),
        ({}, {"max_prompt_length": 5}, {}, "max_prompt_length 5"),
        ({}, {}, {"use_peft": True, "lora_target_modules": ["q_proj", "q_prj"]}, "'q_prj'"),
        ({}, {}, {"use_peft": True, "lora_target_modules": ["q_prj"]}, "'q_prj'"),
    ],
)
def test_what_cannot_train_is_refused_before_weights_are_read(
    settings: dict, script: dict, model: dict, words: str, questions: list[Sample], tmp_path: Path
) -> None:
    arguments = ModelArguments(model_name_or_path=str(WARM_START), **model)
    with pytest.raises(ConfigError, match=words):
        training.train_grpo(
            GRPOArguments(prompt="bare", **script), config(tmp_path, **settings), arguments, samples=questions
        )


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("settings", "model"),
    [
        ({"temperature": 0.1, "top_k": 2, "top_p": 0.1, "min_p": 0.9, "max_completion_length": 7}, {}),
        ({"per_device_train_batch_size": 40, "beta": 0.1, "sync_ref_model": True}, {}),
        ({}, {"use_peft": True}),
        ({}, {"use_peft": True, "lora_target_modules": ["q_proj"]}),
        ({}, {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"]}),
        ({}, {"use_peft": True, "lora_target_modules": ["all-linear"]}),
        ({}, {"use_peft": True, "lora_target_modules": [r".*visual.*\.qkv"]}),
    ],
)
def test_what_can_train_goes_on_to_the_weights(
    settings: dict, model: dict, questions: list[Sample], tmp_path: Path
) -> None:
    arguments = ModelArguments(model_name_or_path=str(WARM_START), **model)
    with pytest.raises(WeightsReadError):
        training.train_grpo(GRPOArguments(prompt="bare"), config(tmp_path, **settings), arguments, samples=questions)


def test_groups_that_do_not_fill_the_batch_are_refused_by_the_parser(tmp_path: Path) -> None:
    def words(batch: int, group: int) -> list[str]:
        sizes = ["--per_device_train_batch_size", str(batch), "--num_generations", str(group)]
        return ["--output_dir", str(tmp_path), "--use_cpu", "true", *sizes]

    for batch, group in ((6, 4), (4, 1)):
        with pytest.raises(ConfigError, match=r"num_generations|at least 2 generations"):
            parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words(batch, group))
    parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words(8, 4))


def test_the_shortest_answer_is_what_the_format_needs() -> None:
    tokenizer: Any = load_processor(WARM_START).tokenizer  # type: ignore[attr-defined]
    for name, text in (("bare", "<think>.</think><answer>A</answer>"), ("bare-nothink", "<answer>A</answer>")):
        assert shortest_answer(PROMPTS[name], tokenizer) == len(tokenizer(text + "<|im_end|>")["input_ids"])


def test_planned_steps_are_those_of_the_trainer(tmp_path: Path) -> None:
    assert planned_steps(config(tmp_path), 100) == 2
    epochs = config(tmp_path, max_steps=-1, num_train_epochs=1.5, gradient_accumulation_steps=4)
    assert planned_steps(epochs, 10) == 5  # three steps an epoch, the last one with two micro-batches


def test_a_tensor_counts_once() -> None:
    shared, other = torch.zeros(3), torch.zeros(5, dtype=torch.bfloat16)
    assert size([shared, other, shared]) == 12 + 10


class ScriptedMemory(MemoryPeak):
    """A memory whose peaks are given."""

    def __init__(self, *peaks: int) -> None:
        super().__init__(torch.device("cpu"))
        self.peaks = iter(peaks)

    def take(self) -> int:
        return next(self.peaks)


def test_inner_phases_do_not_count_for_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # before outer, outer's first part, inner, outer's second part
    meter = Meter(ScriptedMemory(90, 10, 70, 20))
    times = iter([0.0, 1.0, 5.0, 7.0])
    monkeypatch.setattr(meter, "clock", lambda: next(times))
    with meter.phase("outer"):
        meter.wrap("inner", lambda: None)()
    assert meter.seconds == {"outer": [3.0], "inner": [4.0]}
    assert meter.peaks == {"outer": 20, "inner": 70}


def test_the_memory_of_the_process_is_watched_between_two_looks() -> None:
    with MemoryPeak(torch.device("cpu")) as memory:
        before = memory.now()
        block = torch.ones(64 << 20, dtype=torch.uint8)
        time.sleep(0.2)
        del block
        assert memory.take() - before >= 60 << 20
        assert memory.take() - before < 30 << 20


def test_the_plan_of_the_tiny_model(questions: list[Sample], tmp_path: Path) -> None:
    output = tmp_path / "run"
    settings = config(output, max_steps=-1, num_train_epochs=2, beta=0.04, max_completion_length=9)
    arguments = ModelArguments(model_name_or_path=str(WARM_START))
    plan = plan_grpo(GRPOArguments(prompt="bare"), settings, arguments, samples=questions[:6])
    assert not output.exists()
    assert settings.output_dir == str(output)
    parts = {part.name: part for part in plan.components}
    weights = sum(file.stat().st_size for file in WARM_START.glob("*.safetensors"))
    assert parts["weights"].update == pytest.approx(weights, rel=0.01)
    assert parts["reference model"].update == parts["weights"].update
    assert parts["gradients"].update == pytest.approx(weights, rel=0.01)
    assert parts["optimizer states"].sampling == pytest.approx(2 * weights, rel=0.01)
    assert (parts["gradients"].sampling, parts["key-value cache"].update) == (0, 0)
    assert (plan.num_questions, plan.prompts_per_step, plan.completions_per_step, plan.micro_batch) == (6, 2, 8, 8)
    assert plan.num_steps == 6
    assert 0 < plan.image_tokens < plan.prompt_tokens
    assert 0 < plan.completion_tokens <= 9
    assert plan.tokens_per_step == pytest.approx(2 * plan.prompt_tokens + 8 * plan.completion_tokens)
    assert plan.sampling_seconds > 0
    assert plan.update_seconds > 0
    assert plan.peak_bytes > 4 * weights


MEASURE = """
import json, sys
import psutil
from trl import GRPOConfig
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.arguments import parse
from medr1.train.plan import plan_grpo
from medr1.train.run import train_grpo

parts = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), sys.argv[2:])
before = psutil.Process().memory_info().rss
if sys.argv[1] == "plan":
    print(json.dumps(plan_grpo(*parts).peak_bytes))
else:
    train_grpo(*parts)
    # Not ru_maxrss where there is better: a child starts with the peak of the process that forked it.
    peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps(int(peak[0]) * 1024 - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_the_planned_memory_is_what_a_run_takes(tmp_path: Path) -> None:
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="train", count=60))
    words = [
        "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", tmp_path / "data", "--output_dir",
        tmp_path / "run", "--use_cpu", "true", "--max_steps", "2", "--save_strategy", "no",
    ]  # fmt: skip

    def measured(kind: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, kind, *map(str, words)],
            capture_output=True, text=True, check=True, env=os.environ | {"TRANSFORMERS_VERBOSITY": "error"},
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    assert measured("plan") == pytest.approx(measured("run"), rel=0.15)
