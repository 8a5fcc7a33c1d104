"""Searches on the shipped tiny model: budgets, seeds, batches, gradients, and an independent implementation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attack_cases import problem, right_samples
from medr1.attack import checks
from medr1.attack.ascent import fgsm
from medr1.attack.craft import ATTACKS, craft
from medr1.attack.problem import MISLED, RIGHT
from medr1.attack.threat import LEVELS, project

SHORT_PGD = replace(ATTACKS["pgd"], steps=6, refresh=3)


def largest_change(batch, best) -> int:
    return int((batch.images(best).int() - batch.clean_NHW3.int()).abs().max())


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"typographic", "pgd_strong"}))
@pytest.mark.parametrize("grey", [False, True])
def test_every_attack_keeps_its_budget_and_region(name: str, grey: bool) -> None:
    allowed = torch.zeros(2, 84, 84, 1)
    allowed[:, 20:60, 10:50] = 1
    batch = problem(5, right_samples()[:2], grey=grey, allowed=allowed)
    attack = replace(ATTACKS[name], steps=4)
    starts = {"blank": torch.full_like(batch.clean_NHW3, 127)}
    best = craft(batch, attack, ("joint",), seed=3, starts=starts)
    change = batch.images(best).int() - batch.clean_NHW3.int()
    assert 0 < int(change.abs().max()) <= 5
    assert int(change[allowed.expand_as(change) == 0].abs().max()) == 0
    if grey:
        inside = (batch.clean_NHW3 >= 5).all(-1) & (batch.clean_NHW3 <= 250).all(-1)
        assert bool((change == change[..., :1]).all(-1)[inside].all())


def test_zero_budget_changes_nothing() -> None:
    assert checks.zero_budget(problem(8, right_samples()[:3]), ("joint", "stop"), seed=0).status == "passed"


def test_the_wrapper_is_the_model_and_its_gradient_is_right() -> None:
    batch = problem(8)
    assert checks.preprocessing(batch).status == "passed"
    for mode in ("direct", "joint", "stop"):
        assert checks.wrapper_logits(batch, mode).status == "passed"
        assert checks.gradient(batch, mode).status == "passed"


def test_a_sample_gets_the_same_bytes_alone_and_in_a_batch() -> None:
    batch = problem(6, right_samples()[:4])
    assert checks.batch_independence(batch, ("joint",), 0, replace(SHORT_PGD, steps=4, refresh=2)).status == "passed"


def test_the_planted_shortcut_is_found() -> None:
    assert checks.planted_shortcut(problem(2, right_samples()[:3]), ("joint",), seed=0).status == "passed"


def test_an_attack_without_gradients_misses_the_planted_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: an ascent that stands still finds nothing."""
    batch = problem(2, right_samples()[:2])
    monkeypatch.setattr("medr1.attack.steps.SignStep.move", lambda self, delta, gradient, score: delta * 0)
    assert checks.planted_shortcut(batch, ("joint",), seed=0).status == "failed"


def test_with_the_whole_range_an_answer_that_follows_the_image_is_lost() -> None:
    """Blank and swapped images are among the starts, so what changes the answer as a control does so here."""
    batch = problem(LEVELS)
    blank = torch.full_like(batch.clean_NHW3, 127)
    rows = torch.arange(len(batch))
    read = batch.judge(rows, blank - batch.clean_NHW3)
    reliant = [row for row in rows.tolist() if read[row].letter != batch.samples[row].gold]
    assert len(reliant) >= 3
    few = checks.part(batch, reliant)
    starts = {"blank": torch.full_like(few.clean_NHW3, 127)}
    assert checks.unbounded(few, ("joint",), 0, starts).status == "passed"


def test_pgd_is_stronger_than_noise_and_not_weaker_with_more_budget() -> None:
    batch = problem(8)
    noise = craft(batch, ATTACKS["noise"], ("joint",), seed=0)
    kept = [r.letter for r in batch.judge(torch.arange(len(batch)), noise.delta_NHWC)]
    small = craft(batch.at_budget(replace(batch.threat, k=3)), SHORT_PGD, ("joint",), seed=0)
    held = small.delta_NHWC + batch.clean_NHW3
    large = craft(batch, SHORT_PGD, ("joint",), seed=0, starts={"smaller budget": held})
    assert large.rank_N.count(MISLED) >= 2
    assert all(big >= little for big, little in zip(large.rank_N, small.rank_N, strict=True))
    noise_flips = sum(letter != one.gold for letter, one in zip(kept, batch.samples, strict=True))
    assert large.rank_N.count(RIGHT) < len(batch) - noise_flips


def test_the_text_attack_stays_in_its_corner() -> None:
    batch = problem(LEVELS, right_samples()[:2])
    best = craft(batch, ATTACKS["typographic"], ("direct",), seed=0)
    changed = (batch.images(best).int() != batch.clean_NHW3.int()).any(-1)
    assert 0 < float(changed.double().mean()) <= 0.02


class Letters(nn.Module):
    """Images (1, 3, H, W) in [0, 1] to the option letters of one question, for libraries."""

    def __init__(self, batch, row: int, words) -> None:
        super().__init__()
        self.batch, self.row, self.words = batch, row, words

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prompts = [self.batch.prompts[self.row]] * len(x)
        pixels = (x.double() * 255).permute(0, 2, 3, 1)
        logits = self.batch.victim.logits(prompts, [self.words.ids] * len(x), pixels, keep=1)[:, -1]
        return logits[:, list(self.words.option_ids)]  # float64: 1 - p of a sure answer drowns in float32


def with_art(batch, row: int, mode, attack_name: str, **settings) -> torch.Tensor:
    """The perturbation that the adversarial-robustness-toolbox finds, in grey levels, as it comes."""
    evasion = pytest.importorskip("art.attacks.evasion")
    classification = pytest.importorskip("art.estimators.classification")
    words = batch.surrogate(mode, row, batch.readings[row])
    model = Letters(batch, row, words)
    clean = batch.clean_NHW3[row : row + 1].permute(0, 3, 1, 2)
    classifier = classification.PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(clean.shape[1:]),
        nb_classes=len(words.option_ids),
        clip_values=(0, 1),
        device_type="cpu",
    )
    search = getattr(evasion, attack_name)(classifier, **settings)
    found = search.generate((clean / 255).float().numpy(), np.array([words.gold]))
    return (torch.tensor(found).double() * 255 - clean).permute(0, 2, 3, 1)


def test_fgsm_equals_the_toolbox_image_by_image() -> None:
    """Both take the sign of zero for zero and clip to the range of values; rounding only undoes float32 noise."""
    batch = problem(4, right_samples()[:3])
    ours = batch.images(fgsm(batch, "rationale", "ce")).double()
    for row in range(len(batch)):
        theirs = with_art(batch, row, "rationale", "FastGradientMethod", eps=4 / 255)
        whole = theirs.round()
        assert float((theirs - whole).abs().max()) < 1e-3
        assert torch.equal(batch.clean_NHW3[row] + whole[0], ours[row])


def test_pgd_is_at_least_as_strong_as_the_toolbox() -> None:
    """Same budget, step, number of steps and forced words; judged by free generation from 8-bit images."""
    batch = problem(8)
    best = craft(batch, replace(ATTACKS["pgd"], steps=8, step_size=2.5), ("rationale",), seed=0)
    settings = {"eps": 8 / 255, "eps_step": 2.5 / 255, "max_iter": 8, "num_random_init": 1, "verbose": False}
    theirs = [with_art(batch, row, "rationale", "ProjectedGradientDescent", **settings) for row in range(len(batch))]
    delta = project(torch.cat(theirs).round(), 8)
    letters = [reading.letter for reading in batch.judge(torch.arange(len(batch)), delta)]
    flipped = sum(letter != one.gold for letter, one in zip(letters, batch.samples, strict=True))
    assert len(batch) - best.rank_N.count(RIGHT) >= flipped
