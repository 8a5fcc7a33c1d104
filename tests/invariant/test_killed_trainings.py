"""A training that is stopped anywhere and called again ends as if nothing had happened; done means done."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from trl import GRPOConfig, SFTConfig

from medr1.data.phantom import phantom
from medr1.errors import ConfigError
from medr1.models.loading import load_model, load_processor, save_checkpoint
from medr1.models.tiny import WARM_START
from medr1.runs import Run
from medr1.train import run as training
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments
from medr1.train.run import train_grpo, train_sft
from medr1.types import Sample
from run_faults import Moment, assert_same, full_disk, heals, stamps, stopped

SAMPLES = [phantom("train", index).sample for index in range(8)]
TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")
"""Fields of a training's log in which two equal runs differ."""


def grpo(out: Path, samples: list[Sample] = SAMPLES, **changes: Any) -> None:
    settings: dict[str, Any] = dict(
        use_cpu=True, bf16=True, gradient_checkpointing=False, report_to=[], disable_tqdm=True, logging_steps=1,
        dataloader_pin_memory=False, seed=5, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=8, max_steps=3, learning_rate=1e-3, save_steps=1, save_total_limit=2,
    )  # fmt: skip
    settings |= changes
    script = {name: settings.pop(name) for name in ("prompt", "reward_funcs", "overwrite") if name in settings}
    model = {name: settings.pop(name) for name in ("model_name_or_path", "use_peft", "lora_r") if name in settings}
    train_grpo(
        GRPOArguments(**({"prompt": "bare"} | script)),
        GRPOConfig(output_dir=str(out), **settings),
        ModelArguments(**({"model_name_or_path": str(WARM_START)} | model)),
        samples=samples,
    )


def sft(out: Path) -> None:
    config = SFTConfig(
        output_dir=str(out), use_cpu=True, bf16=True, gradient_checkpointing=False, report_to=[], disable_tqdm=True,
        logging_steps=1, dataloader_pin_memory=False, seed=5, per_device_train_batch_size=4, max_steps=2, save_steps=1,
    )  # fmt: skip
    train_sft(DataArguments(prompt="bare"), config, ModelArguments(str(WARM_START)), samples=SAMPLES)


def states(*steps: int) -> tuple[str, ...]:
    """Files with times, and with the path of their own folder."""
    names = ("trainer_state.json", "training_args.bin")
    return ("train_log.jsonl", *(f"checkpoint-{step}/{name}" for step in steps for name in names))


def log_of(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    grpo(out)
    return out


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("end", [stopped, full_disk])
@pytest.mark.parametrize(("train", "steps"), [(grpo, (2, 3)), (sft, (1, 2))], ids=["grpo", "sft"])
def test_stopped_anywhere_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, train: Callable[[Path], None], steps: tuple[int, ...], end: Any
) -> None:
    every = heals(train, tmp_path, end, but=states(*steps))
    assert {(moment.point, moment.name) for moment in every} >= {
        ("tree", f"checkpoint-{steps[0]}"), ("tree", "final"), ("line", "train_log.jsonl"),
        ("manifest", "manifest.json"),
    }  # fmt: skip
    logs = {json.dumps(log_of(folder / "out")) for folder in tmp_path.iterdir()}
    assert len(logs) == 1


@pytest.mark.parametrize(
    ("point", "name"), [("tree", "checkpoint-2"), ("file", "completions.parquet"), ("removal", "checkpoint-1")]
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_stopped_around_a_checkpoint(whole: Path, tmp_path: Path, point: str, name: str, side: str) -> None:
    out = tmp_path / "run"
    seen = count_of(out, point, name, side)
    assert stopped(lambda: grpo(out), seen)
    grpo(out)
    assert_same(out, whole, but=states(2, 3))
    assert log_of(out) == log_of(whole)
    steps = pq.read_table(out / "completions.parquet")["step"].to_pylist()
    assert steps == sorted(steps)
    assert {steps.count(step) for step in (1, 2, 3)} == {8}


def count_of(out: Path, point: str, name: str, side: str) -> Moment:
    """The number of the first publication of that kind."""
    known: list[Moment] = getattr(count_of, "known", [])
    if not known:
        from run_faults import moments

        known = moments(lambda: grpo(out.with_name("counted")))
        count_of.known = known  # type: ignore[attr-defined]
    found = [moment for moment in known if (moment.point, moment.name, moment.side) == (point, name, side)]
    return found[0]


def test_done_means_done(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamps(whole)

    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights are read for nothing")

    monkeypatch.setattr(training, "load_for_training", load)
    grpo(whole)
    assert stamps(whole) == before


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    with (
        Run(tmp_path, command="train", arguments={}, identity={}, seed=5, owns=()),
        pytest.raises(ConfigError, match="another command is writing"),
    ):
        grpo(tmp_path)


def other_weights(folder: Path) -> None:
    model: Any = load_model(WARM_START, dtype="float32")
    model.lm_head.weight.data[0, 0] += 1
    save_checkpoint(model, load_processor(WARM_START), folder)


def other_processor(folder: Path) -> None:
    processor: Any = load_processor(WARM_START)
    processor.image_processor.image_mean = [0.4, 0.5, 0.5]
    save_checkpoint(load_model(WARM_START), processor, folder)


def changed(**changes: Any) -> dict[str, Any]:
    return {"samples": [replace(SAMPLES[0], **changes), *SAMPLES[1:]]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 6}, "seed was 5, now 6"),
        ({"learning_rate": 2e-3}, "learning rate was 0.001, now 0.002"),
        ({"num_generations": 2}, "num generations was 4, now 2"),
        ({"max_steps": 4}, "max steps was 3, now 4"),
        ({"temperature": 0.9}, "temperature was None, now 0.9"),
        ({"reward_funcs": ["accuracy"]}, "reward funcs was"),
        ({"prompt": "think"}, "other prompt text"),
        ({"use_peft": True}, "use peft was False, now True"),
        (changed(question="Another?"), "other questions"),
        (changed(answer_index=(SAMPLES[0].answer_index or 0) ^ 1), "other gold answers"),
        (changed(images=SAMPLES[1].images), "other pictures"),
        (other_weights, "other weights"),
        (other_processor, "other processor"),
    ],
)
def test_another_training_is_refused_by_name(whole: Path, tmp_path: Path, changes: Any, named: str) -> None:
    before = stamps(whole)
    if callable(changes):
        changes(tmp_path / "base")
        changes = {"model_name_or_path": str(tmp_path / "base")}
    with pytest.raises(ConfigError, match=named) as caught:
        grpo(whole, **changes)
    assert "--overwrite" in str(caught.value)
    assert stamps(whole) == before


def test_where_it_goes_and_what_it_tells_is_no_other_training(whole: Path) -> None:
    before = stamps(whole)
    grpo(whole, logging_steps=2, save_steps=2, save_total_limit=None, disable_tqdm=False, run_name="another")
    assert stamps(whole) == before


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, spoil in enumerate((cut_weights, cut_optimizer, empty, no_state)):
        out = tmp_path / str(number) / "run"
        assert stopped(lambda out=out: grpo(out), count_of(tmp_path / "x", "tree", "final", "before"))
        spoil(out / "checkpoint-3")
        with caplog.at_level(logging.WARNING):
            grpo(out)
        assert "checkpoint-3 is damaged" in caplog.text
        assert_same(out, whole, but=states(2, 3))
        caplog.clear()


def cut_weights(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_optimizer(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.pt"
    path.write_bytes(path.read_bytes()[:1000])


def empty(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        path.unlink()


def no_state(checkpoint: Path) -> None:
    (checkpoint / "trainer_state.json").write_text("[]")


@pytest.mark.parametrize(
    ("name", "said"), [("optimizer.pt", "moments"), ("scheduler.pt", "schedule"), ("rng_state.pth", "random")]
)
def test_what_a_checkpoint_lacks_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    out = tmp_path / "run"
    assert stopped(lambda: grpo(out), count_of(tmp_path / "x", "tree", "final", "before"))
    (out / "checkpoint-3" / name).unlink()
    with caplog.at_level(logging.WARNING):
        grpo(out)
    assert said in caplog.text
    assert (out / "final" / "model.safetensors").is_file()


def test_a_folder_of_version_0_1_asks_for_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "run"
    grpo(out, max_steps=1)
    manifest = json.loads((out / "manifest.json").read_text())
    for name in ("identity", "command", "state"):
        del manifest[name]
    (out / "manifest.json").write_text(json.dumps(manifest | {"medr1": "0.1.0"}))
    with pytest.raises(ConfigError, match=r"version 0\.1\.0.*--overwrite"):
        grpo(out, max_steps=1)
    save_file(load_file(out / "final" / "model.safetensors"), out / "final" / "old.safetensors")
    grpo(out, max_steps=1, overwrite=True)
    assert not (out / "final" / "old.safetensors").exists()
