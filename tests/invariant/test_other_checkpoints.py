"""An evaluation in the folder of another checkpoint's is refused by what differs, wherever the checkpoints lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluated import evaluate as _evaluate
from medr1.data.phantom import phantom
from medr1.engines.engine import SamplingParams
from medr1.engines.transformers import TransformersEngine
from medr1.errors import ConfigError
from medr1.models.loading import load_model
from medr1.models.tiny import WARM_START
from run_faults import stamps
from tiny_adapters import make_adapter
from written import as_written

evaluate = as_written(_evaluate)

SAMPLES = [phantom("test", index).sample for index in range(3)]


def evaluation(model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = dict(params=SamplingParams(max_new_tokens=8), batch_size=4, seed=0, prompt="bare")
    engine = TransformersEngine(model, device="cpu", dtype=changes.pop("dtype", "float32"))
    return evaluate(SAMPLES, engine, out=out, arguments={"model": str(model)}, **(settings | changes))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose base lies beside it."""
    folder = tmp_path_factory.mktemp("adapter")
    shutil.copytree(WARM_START, folder / "base")
    make_adapter(folder / "base", folder / "lora")
    return folder / "lora"


def touch_weights(folder: Path) -> None:
    model: Any = load_model(folder, dtype="float32")
    model.lm_head.weight.data[0, 0] += 1
    model.save_pretrained(folder)


def touch_template(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")


def touch_pixels(folder: Path) -> None:
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["image_mean"] = [0.4, 0.5, 0.5]
    file.write_text(json.dumps(settings))


def touch_ends(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [0, 1]}))


@pytest.mark.parametrize(
    ("touch", "named"),
    [
        (touch_weights, "(other weights)"), (touch_ends, "(other weights)"), (touch_template, "(other processor)"),
        (touch_pixels, "(other processor)"),
    ],
)  # fmt: skip
def test_other_content_under_the_same_name(tmp_path: Path, touch: Any, named: str) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(WARM_START, model)
    results = evaluation(model, out)
    before = stamps(out)
    touch(model)
    with pytest.raises(ConfigError) as caught:
        evaluation(model, out)
    assert named in str(caught.value)
    assert stamps(out) == before
    assert evaluation(model, out, overwrite=True)["n"] == results["n"]


def test_the_same_content_under_another_name(tmp_path: Path) -> None:
    results = evaluation(WARM_START, tmp_path / "out")
    before = stamps(tmp_path / "out")
    shutil.copytree(WARM_START, tmp_path / "elsewhere")
    assert evaluation(tmp_path / "elsewhere", tmp_path / "out") == results
    assert stamps(tmp_path / "out") == before
    with pytest.raises(ConfigError, match="dtype was 'float32', now 'bfloat16'"):
        evaluation(WARM_START, tmp_path / "out", dtype="bfloat16")


def test_the_base_of_an_adapter_is_part_of_it(adapter: Path, tmp_path: Path) -> None:
    evaluation(adapter, tmp_path / "out")
    touch_weights(adapter.parent / "base")
    with pytest.raises(ConfigError) as caught:
        evaluation(adapter, tmp_path / "out")
    assert "(other base weights)" in str(caught.value)
