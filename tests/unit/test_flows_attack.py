"""A whole attack on the shipped tiny model: files, figures, resuming, and what a crash looks like."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attack_cases import engine
from medr1.attack.run import ATTACKS
from medr1.attack.store import load_png, manifest_lines
from medr1.cli import app
from medr1.data.phantom import phantom, write_phantoms
from medr1.errors import ConfigError
from medr1.flows import attack_cells, attack_run
from medr1.flows.attack import AttackJob
from medr1.flows.attack_run import run_attack
from medr1.models.tiny import WARM_START
from medr1.records import read_samples
from medr1.types import Sample

PGD = replace(ATTACKS["pgd"], steps=4, refresh=2)


def job(out: Path, **changes) -> AttackJob:
    settings = {
        "out": out,
        "attacks": (ATTACKS["noise"], ATTACKS["fgsm"], PGD),
        "budgets": (4, 8),
        "prompt": "bare",
        "max_new_tokens": 12,
        "batch_size": 8,
        "checks": False,
    }
    return AttackJob(**{**settings, **changes})


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("validation", index).sample for index in range(12)]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("attack") / "run"
    return out, run_attack(job(out), samples, engine())


def test_budgets_are_kept_on_disk_and_wrong_answers_left_alone(grid: tuple[Path, dict]) -> None:
    out, result = grid
    for name, cell in result["cells"].items():
        for line in manifest_lines(out / name).values():
            clean, image = (load_png(out / folder / line["adv_png"]) for folder in ("clean", name))
            change = int(np.abs(image.astype(int) - clean).max())
            assert change == line["realised"]["linf_levels"] <= cell["k"]
            assert line["attacked"] or change == 0
        assert cell["linf_max"] <= cell["k"]


def test_figures_come_from_the_saved_files(grid: tuple[Path, dict]) -> None:
    out, result = grid
    for name, cell in result["cells"].items():
        lines = [json.loads(line) for line in (out / name / "predictions.jsonl").read_text().splitlines()]
        right = sum(line["answer"] == line["gold"] for line in lines)
        assert cell["robust_accuracy"] == pytest.approx(right / 12)
        assert cell["n"] == 12
        assert json.loads((out / name / "attack.json").read_text())["robust_accuracy"] == cell["robust_accuracy"]
    by_name = {name: cell["robust_accuracy"] for name, cell in result["cells"].items()}
    assert by_name["pgd-k8"] <= by_name["pgd-k4"] <= by_name["noise-k4"]
    assert by_name["pgd-k8"] < result["clean"]["accuracy"]
    assert result["cells"]["pgd-k8"]["noise_control_accuracy"] == by_name["noise-k8"]
    assert not result["trustworthy"]  # the checks were switched off
    assert (out / "attack.html").stat().st_size > 10_000


def test_a_finished_cell_is_not_made_again_and_a_torn_one_is_completed(
    grid: tuple[Path, dict], samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = grid
    images = {path: path.read_bytes() for path in out.glob("pgd-k8/images/*.png")}
    manifest = out / "pgd-k8" / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-2]) + lines[-1][:20])  # killed while it wrote
    made = []
    original = attack_cells.craft
    monkeypatch.setattr(
        attack_cells, "craft", lambda batch, *a, **k: made.append(len(batch)) or original(batch, *a, **k)
    )
    again = run_attack(job(out), samples, engine())
    assert sum(made) <= 2
    assert {path: path.read_bytes() for path in out.glob("pgd-k8/images/*.png")} == images
    assert again["cells"]["pgd-k8"]["robust_accuracy"] == result["cells"]["pgd-k8"]["robust_accuracy"]


def test_another_run_in_the_same_folder_is_refused(grid: tuple[Path, dict], samples: list[Sample]) -> None:
    with pytest.raises(ConfigError, match="holds another run"):
        run_attack(job(grid[0], prompt="think"), samples, engine())
    with pytest.raises(ConfigError, match="data_hash"):
        run_attack(job(grid[0]), samples[:5], engine())


def test_a_crash_is_a_failure_and_no_success(
    tmp_path: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = attack_run.run_cell

    def crashing(stage, inputs, attack, k, smaller):
        if attack.name == "fgsm":
            raise RuntimeError("out of memory")
        return original(stage, inputs, attack, k, smaller)

    monkeypatch.setattr(attack_run, "run_cell", crashing)
    wanted = job(tmp_path / "run", attacks=(ATTACKS["noise"], ATTACKS["fgsm"]), budgets=(2,))
    result = run_attack(wanted, samples[:4], engine())
    assert "out of memory" in result["cells"]["fgsm-k2"]["error"]
    assert "robust_accuracy" not in result["cells"]["fgsm-k2"]
    assert result["checks"]["bookkeeping"] == "failed"
    assert "failed: RuntimeError" in (tmp_path / "run" / "attack.html").read_text()


def test_one_sample_to_attack_is_enough_for_the_checks(
    grid: tuple[Path, dict], samples: list[Sample], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (grid[0] / "clean" / "predictions.jsonl").read_text().splitlines()]
    right = next(line["id"] for line in lines if line["answer"] == line["gold"])
    one = [sample for sample in samples if sample.id == right]
    wanted = job(tmp_path / "run", attacks=(ATTACKS["fgsm"],), budgets=(2,), checks=True, square_queries=4)
    result = run_attack(wanted, one, engine())
    assert result["checks"]["batch_independence"] == "not_run"
    assert "one sample to attack" in result["check_details"]["batch_independence"]
    assert result["checks"]["preprocessing"] == "passed"
    assert not result["trustworthy"], "a required check could not run"


def test_the_command_writes_the_contract(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", "validation", 6)
    arguments = ["attack", str(WARM_START), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options = ["--attack", "fgsm", "--epsilon", "0.03", "--prompt", "bare", "--max-new-tokens", "12", "--no-checks"]
    done = CliRunner().invoke(app, [*arguments, *options, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    cell = json.loads((tmp_path / "out" / "attack.json").read_text())
    wanted = (
        "attack norm k epsilon n clean_accuracy robust_accuracy attack_success_rate noise_control_accuracy linf_max "
        "l2_mean psnr_mean ssim_mean checks trustworthy seconds_per_sample"
    )
    assert set(wanted.split()) <= cell.keys()
    assert (cell["attack"], cell["norm"], cell["k"]) == ("fgsm", "linf", 7)
    assert cell["linf_max"] <= 7
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 6
    assert len(list(read_samples(tmp_path / "out" / "dataset.parquet"))) == 6


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--k", "8", "--epsilon", "0.03"], "both set the budget"),
        (["--k", "300"], "whole grey levels"),
        (["--attack", "magic"], "there is no attack 'magic'"),
        (["--modes", "guess"], "there is no mode 'guess'"),
    ],
)
def test_wrong_options(tmp_path: Path, extra: list[str], message: str) -> None:
    arguments = ["attack", str(WARM_START), "--data", str(tmp_path), "--out", str(tmp_path / "out"), *extra]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
