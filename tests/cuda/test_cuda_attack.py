"""Attacks: images within their budget, figures that hold when the files are evaluated again, and attacked training."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluated import evaluate as _evaluate
from medr1.attack import run as attack_run
from medr1.attack.craft import ATTACKS
from medr1.attack.stage import AttackJob
from medr1.attack.store import load_png, manifest_lines
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.models.tiny import WARM_START
from medr1.records import read_samples
from medr1.train.adversarial import Adversary
from training_runs import run, steps_of
from written import as_written

evaluate = as_written(_evaluate)

K = 8
SEARCHES = (ATTACKS["fgsm"], replace(ATTACKS["pgd"], steps=4, refresh=2, restarts=1))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def attacked(
    request: pytest.FixtureRequest, device: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, TransformersEngine, dict[str, Any]]]:
    """The folder of a run, the engine, and the figures."""
    out = tmp_path_factory.mktemp("attack") / "run"
    engine = TransformersEngine(WARM_START, dtype=request.param, device=device, batch_size=8)
    samples = [phantom("validation", index).sample for index in range(24)]
    job = AttackJob(
        out=out, attacks=SEARCHES, budgets=(K,), prompt="bare", max_new_tokens=12, batch_size=8, checks=False
    )
    with pytest.MonkeyPatch.context() as patch:  # the page needs matplotlib, which a GPU machine may lack
        patch.setattr(attack_run, "attack_report", lambda *_: None)
        patch.setattr(attack_run, "write_report", lambda *_: None)
        yield out, engine, attack_run.run_attack(job, samples, engine).written()


def test_every_attack_runs_and_costs_accuracy(
    attacked: tuple[Path, TransformersEngine, dict[str, Any]],
) -> None:
    _, _, result = attacked
    assert result["cells"].keys() == {f"fgsm-k{K}", f"pgd-k{K}"}
    for cell in result["cells"].values():
        assert "error" not in cell
        # Steps the wrong way cost a third of the answers too.
        assert cell["robust_accuracy"] <= result["clean"]["accuracy"] / 2


def test_images_are_within_the_budget_and_gradients_are_not_zero(
    attacked: tuple[Path, TransformersEngine, dict[str, Any]],
) -> None:
    out, _, result = attacked
    for name in result["cells"]:
        lines = list(manifest_lines(out / name).values())
        assert any(line.attacked for line in lines)
        for line in lines:
            clean, image = (load_png(out / folder / line.adv_png) for folder in ("clean", name))
            assert image.dtype == np.uint8
            change = int(np.abs(image.astype(int) - clean).max())
            assert (0 < change <= K) if line.attacked else change == 0
            if line.attacked and line.trace["backwards"]:
                assert line.trace["zero_gradients"] < 0.5


def test_the_files_evaluated_again_give_the_same_accuracy(
    attacked: tuple[Path, TransformersEngine, dict[str, Any]], tmp_path: Path
) -> None:
    out, engine, result = attacked
    for name, cell in result["cells"].items():
        again = evaluate(
            list(read_samples(out / name / "dataset.parquet")),
            engine,
            out=tmp_path / name,
            params=SamplingParams(max_new_tokens=12),
            batch_size=8,
            seed=0,
            prompt="bare",
        )
        assert again["accuracy"] == cell["robust_accuracy"] == read_figure(out / name)


def read_figure(folder: Path) -> float:
    return json.loads((folder / "attack.json").read_text())["robust_accuracy"]


@pytest.mark.parametrize("changes", [{}, {"dtype": "float32"}, {"use_peft": True}], ids=["masters", "autocast", "lora"])
def test_training_on_attacked_images(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    slopes: list[torch.Tensor] = []
    original = Adversary._slope

    def noted(self: Adversary, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        slope, loss = original(self, *args)
        slopes.append(slope)
        return slope, loss

    monkeypatch.setattr(Adversary, "_slope", noted)
    samples = [phantom("train", index).sample for index in range(24)]
    run("grpo", tmp_path, samples, device, adversarial_k=K, **changes)
    assert slopes, "no group was attacked"
    for slope in slopes:
        assert slope.device.type == device
        assert slope.isfinite().all()
        assert (slope != 0).float().mean() > 0.5
    (step,) = steps_of(tmp_path)
    assert 0 < step["grad_norm"] < float("inf")
