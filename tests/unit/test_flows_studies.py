"""Questions about studies through a tiny model: pictures arrive in order, answers are scored, a step is trained."""

import hashlib
import math
from pathlib import Path

import pytest

from medr1.data.convert import convert
from medr1.data.images import open_image
from medr1.data.settings import ConvertSettings
from medr1.eval.runner import read_predictions
from medr1.eval.settings import EvalSettings
from medr1.flows.evaluation import run_eval
from medr1.models.tiny import WARM_START
from medr1.records import read_samples
from medr1.types import Sample
from study_files import write_scans
from tiny_trainer import make_trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    scans = write_scans(folder / "scans")
    convert(ConvertSettings(path=scans, out=folder / "data", slices="uniform/3"))
    return folder / "data"


def pixel_hashes(sample: Sample) -> list[str]:
    return [hashlib.sha256(open_image(ref).tobytes()).hexdigest() for ref in sample.images]


def test_pictures_arrive_in_order_and_answers_are_scored(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    results = run_eval(
        EvalSettings(
            model=str(WARM_START), data=data, out=out, prompt="bare", variants=("blank", "shuffled"), device="cpu"
        )
    )
    samples = {sample.id: sample for sample in read_samples(data)}
    assert results.n == 7
    shown = [p for p in read_predictions(out) if not p.variant]
    assert len(shown) == 7
    for prediction in shown:
        assert [one.sha256 for one in prediction.images or ()] == pixel_hashes(samples[prediction.id])
        assert all(one.tokens for one in prediction.images or ())
    assert sorted(len(p.images or ()) for p in shown) == [1, 3, 3, 3, 3, 3, 6]


def test_a_step_of_grpo(data: Path, tmp_path: Path) -> None:
    samples = [sample for sample in read_samples(data) if len(sample.images) > 1]
    trainer = make_trainer(WARM_START, samples, tmp_path / "run")
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    result = trainer.train()
    assert result.global_step == 1
    assert math.isfinite(result.training_loss)
    assert any(not weight.equal(before[name]) for name, weight in trainer.model.named_parameters())
