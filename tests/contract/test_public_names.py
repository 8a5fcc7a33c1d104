"""The names that other programs rely on are there, whatever moves behind them."""

import pytest

REGISTRIES = {
    "medr1.answers:PROTOCOLS": (
        "default",
        "medvlm-r1/complex",
        "medvlm-r1/simple",
        "med-r1/think",
        "med-r1/nothink",
        "med-r1/zeroshot",
        "advmed-r1",
    ),
    "medr1.rewards:REWARDS": (
        "accuracy",
        "medvlm-r1/accuracy",
        "medvlm-r1/format",
        "med-r1/accuracy",
        "med-r1/format",
        "med-r1/format-nothink",
    ),
    "medr1.prompts:PROMPTS": ("think", "nothink", "bare", "medvlm-r1/train", "med-r1/think"),
    "medr1.data:SOURCES": ("med-r1", "medvlm-r1", "omnimedvqa", "jsonl", "csv"),
    "medr1.variants:VARIANTS": ("blank", "swapped", "jpeg/3", "thinking:empty", "none_of_the_above"),
}


@pytest.mark.parametrize("place", REGISTRIES)
def test_registries_are_plain_dicts_with_their_names(place: str) -> None:
    from importlib import import_module

    module, _, name = place.partition(":")
    registry = getattr(import_module(module), name)
    assert type(registry) is dict
    assert set(REGISTRIES[place]) <= registry.keys()


def test_the_trainer_is_a_trl_trainer() -> None:
    from trl import GRPOTrainer

    from medr1.train.grpo import SharedPrefixGRPOTrainer

    assert issubclass(SharedPrefixGRPOTrainer, GRPOTrainer)
