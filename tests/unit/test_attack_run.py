"""A whole attack on the shipped tiny model: files, figures, resuming, and what a crash looks like."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attack_cases import engine
from medr1.attack import cells
from medr1.attack import run as attack_run
from medr1.attack.craft import ATTACKS
from medr1.attack.run import run_attack as _run_attack
from medr1.attack.stage import AttackJob
from medr1.attack.store import load_png, manifest_lines
from medr1.attack.threat import ThreatModel
from medr1.cli import app
from medr1.data.phantom import phantom, write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.transformers import TransformersEngine
from medr1.errors import ConfigError, DataError
from medr1.models.tiny import WARM_START
from medr1.records import read_samples
from medr1.types import Sample
from run_faults import refusal, stamps
from written import as_written

run_attack = as_written(_run_attack)

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
            clean, image = (load_png(out / folder / line.adv_png) for folder in ("clean", name))
            change = int(np.abs(image.astype(int) - clean).max())
            assert change == line.realised.linf_levels <= cell["k"]
            assert line.attacked or change == 0
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


def test_a_finished_run_called_again_changes_nothing(
    grid: tuple[Path, dict], samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = grid
    monkeypatch.setattr(cells, "craft", None)
    before = stamps(out)
    again = run_attack(job(out), samples, engine())
    assert stamps(out) == before
    assert again == json.loads(json.dumps(result))


def test_further_budgets_are_further_work(
    grid: tuple[Path, dict], samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(grid[0], out)
    made = []
    original = cells.craft

    def craft(problem, attack, *arguments, **settings):
        made.append((attack.name, problem.threat.k))
        return original(problem, attack, *arguments, **settings)

    monkeypatch.setattr(cells, "craft", craft)
    images = {path: path.read_bytes() for path in out.glob("*/images/*.png")}
    more = run_attack(job(out, attacks=(ATTACKS["noise"],), budgets=(4, 8, 12)), samples, engine())
    assert set(made) == {("noise", 12)}
    assert list(more["cells"]) == ["noise-k4", "noise-k8", "noise-k12"]
    assert images.items() <= {path: path.read_bytes() for path in out.glob("*/images/*.png")}.items()
    # What was asked for first is there still, and is not made again.
    made.clear()
    assert run_attack(job(out), samples, engine())["cells"].keys() == grid[1]["cells"].keys()
    assert made == []


def test_a_folder_of_version_0_1_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "written by version 0.1" in refusal(lambda: run_attack(job(tmp_path), samples, engine()), tmp_path)


def changed(samples: list[Sample], **changes: object) -> list[Sample]:
    """The same questions by their ids, the first of them with other content."""
    return [replace(samples[0], **changes), *samples[1:]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "think"}, "other prompt text"),
        ({"prompt": "think"}, "prompt was 'bare', now 'think'"),
        ({"protocol": "advmed-r1"}, "protocol was 'default', now 'advmed-r1'"),
        ({"modes": ("joint",)}, r"modes was .*, now \['joint'\]"),
        ({"max_new_tokens": 13}, "max new tokens was 12, now 13"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"threat": ThreatModel(k=0, grey=True)}, "grey was False, now True"),
        ({"threat": ThreatModel(k=0, space="native")}, "space was 'grid', now 'native'"),
        ({"attacks": (ATTACKS["fgsm"],), "budgets": (4,)}, "single attack was None, now 'fgsm-k4'"),
        (
            {"attacks": (ATTACKS["noise"], replace(PGD, steps=5))},
            r"holds pgd with other settings \(steps was 4, now 5\)",
        ),
        ({"attacks": (replace(PGD, restarts=2),)}, "restarts was 4, now 2"),
    ],
)
def test_other_settings_are_refused_by_name(
    grid: tuple[Path, dict], samples: list[Sample], change: dict, named: str
) -> None:
    assert re.search(named, refusal(lambda: run_attack(job(grid[0], **change), samples, engine()), grid[0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"question": "Another question?"}, r"\(other questions\)"),
        ({"options": ("yes", "no", "perhaps", "never")}, "other questions"),
        ({"images": phantom("validation", 40).sample.images}, r"\(other pictures\)"),
        ({"modality": "other"}, r"\(other labels\)"),
    ],
)
def test_other_data_under_the_same_ids_are_refused(
    grid: tuple[Path, dict], samples: list[Sample], change: dict, named: str
) -> None:
    other = changed(samples, **change)
    assert re.search(named, refusal(lambda: run_attack(job(grid[0]), other, engine()), grid[0]))


def test_another_right_answer_is_refused(grid: tuple[Path, dict], samples: list[Sample]) -> None:
    other = changed(samples, answer_index=(samples[0].answer_index or 0) ^ 1)
    assert "(other gold answers)" in refusal(lambda: run_attack(job(grid[0]), other, engine()), grid[0])
    fewer = refusal(lambda: run_attack(job(grid[0]), samples[:5], engine()), grid[0])
    assert "other gold answers; other labels; other pictures; other questions" in fewer


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("model.safetensors", lambda weights: flipped(weights), "other weights"),
        ("chat_template.jinja", lambda text: text + b" ", "other processor"),
    ],
)
def test_another_checkpoint_under_the_same_name_is_refused(
    samples: list[Sample], tmp_path: Path, name: str, change: Callable[[bytes], bytes], named: str
) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(WARM_START, model)
    wanted = job(out, attacks=(ATTACKS["noise"],), budgets=(4,), arguments={"model": "model"})
    first = run_attack(wanted, samples[:4], TransformersEngine(model, device="cpu", batch_size=8))
    (model / name).write_bytes(change((model / name).read_bytes()))
    other = TransformersEngine(model, device="cpu", batch_size=8)
    assert f"({named})" in refusal(lambda: run_attack(wanted, samples[:4], other), out)
    again = run_attack(replace(wanted, overwrite=True), samples[:4], other)
    assert again["clean"]["n"] == first["clean"]["n"]
    assert "manifest.json" in {path.name for path in out.iterdir()}
    # Elsewhere, under another name, the same checkpoint is the same.
    shutil.move(model, tmp_path / "moved")
    before = stamps(out)
    run_attack(wanted, samples[:4], TransformersEngine(tmp_path / "moved", device="cpu", batch_size=8))
    assert stamps(out) == before


def flipped(weights: bytes) -> bytes:
    """The weights with one bit of the last of them changed."""
    return weights[:-1] + bytes([weights[-1] ^ 1])


def test_other_masks_are_refused_and_missing_ones_named(samples: list[Sample], tmp_path: Path) -> None:
    masks = tmp_path / "masks.npz"
    threat = ThreatModel(k=0, region="inside")
    wanted = job(tmp_path / "run", attacks=(ATTACKS["noise"],), budgets=(4,), threat=threat, masks=masks)
    with pytest.raises(DataError, match=r"masks\.npz cannot be read"):
        run_attack(wanted, samples[:2], engine())
    assert not (tmp_path / "run").exists()
    whole = {one.id: np.ones((84, 84), np.uint8) for one in samples[:2]}
    np.savez(masks, **whole)
    run_attack(wanted, samples[:2], engine())
    before = stamps(tmp_path / "run")
    np.savez_compressed(masks, **whole)  # other bytes, same masks
    run_attack(wanted, samples[:2], engine())
    assert stamps(tmp_path / "run") == before
    whole[samples[0].id][:10] = 0
    np.savez(masks, **whole)
    assert "(other masks)" in refusal(lambda: run_attack(wanted, samples[:2], engine()), tmp_path / "run")


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
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["state"], manifest["errors"].keys()) == ("started", {"fgsm-k2"})
    # The same command tries again what crashed, and only that.
    monkeypatch.setattr(attack_run, "run_cell", original)
    images = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "noise-k2" / "images").iterdir()}
    again = run_attack(wanted, samples[:4], engine())
    assert "robust_accuracy" in again["cells"]["fgsm-k2"]
    assert again["checks"]["bookkeeping"] == "passed"
    assert images == {path: path.stat().st_mtime_ns for path in images}
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["state"] == "done"


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
    write_phantoms(PhantomSettings(out=tmp_path / "data", split="validation", count=6))
    arguments = ["attack", str(WARM_START), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options = ["--attack", "fgsm", "--epsilon", "0.03", "--max-new-tokens", "12", "--no-checks"]
    done = CliRunner().invoke(app, [*arguments, *options, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    assert "Asked with 'bare', the prompt that the checkpoint was trained with" in done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["arguments"]["prompt"] == "bare"
    cell = json.loads((tmp_path / "out" / "attack.json").read_text())
    wanted = (
        "attack norm k epsilon n clean_accuracy robust_accuracy attack_success_rate noise_control_accuracy linf_max "
        "l2_mean psnr_mean ssim_mean checks trustworthy seconds_per_sample"
    )
    assert set(wanted.split()) <= cell.keys()
    assert (cell["attack"], cell["norm"], cell["k"]) == ("fgsm", "linf", 7)
    assert cell["linf_max"] <= 7
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 6
    for name in ("predictions.jsonl", "results.json"):
        evaluation = tmp_path / "out" / "evaluation" / name
        assert (tmp_path / "out" / name).read_bytes() == evaluation.read_bytes()
    assert len(list(read_samples(tmp_path / "out" / "dataset.parquet"))) == 6


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--k", "8", "--epsilon", "0.03"], "both set the budget"),
        (["--k", "300"], "--k is '300': input should be less than or equal to 255"),
        (["--attack", "magic"], "there is no attack 'magic'"),
        (["--modes", "guess"], "--modes is 'guess': input should be 'direct', 'rationale', 'joint' or 'stop'"),
    ],
)
def test_wrong_options(tmp_path: Path, extra: list[str], message: str) -> None:
    arguments = ["attack", str(WARM_START), "--data", str(tmp_path), "--out", str(tmp_path / "out"), *extra]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ConfigError) or done.exit_code == 2
    assert message in str(done.exception) + done.output
