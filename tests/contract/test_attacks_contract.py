"""What every attack promises: an 8-bit image within its budget, drawn from seed and sample, judged as it is stored."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from attack_cases import problem, right_samples
from medr1.attack.craft import ATTACKS, Attack, craft, named_attack
from medr1.attack.problem import RIGHT, Best, Problem, rank_of
from medr1.attack.threat import LEVELS
from medr1.errors import ConfigError

K = 4
RANDOM = {"noise", "pgd", "pgd_strong", "square"}
"""Attacks that draw random numbers and do not only step; the others begin at a start of their own."""


def short(name: str) -> Attack:
    """The attack, with few steps."""
    attack = ATTACKS[name]
    return replace(attack, steps=min(attack.steps, 2), restarts=1, losses=attack.losses[-1:], refresh=1)


def batch_of(name: str, first: int = 0, count: int = 2, k: int = K) -> Problem:
    return problem(k if ATTACKS[name].bounded else LEVELS, right_samples()[first : first + count])


@cache
def crafted(name: str, seed: int = 3) -> tuple[Problem, Best, Tensor]:
    batch = batch_of(name)
    best = craft(batch, short(name), ("direct",), seed=seed)
    return batch, best, batch.images(best)


def test_names_are_those_of_the_registry() -> None:
    assert all(name == attack.name and attack.description for name, attack in ATTACKS.items())
    with pytest.raises(ConfigError, match="no attack 'pdg'; choose one of noise, fgsm, pgd"):
        named_attack("pdg")


@pytest.mark.parametrize("name", ATTACKS)
def test_images_are_8_bit_and_within_the_budget(name: str) -> None:
    batch, best, images = crafted(name)
    assert images.dtype == torch.uint8
    assert images.shape == batch.clean_NHW3.shape
    change = images.double() - batch.clean_NHW3
    assert bool((best.delta_NHWC == best.delta_NHWC.round()).all())
    assert bool((change.abs().amax(dim=(1, 2, 3)) <= (K if ATTACKS[name].bounded else LEVELS)).all())
    # The text is kept only where it changes the answer, as is what a search has found.
    changed = change.abs().amax(dim=(1, 2, 3)) > 0
    assert all(moved or rank == RIGHT for moved, rank in zip(changed.tolist(), best.rank_N, strict=True))


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ("noise", "fgsm")])
def test_the_stored_image_gives_the_answer_that_was_told(name: str) -> None:
    """The two that search for nothing are judged from their files alone."""
    batch, best, images = crafted(name)
    rows = torch.arange(len(batch))
    read = batch.judge(rows, images.to(batch.clean_NHW3) - batch.clean_NHW3)
    assert [reading.letter for reading in read] == [reading.letter for reading in best.readings]
    assert [rank_of(*pair) for pair in zip(read, batch.samples, strict=True)] == best.rank_N


@pytest.mark.parametrize("name", ATTACKS)
def test_seed_and_sample_alone_decide(name: str) -> None:
    _, _, images = crafted(name)
    torch.manual_seed(1)  # the global state must not matter
    alone = batch_of(name, first=1, count=1)
    again = alone.images(craft(alone, short(name), ("direct",), seed=3))
    assert torch.equal(again[0], images[1])
    if name in RANDOM:
        assert not torch.equal(crafted(name, seed=4)[2], images)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.bounded])
def test_without_a_budget_nothing_changes(name: str) -> None:
    batch = batch_of(name, k=0, count=1)
    best = craft(batch, short(name), ("direct",), seed=3)
    assert torch.equal(batch.images(best).double(), batch.clean_NHW3)
    assert best.rank_N == [RIGHT]


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.nested])
def test_what_a_smaller_budget_found_is_not_lost(name: str) -> None:
    """Given an image that changes the answer, the search ends with one at least as far from the right answer."""
    batch = batch_of(name, k=LEVELS)
    swapped = batch.clean_NHW3.flip(0)
    rows = torch.arange(len(batch))
    held = [rank_of(*pair) for pair in zip(batch.judge(rows, swapped - batch.clean_NHW3), batch.samples, strict=True)]
    best = craft(batch, short(name), ("direct",), seed=3, starts={"swapped": swapped})
    assert all(found >= before for found, before in zip(best.rank_N, held, strict=True))
    assert max(held) > RIGHT, "the start says nothing"
