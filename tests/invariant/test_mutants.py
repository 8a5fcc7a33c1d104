"""What is read back may be anything: every seeded mutant of it ends in one sentence or in a result, never in a trace.

Recipes, checkpoints, data, predictions, results, manifests and logs of small real runs are changed one place at a time:
a value of another type, a name gone, a file cut, empty or foreign.
"""

import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file, save_file

from medr1.cli import main
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.models.tiny import WARM_START

MUTANTS = 110
"""Of each kind."""
STRANGE: list[Any] = [
    None, True, -1, 0, 10**30, 0.5, float("nan"), "", "nonsense", "/", [], [1], ["a", None], {}, {"a": 1}, [[[]]],
]  # fmt: skip


def run(*words: str) -> tuple[int, str]:
    """Exit code and error output of a command in this process; whatever else it raises fails the test."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["medr1", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return code, err.getvalue()
    finally:
        sys.argv = before
    return 0, err.getvalue()


def check(words: list[str], what: str) -> int:
    code, said = run(*words)
    assert code in (0, 1, 2), f"{what}: exit code {code}"
    assert "Traceback" not in said, f"{what}: {said[-2000:]}"
    if code == 1:
        if words[0] in ("verify", "doctor"):  # what they find is an exit code as well
            return code
        lines = [line for line in said.splitlines() if line.startswith("medr1: ")]
        assert len(lines) == 1, f"{what}: {said[-2000:]}"
    return code


# --- Mutations ------------------------------------------------------------------------------------------------------


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value: its container and its key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def changed_value(value: Any, draw: random.Random) -> Any:
    """The value with one place changed or gone."""
    every = list(places(value))
    if not every or draw.random() < 0.05:
        return draw.choice(STRANGE)
    container, key = draw.choice(every)
    if draw.random() < 0.3:
        del container[key]
    else:
        container[key] = draw.choice(STRANGE)
    return value


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Cut, empty, with foreign bytes, or something else altogether."""
    place = draw.randrange(max(1, len(data)))
    return draw.choice(
        [
            data[:place],
            b"",
            data[:place] + bytes(draw.randrange(256) for _ in range(8)) + data[place + 8 :],
            b"[" * 100_000,
            b"\xff\xfe\x00",
            data + data[: len(data) // 2],
        ]
    )


def change_json(path: Path, draw: random.Random) -> None:
    if draw.random() < 0.2:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
    else:
        path.write_text(json.dumps(changed_value(json.loads(path.read_text()), draw)))


def change_lines(path: Path, draw: random.Random) -> None:
    """One line of JSON lines."""
    if draw.random() < 0.2:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
        return
    lines = path.read_text().splitlines()
    place = draw.randrange(len(lines))
    lines[place] = json.dumps(changed_value(json.loads(lines[place]), draw))
    path.write_text("".join(line + "\n" for line in lines))


def change_table(path: Path, draw: random.Random) -> None:
    """A column of a parquet file gone, of another type, or full of nulls."""
    if draw.random() < 0.2:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
        return
    table = pq.read_table(path)
    name = draw.choice(table.column_names)
    place = table.column_names.index(name)
    if draw.random() < 0.2:
        table = table.drop_columns([name])
    else:
        other = draw.choice(
            [
                pa.array([1] * len(table)), pa.array([None] * len(table)), pa.array(["x"] * len(table)),
                pa.array([["x", None]] * len(table)), pa.array([1.5] * len(table)), pa.array([b"x"] * len(table)),
                pa.array([{"a": 1}] * len(table)), pa.array([[{"bytes": b"x", "path": None}]] * len(table)),
            ]
        )  # fmt: skip
        table = table.set_column(place, name, other)
    pq.write_table(table, path)


def change_weights(path: Path, draw: random.Random) -> None:
    """A tensor gone, of another shape or type, or the file cut."""
    if draw.random() < 0.5:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
        return
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    how = draw.randrange(3)
    if how == 0:
        del tensors[name]
    else:
        tensors[name] = tensors[name].flatten()[:1] if how == 1 else tensors[name].int()
    save_file(tensors, path, metadata={"format": "pt"})


def change_recipe(path: Path, draw: random.Random) -> None:
    if draw.random() < 0.2:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
    else:
        path.write_text(yaml.safe_dump(changed_value(yaml.safe_load(path.read_text()), draw)))


CHANGES: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": change_json, ".jsonl": change_lines, ".parquet": change_table, ".safetensors": change_weights,
    ".yaml": change_recipe, ".jinja": lambda path, draw: path.write_bytes(changed_bytes(path.read_bytes(), draw)),
}  # fmt: skip


# --- Commands -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a checkpoint, a recipe, a finished evaluation and a finished training, all small."""
    folder = tmp_path_factory.mktemp("origin")
    write_phantoms(PhantomSettings(out=folder / "data", split="test", count=4))
    shutil.copytree(WARM_START, folder / "model")
    recipe = {"prompt": "bare", "reward_funcs": ["accuracy", "format"], "max_steps": 1, "learning_rate": 1e-4}
    recipe |= {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8, "seed": 0}
    recipe |= {"loss_type": "grpo", "beta": 0.0, "report_to": "none", "use_cpu": True, "gradient_checkpointing": False}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert check([*evaluation(folder), "--out", str(folder / "eval")], "evaluation") == 0
    assert check([*training(folder), "--output_dir", str(folder / "run"), "--save_steps", "1"], "training") == 0
    return folder


def evaluation(folder: Path) -> list[str]:
    words = ["--prompt", "bare", "--max-new-tokens", "12", "--dtype", "float32", "--variants", "blank"]
    return ["eval", str(folder / "model"), "--data", str(folder / "data"), *words]


def training(folder: Path) -> list[str]:
    words = ["--model_name_or_path", str(folder / "model"), "--train_data", str(folder / "data")]
    return ["train", "grpo", "--config", str(folder / "recipe.yaml"), "--dataloader_pin_memory", "false", *words]


def recipes(folder: Path, draw: random.Random) -> tuple[Path, list[list[str]]]:
    # The checkpoint is away: what is wrong with a recipe shows before, and what is right costs no training.
    shutil.rmtree(folder / "model")
    return folder / "recipe.yaml", [[*training(folder), "--output_dir", str(folder / "out")]]


def checkpoints(folder: Path, draw: random.Random) -> tuple[Path, list[list[str]]]:
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    names += ["processor_config.json", "generation_config.json"]
    path = folder / "model" / draw.choice([name for name in names if (folder / "model" / name).exists()])
    return path, [[*evaluation(folder), "--out", str(folder / "out")]]


def data(folder: Path, draw: random.Random) -> tuple[Path, list[list[str]]]:
    reading = [
        [*evaluation(folder), "--out", str(folder / "out")],
        ["data", "stats", str(folder / "data")],
        ["data", "resize", str(folder / "data"), "--out", str(folder / "out"), "--size", "28"],
        ["corrupt", str(folder / "data"), "--out", str(folder / "out"), "--corruptions", "jpeg", "--severities", "1"],
    ]
    return folder / "data" / "data-00000.parquet", [draw.choice(reading)]


def predictions(folder: Path, draw: random.Random) -> tuple[Path, list[list[str]]]:
    reading = [
        ["rescore", str(folder / "eval"), "--out", str(folder / "out")],
        ["compare", str(folder / "eval"), str(folder / "eval")],
        ["verify", str(folder / "eval"), "--data", str(folder / "data")],
        ["reasoning", str(folder / "eval"), "--out", str(folder / "out")],
        [*evaluation(folder), "--out", str(folder / "eval")],
    ]
    return folder / "eval" / "predictions.jsonl", [draw.choice(reading)]


def results(folder: Path, draw: random.Random) -> tuple[Path, list[list[str]]]:
    names = ["eval/results.json", "eval/manifest.json", "run/manifest.json", "run/train_log.jsonl"]
    names += ["run/checkpoint-1/trainer_state.json"]
    path = folder / draw.choice(names)
    if path.is_relative_to(folder / "eval"):
        reading = [
            ["verify", str(folder / "eval"), "--data", str(folder / "data")],
            ["compare", str(folder / "eval"), str(folder / "eval")],
            [*evaluation(folder), "--out", str(folder / "eval")],
        ]
        return path, [draw.choice(reading)]
    return path, [["doctor", str(folder / "run")], [*training(folder), "--output_dir", str(folder / "run")]]


KINDS = {"recipes": recipes, "checkpoints": checkpoints, "data": data, "predictions": predictions, "results": results}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_ends_in_a_traceback(origin: Path, tmp_path: Path, kind: str) -> None:
    ends: list[int] = []
    faults: list[str] = []
    for number in range(MUTANTS):
        draw = random.Random(f"{kind} {number}")
        folder = tmp_path / str(number)
        shutil.copytree(origin, folder)
        path, commands = KINDS[kind](folder, draw)
        CHANGES[path.suffix](path, draw)
        for words in commands:
            try:
                ends.append(check(words, f"{kind} {number}"))
            except AssertionError as fault:
                faults.append(str(fault))
            except Exception as fault:  # noqa: BLE001 - what a user would see as a traceback
                faults.append(f"{kind} {number}: {' '.join(words[:2])} of {path.name}: {fault!r:.300}")
        shutil.rmtree(folder)
    assert not faults, f"{len(faults)} of {MUTANTS}:\n" + "\n".join(faults)
    assert 1 in ends, "nothing was refused, so nothing was wrong"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
