"""A checkpoint remembers the prompt that it was trained with, and says where that no longer holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medr1.data.phantom import phantom
from medr1.errors import ConfigError, ModelError
from medr1.models import memory
from medr1.models.memory import FILE, recall, remember, remembered_prompt
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS
from training_runs import run


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_what_is_remembered_is_recalled(tmp_path: Path, name: str) -> None:
    remember(tmp_path, PROMPTS[name])
    found = recall(tmp_path)
    assert found is not None
    assert (found.prompt, found.answer_format) == (name, PROMPTS[name].answer_format)
    assert remembered_prompt(tmp_path) == (
        name,
        f"asked with {name!r}, the prompt that the checkpoint was trained with",
    )


def test_the_shipped_warm_start_remembers_its_prompt_as_it_is_today() -> None:
    prompt, said = remembered_prompt(WARM_START)
    assert prompt == "bare"
    assert "changed" not in said


def test_a_checkpoint_of_others_is_asked_with_the_default_and_that_is_said(tmp_path: Path) -> None:
    assert recall(tmp_path) is None
    assert remembered_prompt(tmp_path) == (
        "think",
        "the checkpoint remembers no prompt, so it is asked with 'think'",
    )


def test_an_adapter_has_its_own_prompt_before_that_of_its_base(tmp_path: Path) -> None:
    for name in ("adapter", "base"):
        (tmp_path / name).mkdir()
    remember(tmp_path / "base", PROMPTS["nothink"])
    assert remembered_prompt(tmp_path / "adapter", tmp_path / "base")[0] == "nothink"
    remember(tmp_path / "adapter", PROMPTS["bare"])
    assert remembered_prompt(tmp_path / "adapter", tmp_path / "base")[0] == "bare"


def test_a_prompt_that_is_not_known_any_more_is_refused_by_name(tmp_path: Path) -> None:
    remember(tmp_path, replace(PROMPTS["think"], name="of a later version"))
    with pytest.raises(ConfigError, match=r"'of a later version', which this version does not know; name one with"):
        remembered_prompt(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text": "{Question} Answer."}, True),
        ({"system": "You are a radiologist."}, True),
        ({"answer_format": "nothink"}, True),
        ({"options_style": "inline"}, True),
        ({"image_first": False}, True),
        ({"source": "another source"}, False),  # says nothing to a model
        ({"protocol": "med-r1/think"}, False),
    ],
)
def test_words_that_have_changed_since_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], told: bool
) -> None:
    remember(tmp_path, PROMPTS["think"])
    changed = replace(PROMPTS["think"], **change)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(memory, "PROMPTS", PROMPTS | {"think": changed})
    prompt, said = remembered_prompt(tmp_path)
    assert prompt == "think"
    assert ("its words have changed since then" in said) == told


@pytest.mark.parametrize("content", ["{", "[]", '{"prompt": "think"}', '{"prompt": 3, "answer_format": "x"}'])
def test_a_damaged_memory_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ModelError, match=r"medr1\.json is damaged; copy the checkpoint again"):
        recall(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"use_peft": True}])
def test_every_checkpoint_of_a_training_remembers(tmp_path: Path, changes: dict[str, bool]) -> None:
    samples = [phantom("train", index).sample for index in range(8)]
    rationale = [replace(sample, rationale="seen") for sample in samples]
    final = run("sft", tmp_path, rationale, "cpu", save_strategy="steps", save_steps=1, **changes)
    for folder in (final, tmp_path / "checkpoint-1"):
        assert json.loads((folder / FILE).read_text())["prompt"] == "bare"
