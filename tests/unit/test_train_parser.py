"""Recipes: every shipped one parses, and says what it means."""

from pathlib import Path

import pytest
from trl import GRPOConfig, SFTConfig

import medr1
from medr1.answers import PROTOCOLS
from medr1.errors import ConfigError
from medr1.prompts import PROMPTS
from medr1.rewards import REWARDS
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments, parse, recipe_path

RECIPES = Path(medr1.__file__).parent / "recipes"


@pytest.mark.parametrize("name", sorted(path.stem for path in (RECIPES / "grpo").glob("*.yaml")))
def test_grpo_recipes(name: str, tmp_path: Path) -> None:
    words = ["--config", name, "--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false"]
    script, config, model = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)
    assert script.prompt in PROMPTS
    assert PROMPTS[script.prompt].protocol in PROTOCOLS
    assert all(reward in REWARDS for reward in script.reward_funcs)
    assert config.per_device_train_batch_size % config.num_generations == 0, "whole groups per device"
    assert config.report_to == []
    assert model.lora_dropout == 0


@pytest.mark.parametrize("name", sorted(path.stem for path in (RECIPES / "sft").glob("*.yaml")))
def test_sft_recipes(name: str, tmp_path: Path) -> None:
    words = ["--config", name, "--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false"]
    script, _, _ = parse("sft", (DataArguments, SFTConfig, ModelArguments), words)
    assert script.prompt in PROMPTS


def test_flags_beat_the_recipe(tmp_path: Path) -> None:
    words = ["--config", "demo", "--output_dir", str(tmp_path), "--learning_rate", "0.5", "--prompt", "think"]
    script, config, _ = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)
    assert (config.learning_rate, script.prompt, config.num_generations) == (0.5, "think", 8)


def test_the_recipe_may_stand_anywhere_and_bf16_is_the_users(tmp_path: Path) -> None:
    words = ["--use_cpu", "true", "--output_dir", str(tmp_path), "--config", "demo"]
    _, config, _ = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)
    assert config.num_generations == 8
    _, config, _ = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), [*words, "--bf16", "true"])
    assert config.bf16


def test_the_users_own_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "demo.yaml"
    recipe.write_text("learning_rate: 0.25\n")
    assert recipe_path("grpo", str(recipe)) == recipe
    with pytest.raises(ConfigError, match=r"no-such.*demo, med-r1-nothink"):
        recipe_path("grpo", "no-such")


def test_what_a_recipe_says_is_read_as_its_setting_is_declared(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "scale_rewards: false\nreward_funcs: accuracy\nlora_target_modules: q_proj\nrun_name: 2024\n"
        "learning_rate: 1e-5\nmax_steps: 3.0\nwarmup_steps: 2\nreport_to: none\n"
        "generation_kwargs: {top_k: 5}\nlimit: null\n"
    )
    words = ["--config", str(recipe), "--output_dir", str(tmp_path), "--use_cpu", "true"]
    script, config, model = parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), words)
    assert config.scale_rewards == "none"
    assert (script.reward_funcs, model.lora_target_modules) == (["accuracy"], ["q_proj"])
    assert (config.run_name, config.learning_rate, config.warmup_steps) == ("2024", 1e-5, 2)
    assert (config.max_steps, type(config.max_steps)) == (3, int)
    assert (config.report_to, config.generation_kwargs, script.limit) == ([], {"top_k": 5}, None)


def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--output_dir", str(tmp_path), "--use_cpu", "true"]
    with pytest.raises(SystemExit) as end:
        parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), [*words, "--learning_rate", "fast"])
    assert end.value.code == 2
    seen = capsys.readouterr().err
    assert len(seen.splitlines()) == 1
    assert "invalid float value: 'fast'" in seen
    with pytest.raises(ConfigError, match="--config names no recipe"):
        parse("grpo", (GRPOArguments, GRPOConfig, ModelArguments), [*words, "--config"])
