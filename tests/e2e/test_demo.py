"""The demo from end to end, shrunk: its files keep their contracts."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from medr1.flows.demo import run_demo as _run_demo
from medr1.flows.settings import DemoSettings
from written import as_written

run_demo = as_written(_run_demo)

SMALL = ("--max_steps", "2", "--per_device_train_batch_size", "16", "--save_steps", "2", "--use_cpu", "true")


@pytest.mark.slow
def test_demo_keeps_its_contracts_and_resumes(tmp_path: Path) -> None:
    settings = DemoSettings(
        out=tmp_path, seeds=2, shuffled=True, num_train=40, num_test=48, num_colour=40, train_arguments=SMALL
    )
    summary, table = run_demo(settings, Console(quiet=True))
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    wanted = {"chance", "blank_accuracy", "swapped_accuracy", "warm_start", "grpo", "mcnemar_p", "n_test", "seconds"}
    assert wanted <= summary.keys()
    assert summary["n_test"] == 48
    for name in ("warm_start", "grpo", "blind_twin", "colour_baseline", "shuffled_images"):
        low, high = summary[name]["ci95"]
        assert 0 <= low <= summary[name]["accuracy"] <= high <= 1
    assert set(summary["seeds"]) == {"grpo", "grpo_seed1"}
    # The gain is the difference of the two accuracies on the same images, not of some of their controls.
    gain = summary["grpo"]["accuracy"] - summary["warm_start"]["accuracy"]
    assert summary["gain"]["value"] == pytest.approx(gain, abs=1e-12)
    assert summary["decomposition"]["gain"] == pytest.approx(gain, abs=1e-12)
    assert [row[0] for row in table.rows][:3] == ["chance", "colour statistics", "warm start"]

    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "the page asks for something outside itself"
    for title in ("Training", "Before and after", "Does it look?", "Where the gain came from", "Modality by task"):
        assert title in page
    assert page.count("data:image/png") >= 10, "the gallery has images"

    # Called again nothing is trained, and every figure stays.
    weights = (tmp_path / "checkpoints" / "grpo" / "final" / "model.safetensors").stat().st_mtime_ns
    again, _ = run_demo(settings, Console(quiet=True))
    assert (tmp_path / "checkpoints" / "grpo" / "final" / "model.safetensors").stat().st_mtime_ns == weights
    assert {key: value for key, value in again.items() if key != "seconds"} == {
        key: value for key, value in summary.items() if key != "seconds"
    }
