"""The commands as a user types them, on the tiny model: exit codes, files, one clear line for bad input."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from medr1.cli import main
from medr1.errors import DataError
from medr1.models.tiny import WARM_START
from medr1.records import read_samples

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `medr1 ARGUMENTS`; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medr1", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data folder."""
    from medr1.data.phantom import write_phantoms
    from medr1.data.settings import PhantomSettings

    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(PhantomSettings(out=folder, split="train", count=16))
    return folder


TINY_STEPS = (
    "--max_steps", 2, "--per_device_train_batch_size", 8, "--num_generations", 4, "--max_completion_length", 10,
    "--use_cpu", "true", "--save_steps", 1,
)  # fmt: skip


def test_phantom_train_eval(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run("data", "phantom", "--out", data, "--split", "test", "--count", 40, "--processes", 1)[0] == 0
    assert len(list(read_samples(data))) == 40
    output = tmp_path / "grpo"
    code, out, err = run(
        "train", "grpo", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", data,
        "--output_dir", output, *TINY_STEPS,
    )  # fmt: skip
    assert code == 0, err
    for name in ("manifest.json", "train_log.jsonl", "completions.parquet", "checkpoint-2", "final/model.safetensors"):
        assert (output / name).exists(), name
    results_folder = tmp_path / "eval"
    code, out, err = run(
        "eval", output / "final", "--data", data, "--out", results_folder, "--prompt", "bare",
        "--max-new-tokens", 12, "--seed", 3, "--temperature", 0.5, "--json",
    )  # fmt: skip
    assert code == 0, err
    arguments = json.loads((results_folder / "manifest.json").read_text())["arguments"]
    wanted = {"max_new_tokens": 12, "seed": 3, "temperature": 0.5}
    assert {name: arguments["sampling"][name] for name in wanted} == wanted
    assert arguments["prompt"] == "bare"
    results = json.loads((results_folder / "results.json").read_text())
    assert json.loads(out) == results
    assert results["n"] == 40
    assert 0 <= results["ci95"][0] <= results["accuracy"] <= results["ci95"][1] <= 1
    assert results["blind"]["blank_image"] is not None
    assert results["blind"]["swapped_image"] is not None
    lines = (results_folder / "predictions.jsonl").read_text().splitlines()
    variants = [json.loads(line)["variant"] for line in lines]
    assert variants.count("") == 40
    assert variants.count("blank") == 40


def test_sft_and_lora(run: Run, phantoms: Path, tmp_path: Path) -> None:
    code, _, err = run(
        "train", "sft", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", phantoms,
        "--output_dir", tmp_path / "sft", "--max_steps", 1, "--per_device_train_batch_size", 4, "--use_cpu", "true",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "sft" / "final" / "model.safetensors").exists()
    code, _, err = run(
        "train", "grpo", "--config", "demo", "--model_name_or_path", tmp_path / "sft" / "final",
        "--train_data", phantoms, "--output_dir", tmp_path / "lora", *TINY_STEPS,
        "--use_peft", "true", "--lora_r", 4, "--lora_target_modules", "q_proj", "v_proj",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "lora" / "checkpoint-2" / "adapter_model.safetensors").exists()
    assert (tmp_path / "lora" / "final" / "model.safetensors").exists()


def test_real_radiology_goes_the_whole_way(run: Run, real_data: Path, tmp_path: Path) -> None:
    """The twelve real images: PNG and JPEG, 224 x 224 to 1462 x 1010, grey and RGB."""
    data = tmp_path / "data"
    code, _out, err = run("data", "convert", real_data / "medvlm_r1" / "cases.json", "--out", data, "--json")
    assert code == 0, err
    samples = list(read_samples(data))
    assert len(samples) == 12
    assert {sample.modality for sample in samples} == {"MRI", "CT", "X-Ray"}
    code, _, err = run(
        "eval", WARM_START, "--data", data, "--out", tmp_path / "eval", "--prompt", "medvlm-r1/complex",
        "--max-new-tokens", 12, "--variants", "blank",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["n"] == 12
    code, _, err = run(
        "train", "grpo", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", data,
        "--output_dir", tmp_path / "grpo", "--prompt", "think", *TINY_STEPS,
    )  # fmt: skip
    assert code == 0, err
    log = [json.loads(line) for line in (tmp_path / "grpo" / "train_log.jsonl").read_text().splitlines()]
    assert log[0]["completions/mean_length"] > 0


def test_flash_attention_falls_back_with_one_line(
    run: Run, phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, _, err = run(
        "train", "grpo", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", phantoms,
        "--output_dir", tmp_path / "run", *TINY_STEPS, "--max_steps", 1, "--attn_implementation", "flash_attention_2",
    )  # fmt: skip
    assert code == 0, err
    assert [record.getMessage() for record in caplog.records if "packed rows" in record.getMessage()] == [
        "flash_attention_2 takes no mask of packed rows; sdpa is used in its place."
    ]


def one_line(code: int, err: str, *words: str) -> None:
    """Exit code 1 and one clear line that names the fault."""
    assert code == 1, err
    said = [line for line in err.splitlines() if line.startswith("medr1: ")]
    assert len(said) == 1, err
    assert err.splitlines()[-1] == said[0], err
    assert "Traceback" not in err
    for word in words:
        assert word in said[0], said[0]


RECORD = {"image": ["images/a.png"], "problem": "What is shown?\nA) Lung\nB) Liver", "solution": "A"}


def bad_records(folder: Path, name: str) -> None:
    """A MedVLM-R1 data file with one fault."""
    (folder / "images").mkdir()
    Image.effect_noise((30, 20), 50).save(folder / "images" / "a.png")
    records: object = [RECORD]
    match name:
        case "missing image":
            (folder / "images" / "a.png").unlink()
        case "corrupt image":
            whole = (folder / "images" / "a.png").read_bytes()
            (folder / "images" / "a.png").write_bytes(whole[: len(whole) // 2])
        case "not a list":
            records = {"records": [RECORD]}
        case "letter outside the options":
            records = [RECORD | {"solution": "D"}]
        case "empty question":
            records = [RECORD | {"problem": "\nA) Lung\nB) Liver"}]
        case "duplicate record":
            records = [RECORD, RECORD]
        case "no JSON":
            (folder / "data.json").write_text("[{")
            return
    (folder / "data.json").write_text(json.dumps(records))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing image", ["a.png"]),
        ("corrupt image", ["a.png", "cut off"]),
        ("not a list", ["data.json", "list"]),
        ("letter outside the options", ["data.json", "D"]),
        ("empty question", ["data.json", "question"]),
        ("duplicate record", ["data.json"]),
        ("no JSON", ["data.json"]),
    ],
)
def test_bad_data_is_one_line_and_nothing_half_written(run: Run, tmp_path: Path, name: str, words: list[str]) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    bad_records(source, name)
    code, _, err = run("data", "convert", source / "data.json", "--out", target, "--source", "medvlm-r1")
    one_line(code, err, *words)
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in"], "something was left behind"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning_rates", "1"], ["learning_rates"]),
        (["--num_generations", "3", "--per_device_train_batch_size", "8"], ["3"]),
        (["--prompt", "nonsense"], ["nonsense", "bare"]),
        (["--reward_funcs", "nonsense"], ["nonsense", "accuracy"]),
        (["--limit", "0"], ["limit"]),
        (["--max_prompt_length", "5"], ["max_prompt_length"]),
        (["--min_pixels", "9999999"], ["min_pixels"]),
        (["--learning_rate", "fast"], ["learning_rate"]),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_training_settings(
    run: Run, phantoms: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    output = tmp_path / "run"
    code, _, err = run(
        "train", "grpo", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", phantoms,
        "--output_dir", output, "--use_cpu", "true", *arguments,
    )  # fmt: skip
    if "learning_rate" in arguments[0] and arguments[1] == "fast":
        assert code == 2, "a value of the wrong kind is wrong usage"
        assert "learning_rate" in err
    else:
        one_line(code, err, *words)
    assert not output.exists()


def test_unknown_recipe_key(run: Run, phantoms: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rate: 1.0e-4\nlerning_rate: 2.0e-4\n")
    code, _, err = run(
        "train", "grpo", "--config", recipe, "--model_name_or_path", WARM_START, "--train_data", phantoms,
        "--output_dir", tmp_path / "run",
    )  # fmt: skip
    one_line(code, err, "lerning_rate")
    recipe.write_text("learning_rate: [1\n")
    code, _, err = run("train", "grpo", "--config", recipe, "--output_dir", tmp_path / "run")
    one_line(code, err, "YAML")
    code, _, err = run("train", "grpo", "--config", "no-such-recipe", "--output_dir", tmp_path / "run")
    one_line(code, err, "no-such-recipe", "demo")


def test_folder_that_is_no_checkpoint(run: Run, phantoms: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    code, _, err = run("eval", empty, "--data", phantoms, "--out", out)
    one_line(code, err, "empty", "config.json")
    code, _, err = run("eval", tmp_path / "nowhere", "--data", phantoms, "--out", out)
    one_line(code, err, "nowhere")
    (empty / "config.json").write_text('{"model_type": "bert"}')
    code, _, err = run("eval", empty, "--data", phantoms, "--out", out)
    one_line(code, err, "bert", "qwen2_vl")
    damaged = tmp_path / "damaged"
    shutil.copytree(WARM_START, damaged)
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    code, _, err = run("eval", damaged, "--data", phantoms, "--out", out)
    one_line(code, err, "damaged")
    shutil.copytree(WARM_START, tmp_path / "no_processor")
    (tmp_path / "no_processor" / "processor_config.json").unlink()
    code, _, err = run("eval", tmp_path / "no_processor", "--data", phantoms, "--out", out)
    one_line(code, err, "no_processor", "processor")
    assert not out.exists()


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("eval")[0] == 2
    assert run("no-such-command")[0] == 2
    code, out, err = run()
    assert code == 2
    assert "Commands" in out + err, "without a command the list of commands is shown"


def test_help_is_quick_and_needs_no_torch(run: Run) -> None:
    import subprocess

    script = (
        "import sys; sys.argv = ['medr1', '--help']\n"
        "from medr1.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_an_error_of_several_lines_becomes_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DataError("first\n  second\nthird")

    monkeypatch.setattr("medr1.cli.app", fail)
    code, out, err = run("data")
    assert (code, out, err) == (1, "", "medr1: first second third\n")
