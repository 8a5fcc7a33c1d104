"""The seeds' own command lines: every flag reaches the run, and the files are the ones that their scripts write."""

import json
from pathlib import Path

import pytest
from PIL import Image

from medr1.cli.failures import run_command
from medr1.cli.seeds import advmed_r1, evaluation, med_r1, medvlm_r1
from medr1.engines.scripted import ScriptedEngine
from medr1.errors import ConfigError, DataError
from medr1.eval.stored import read_stored
from medr1.models.tiny import WARM_START

SUBSETS = {
    "CT": "CT(Computed Tomography)",
    "Ultrasound": "ultrasound",
    "MRI": "MR (Mag-netic Resonance Imaging)",
    "Xray": "X-Ray",
    "Dermoscopy": "Dermoscopy",
    "Microscopy": "Microscopy Images",
    "Fundus": "Fundus Photography",
}


@pytest.fixture
def medvlm(tmp_path: Path) -> Path:
    """A test file of MedVLM-R1's form with two questions of each modality, its images in a folder of their own."""
    (tmp_path / "base" / "images").mkdir(parents=True)
    records = []
    for number, subset in enumerate(2 * list(SUBSETS.values())):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "base" / "images" / f"{number}.png")
        problem = f"What is in picture {number}?\nA) Cardiac tissue\nB) Breast tissue"
        records.append(
            {"image": [f"images/{number}.png"], "problem": problem, "solution": "B", "dataset": "d", "subset": subset}
        )
    path = tmp_path / "questions" / "test.json"
    path.parent.mkdir()
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A test file of Med-R1's form, its image under `Images`."""
    (tmp_path / "Images" / "MIAS").mkdir(parents=True)
    Image.new("L", (32, 32)).save(tmp_path / "Images" / "MIAS" / "a.png")
    record = {"image": "Images/MIAS/a.png", "problem": "Which? A)CT, B)MRI", "solution": "<answer> B </answer>"}
    path = tmp_path / "X-Ray_test.json"
    path.write_text(json.dumps([record]))
    return path


def arguments_for(medvlm: Path, tmp_path: Path, *more: str) -> list[str]:
    paths = {"prompt_path": medvlm, "base_path": tmp_path / "base", "output_path": tmp_path / "mri.json"}
    flags = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return ["--model_path", "tiny", *flags, *more]


def script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(evaluation, "start_engine", lambda job: ScriptedEngine(lambda request, draw: text))


@pytest.mark.parametrize("modality", SUBSETS)
def test_every_modality_of_medvlm_r1_means_its_questions(medvlm: Path, tmp_path: Path, modality: str) -> None:
    job = medvlm_r1.job(arguments_for(medvlm, tmp_path, "--modality", modality))
    assert len(job.samples) == 2
    assert [json.loads(sample.extra["subset"]) for sample in job.samples] == 2 * [SUBSETS[modality]]


def test_every_flag_of_medvlm_r1_is_effective(medvlm: Path, tmp_path: Path) -> None:
    plain = medvlm_r1.job(arguments_for(medvlm, tmp_path))
    assert (plain.batch_size, plain.params.max_new_tokens, plain.params.temperature) == (1, 512, 0.0)
    assert (plain.prompt, plain.protocol, len(plain.samples)) == ("medvlm-r1/complex", "medvlm-r1/complex", 14)
    assert (plain.model_path, plain.output_path) == ("tiny", tmp_path / "mri.json")
    more = ["--prompt_type", "simple", "--bsz", "3", "--max_new_tokens", "7", "--do_sample", "True"]
    changed = medvlm_r1.job(arguments_for(medvlm, tmp_path, *more, "--temperature", "0.5"))
    assert (changed.prompt, changed.protocol) == ("medvlm-r1/simple", "medvlm-r1/simple")
    assert (changed.batch_size, changed.params.max_new_tokens, changed.params.temperature) == (3, 7, 0.5)
    assert medvlm_r1.job(arguments_for(medvlm, tmp_path, "--do_sample")).params.temperature == 1.0
    greedy = medvlm_r1.job(arguments_for(medvlm, tmp_path, "--do_sample", "false", "--temperature", "0.5"))
    assert greedy.params.temperature == 0


def test_a_modality_that_the_file_does_not_have_is_one_line(medvlm: Path, tmp_path: Path) -> None:
    medvlm.write_text(json.dumps(json.loads(medvlm.read_text())[:1]))
    with pytest.raises(DataError, match=r"no question of the modality MRI \(it has CT\)"):
        medvlm_r1.job(arguments_for(medvlm, tmp_path, "--modality", "MRI"))


def test_medvlm_r1_writes_its_results_beside_ours(
    medvlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(monkeypatch, "<answer>B</answer>")
    evaluation.run(medvlm_r1.job(arguments_for(medvlm, tmp_path, "--modality", "MRI")))
    written = json.loads((tmp_path / "mri.json").read_text())
    records = json.loads(medvlm.read_text())
    assert written["accuracy"] == 100.0
    assert written["results"][0] == {
        "question": records[2],
        "ground_truth": "B",
        "model_output": "<answer>B</answer>",
        "extracted_answer": "B",
    }
    ours = json.loads((tmp_path / "mri_run" / "results.json").read_text())
    assert (ours["n"], ours["accuracy"], ours["failed"]) == (2, 1.0, 0)
    assert read_stored(tmp_path / "mri.json").kind == "medvlm-r1"
    assert "Accuracy: 100.00%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variant", "output", "accuracy", "extracted"),
    [
        ("think", "<answer>B</answer>", 100.0, "B"),
        ("nothink", "B", 100.0, "B"),
        ("nothink", "The answer is B", 0.0, None),
        ("nothink-qwen2", "<answer>B</answer>", 0.0, "<answer>B</answer>"),
        ("zeroshot", "B", 100.0, "B"),
    ],
)
def test_med_r1s_scripts(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, output: str, accuracy: float, extracted
) -> None:
    monkeypatch.chdir(tmp_path)  # there, images are relative to the working folder
    script(monkeypatch, output)
    flags = ["--model_path", "tiny", "--prompt_path", str(split), "--output_path", "out.json", "--batch_size", "2"]
    job = med_r1.job([variant, *flags])
    assert (job.batch_size, job.params.max_new_tokens, job.params.temperature) == (2, 256, 0.0)
    evaluation.run(job)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["accuracy"] == accuracy
    assert written["results"][0]["extracted_answer"] == extracted
    assert written["results"][0]["ground_truth"] == "<answer> B </answer>"
    assert written["results"][0]["question"] == json.loads(split.read_text())[0]


def test_med_r1_without_a_variant_thinks(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = med_r1.job(["--model_path", "tiny", "--prompt_path", str(split), "--output_path", "out.json"])
    assert (job.prompt, job.protocol, job.batch_size) == ("med-r1/think", "med-r1/think", 64)


def test_advmed_r1s_clean_evaluation(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, "<ANSWER>b</ANSWER>")
    root = tmp_path / "OmniMedVQA"
    root.mkdir()
    (tmp_path / "Images").rename(root / "Images")
    flags = ["--test_data", str(split), "--dataset_root", str(root), "--output_path", str(tmp_path / "out.json")]
    job = advmed_r1.job(["--model_path", "tiny", *flags, "--batch_size", "3", "--attn_implementation", "eager"])
    assert (job.batch_size, job.attn_implementation, job.prompt) == (3, "eager", "med-r1/think")
    assert advmed_r1.job(["--model_path", "tiny", *flags]).attn_implementation == "sdpa"
    evaluation.run(job)
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["test_data_path"], written["model_evaluation"]) == (str(split), "zero_shot_clean")
    assert (written["accuracy"], written["num_samples"], written["num_correct"]) == (100.0, 1, 1)
    monkeypatch.setattr(advmed_r1, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="flash-attn is not installed"):
        advmed_r1.job(["--model_path", "tiny", *flags, "--attn_implementation", "flash_attention_2"])


def test_a_users_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise DataError("two\nlines")

    with pytest.raises(SystemExit) as exit_:
        run_command(fails)
    assert (exit_.value.code, capsys.readouterr().err) == (1, "medr1: two lines\n")


@pytest.mark.slow
def test_real_cases_with_the_tiny_model(real_data: Path, tmp_path: Path) -> None:
    cases = real_data / "medvlm_r1" / "cases.json"
    flags = ["--prompt_path", str(cases), "--base_path", str(cases.parent), "--output_path", str(tmp_path / "x.json")]
    evaluation.run(
        medvlm_r1.job(["--model_path", str(WARM_START), *flags, "--modality", "CT", "--max_new_tokens", "4"])
    )
    written = json.loads((tmp_path / "x.json").read_text())
    cases_of_ct = [record for record in json.loads(cases.read_text()) if record["subset"].startswith("CT")]
    assert [entry["question"] for entry in written["results"]] == cases_of_ct
    assert all(line["num_tokens"] <= 4 for line in _lines(tmp_path / "x_run" / "predictions.jsonl"))
    assert read_stored(tmp_path / "x.json").kind == "medvlm-r1"


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sampling_flags_change_what_they_should(
    medvlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a real checkpoint: greedy, drawn, and drawn so narrowly that only the likeliest token is left."""

    def texts(name: str, *flags: str) -> list[str]:
        paths = {"prompt_path": medvlm, "base_path": tmp_path / "base", "output_path": tmp_path / f"{name}.json"}
        known = [part for flag, path in paths.items() for part in (f"--{flag}", str(path))]
        more = ["--modality", "MRI", "--max_new_tokens", "16", "--bsz", "2", *flags]
        evaluation.run(medvlm_r1.job(["--model_path", str(WARM_START), *known, *more]))
        return [result["model_output"] for result in json.loads((tmp_path / f"{name}.json").read_text())["results"]]

    greedy = texts("greedy")
    hot = ("--do_sample", "True", "--temperature", "3")
    drawn = texts("drawn", *hot)
    assert drawn != greedy
    assert texts("again", *hot) == drawn
    assert texts("cold", "--do_sample", "True", "--temperature", "0.001") == greedy
    assert texts("narrow", *hot, "--top_p", "0.000001") == greedy
    assert texts("wide", *hot, "--top_p", "0.5") not in (greedy, drawn)
    capsys.readouterr()
    assert texts("unheeded", "--do_sample", "False", "--temperature", "3", "--top_p", "0.5") == greedy
    assert "--temperature 3 and --top_p 0.5 without --do_sample: decoding is greedy" in capsys.readouterr().err
    assert texts("short", "--max_new_tokens", "3") != greedy


def test_every_seed_has_the_sampling_flags(split: Path, medvlm: Path, tmp_path: Path) -> None:
    paths = {"--model_path": "tiny", "--output_path": str(tmp_path / "out.json")}
    shared = [part for pair in paths.items() for part in pair]
    drawn = ["--do_sample", "--temperature", "0.6", "--top_p", "0.9"]
    for job, questions in (
        (medvlm_r1.job, ["--prompt_path", str(medvlm)]),
        (med_r1.job, ["--prompt_path", str(split)]),
        (advmed_r1.job, ["--test_data", str(split)]),
    ):
        assert (job([*shared, *questions]).params.temperature, job([*shared, *questions]).params.top_p) == (0.0, 1.0)
        params = job([*shared, *questions, *drawn]).params
        assert (params.temperature, params.top_p) == (0.6, 0.9)
        for wrong in (["--temperature", "0"], ["--top_p", "0"], ["--top_p", "1.5"]):
            with pytest.raises(ConfigError, match="--do_sample needs"):
                job([*shared, *questions, "--do_sample", *wrong])
