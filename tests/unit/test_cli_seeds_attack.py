"""AdvMed-R1's adversarial command lines: their flags, their result files, and none of their four faults."""

import json
from pathlib import Path

import pytest

from medr1.cli.seeds import advmed_r1_adversarial, advmed_r1_batch
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.errors import DataError, EngineError
from medr1.models.tiny import WARM_START
from medr1.types import LETTERS


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """One split of four phantoms in Med-R1's format, its images beside it."""
    records = []
    for index in range(4):
        one = phantom("validation", index).sample
        image = tmp_path / "root" / "Images" / f"{index}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        open_image(one.images[0]).save(image)
        options = ", ".join(f"{letter}){text}" for letter, text in zip(LETTERS, one.options, strict=False))
        solution = f"<answer> {one.gold} </answer>"
        records.append({"image": f"Images/{index}.png", "problem": f"{one.question} {options}", "solution": solution})
    folder = tmp_path / "Splits" / "modality" / "test"
    folder.mkdir(parents=True)
    (folder / "CT(Computed Tomography)_test.json").write_text(json.dumps(records))
    return tmp_path


def test_the_published_command_line_writes_the_published_result(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advmed_r1_adversarial, "MAX_NEW_TOKENS", 12)
    monkeypatch.setattr("medr1.attack.run.CHECKS", ("bookkeeping",))
    monkeypatch.setattr("medr1.attack.run._model_checks", lambda *a: {})
    monkeypatch.setattr("medr1.attack.run.checks.trustworthy", lambda found: True)
    (test_file,) = (splits / "Splits" / "modality" / "test").iterdir()
    output = splits / "out" / "fgsm.json"
    advmed_r1_adversarial.main(
        [
            "--model_path",
            str(WARM_START),
            "--test_data",
            str(test_file),
            "--dataset_root",
            str(splits / "root"),
            "--attack_type",
            "fgsm",
            "--epsilon",
            "0.03",
            "--output_path",
            str(output),
        ]
    )
    written = json.loads(output.read_text())
    assert (written["attack_type"], written["epsilon"], written["k"]) == ("fgsm", 0.03, 7)
    assert written["num_samples"] == len(written["detailed_results"]) == 4
    assert written["accuracy"] == 100 * written["num_correct"] / 4
    assert len(list((splits / "out" / "fgsm_run" / "images").glob("*.png"))) == 4


def test_a_crash_has_no_accuracy(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(flags):
        if flags.attack_type == "pgd":
            raise RuntimeError("out of memory")
        return 75.0

    monkeypatch.setattr(advmed_r1_batch, "evaluate", evaluate)
    arguments = ["--model_path", "m", "--splits_dir", str(splits / "Splits"), "--output_dir", str(splits / "out")]
    with pytest.raises(EngineError, match="could not be evaluated"):
        advmed_r1_batch.main([*arguments, "--evaluation_type", "modality"])
    (result,) = json.loads((splits / "out" / "evaluation_summary.json").read_text())["results"]
    assert result["attacks"]["fgsm"]["accuracy"] == 75.0
    assert result["attacks"]["fgsm"]["output_path"].endswith("CT(Computed Tomography)_test_fgsm_eps0.03.json")
    assert result["attacks"]["pgd"] == {"accuracy": None, "error": "RuntimeError: out of memory"}


def test_a_folder_without_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no modality/test"):
        advmed_r1_batch.main(["--model_path", "m", "--splits_dir", str(tmp_path), "--output_dir", str(tmp_path)])
