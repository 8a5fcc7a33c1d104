"""Evaluation gives the same letters on every device, and nearly the same accuracy in bfloat16."""

from pathlib import Path
from typing import Any

import pytest

from evaluated import evaluate as _evaluate
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.eval.runner import read_predictions
from medr1.models.tiny import WARM_START
from written import as_written

evaluate = as_written(_evaluate)

COUNT = 24
FEW = 3


def evaluated(out: Path, device: str, dtype: str) -> tuple[dict[str, Any], list[str | None]]:
    """Results and letters."""
    samples = [phantom("validation", index).sample for index in range(COUNT)]
    engine = TransformersEngine(WARM_START, dtype=dtype, device=device, batch_size=8)
    params = SamplingParams(max_new_tokens=12)
    results = evaluate(samples, engine, out=out, params=params, batch_size=8, seed=0, prompt="bare")
    return results, [prediction.answer for prediction in read_predictions(out)]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str | None]]:
    return evaluated(tmp_path_factory.mktemp("evaluation") / "cpu", "cpu", "float32")


def test_letters_are_those_of_the_cpu(
    on_cpu: tuple[dict[str, Any], list[str | None]], tmp_path: Path, device: str
) -> None:
    results, letters = evaluated(tmp_path, device, "float32")
    assert letters == on_cpu[1]
    assert results["accuracy"] == on_cpu[0]["accuracy"]
    assert len(set(letters) - {None}) > 1, "the answers do not depend on the question"


def test_bfloat16_changes_few_answers(
    on_cpu: tuple[dict[str, Any], list[str | None]], tmp_path: Path, device: str
) -> None:
    results, letters = evaluated(tmp_path, device, "bfloat16")
    assert results["n"] == COUNT
    assert results["accuracy"] == pytest.approx(on_cpu[0]["accuracy"], abs=FEW / COUNT)
    assert sum(one != other for one, other in zip(letters, on_cpu[1], strict=True)) <= FEW
