"""Every command with the fewest arguments that it works with, and what they read."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from evaluated import evaluate
from medr1.cli import main
from medr1.data.phantom import write_phantoms
from medr1.data.settings import CorruptSettings, PhantomSettings
from medr1.engines.engine import SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.models.tiny import WARM_START
from medr1.records import read_samples
from medr1.variants.corruptions.write import write_corrupted

TRAIN = (
    "--config demo --model_name_or_path {model} --train_data {in}/train --output_dir {out} --use_cpu true --max_steps 1"
)
COMMANDS = {
    "eval": "{model} --data {in}/test --out {out} --prompt think",
    "rescore": "{in}/eval_test --out {out}",
    "compare": "{in}/eval_test {in}/eval_again --out {out}",
    "corrupt": "{in}/test --out {out} --corruptions jpeg --processes 1",
    "robustness": "{in}/eval_test {in}/eval_bad --out {out}",
    "reasoning": "{in}/eval_test --out {out}",
    "attack": "{model} --data {in}/test --out {out} --no-checks --prompt think",
    "demo": "--out {out}",
    "data phantom": "--out {out} --split test --count 2 --processes 1",
    "data download": "slake --out {out}",
    "data resize": "{in}/test --out {out}",
    "data audit": "{in}/train {in}/test --out {out}",
    "data stats": "{in}/test --out {out}",
    "data split": "{in}/train --out {out}",
    "data harden": "{in}/train --out {out}",
    "data convert": "{in}/records.json --out {out}",
    "models tiny": "--out {out}",
    "rewards fuzz": "--out {out}",
    "train grpo": f"{TRAIN} --per_device_train_batch_size 8",
    "train sft": f"{TRAIN} --per_device_train_batch_size 2",
}
WRITES_NOTHING = {"ask", "verify", "doctor", "data check-table", "data sources", "models list", "rewards list"}


def arguments_of(command: str, *, inputs: Path, out: Path) -> list[str]:
    """The command line, without the name of the program."""
    places = {"in": inputs, "out": out, "model": WARM_START}
    return [*command.split(), *(word.format(**places) for word in COMMANDS[command].split())]


def leaves(command: object, name: tuple[str, ...] = ()) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if not children:
        yield " ".join(name)
    for child, sub in (children or {}).items():
        yield from leaves(sub, (*name, child))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Call `medr1 ARGUMENTS`; returns exit code and standard error."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medr1", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands read: phantoms, corrupted ones, evaluations of both, published records."""
    folder = tmp_path_factory.mktemp("inputs")
    write_phantoms(PhantomSettings(out=folder / "train", split="train", count=12))
    write_phantoms(PhantomSettings(out=folder / "test", split="test", count=6))
    write_corrupted(CorruptSettings(data=folder / "test", out=folder / "bad", corruptions=("jpeg",), severities=(5,)))
    for name, data in (("test", "test"), ("again", "test"), ("bad", "bad")):
        evaluate(
            list(read_samples(folder / data)),
            ScriptedEngine(lambda request, draw: "<think>It is a lung.</think><answer>A</answer>"),
            out=folder / f"eval_{name}",
            params=SamplingParams(),
            batch_size=4,
            seed=0,
        )
    Image.new("RGB", (30, 20), "grey").save(folder / "one.png")
    record = {"image": ["one.png"], "problem": "What is shown?\nA) Lung\nB) Liver", "solution": "A"}
    (folder / "records.json").write_text(json.dumps([record]))
    return folder
