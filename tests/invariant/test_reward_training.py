"""Two steps of GRPO on the tiny model with every reward of typed answers, thinking and length."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig

from medr1.data.phantom import phantom
from medr1.errors import ConfigError
from medr1.models.tiny import WARM_START
from medr1.train.arguments import GRPOArguments, ModelArguments
from medr1.train.run import train_grpo
from medr1.types import Sample

PHANTOMS = [phantom("train", index).sample for index in range(4)]


def questions(answer_type: str, answers: tuple[str, ...]) -> list[Sample]:
    """The phantoms, asked without options."""
    facts: dict[str, Any] = {"answer_type": answer_type, "answers": answers, "options": (), "answer_index": None}
    return [replace(sample, **facts) for sample in PHANTOMS]


SAMPLES = {
    "choice": PHANTOMS,
    "yes_no": questions("yes_no", ("yes",)),
    "number": questions("number", ("3",)),
    "multi": questions("multi", ("cyst", "mass")),
    "text": questions("text", ("left side",)),
}


def train(folder: Path, samples: list[Sample], rewards: list[str]) -> list[dict[str, Any]]:
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        dataloader_pin_memory=False,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=10,
        max_steps=2,
        save_strategy="no",
    )
    model = ModelArguments(model_name_or_path=str(WARM_START))
    train_grpo(GRPOArguments(prompt="bare", reward_funcs=rewards), config, model, samples=samples)
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("answer_type", "rewards"),
    [
        ("choice", ["answer", "consistency", "length", "length-cosine"]),
        ("yes_no", ["yes-no"]),
        ("number", ["number", "number-relaxed"]),
        ("multi", ["labels-f1", "labels-exact"]),
        ("text", ["text-f1", "text-exact"]),
    ],
)
def test_every_reward_trains(answer_type: str, rewards: list[str], tmp_path: Path) -> None:
    steps = [record for record in train(tmp_path, SAMPLES[answer_type], rewards) if "reward" in record]
    assert len(steps) == 2
    for name in rewards:
        key = f"rewards/{name.replace('-', '_')}/mean"
        assert all(0 <= record[key] <= 1 and math.isfinite(record[key]) for record in steps)
    if answer_type == "choice":  # the warm start writes short, well-formed completions
        assert steps[0]["rewards/length/mean"] > 0.5


def test_questions_that_a_reward_cannot_score_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward 'number' cannot score .* the answer type choice"):
        train(tmp_path, SAMPLES["choice"], ["number"])
    assert not (tmp_path / "train_log.jsonl").exists()
