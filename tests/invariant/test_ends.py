"""Commands that are told to stop end soon, in one sentence, and nobody outlives the process that started it.

The promise is five seconds; the limit here is three times that, for machines that are busy with other tests.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.models.tiny import WARM_START
from medr1.processes import SENTENCE

LIMIT = 15.0
"""Seconds from the signal to the end."""
START = 240.0
"""Seconds in which a command must have begun what it is stopped at."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}

# Ctrl-C is ignored below `nohup`, and then by every child.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND = HEARING + "from medr1.__main__ import main; main()"


class Running:
    """A command with its children, in a group of processes of its own, as a terminal would have it."""

    def __init__(self, program: str, *arguments: object) -> None:
        self.command = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children: list[psutil.Process] = []

    def wait_until(self, has_begun: Callable[[], object], children: int = 0) -> None:
        """Wait for something to be there, and for so many children."""
        latest = time.monotonic() + START
        while not (has_begun() and len(self._descendants()) >= children):
            assert self.command.poll() is None, (
                f"it ended too early: {self.command.stderr and self.command.stderr.read()}"
            )
            assert time.monotonic() < latest, "it did not begin"
            time.sleep(0.05)
        self.children = self._descendants()

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.command.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def stop(self, number: signal.Signals, *, group: bool = False) -> tuple[int, str, float]:
        """Send a signal, to the whole group as Ctrl-C is; exit code, what was said, and seconds until all had ended."""
        sent = time.monotonic()
        if group:
            for process in [*self.children, psutil.Process(self.command.pid)]:
                process.send_signal(number)
        else:
            self.command.send_signal(number)
        _, said = self.command.communicate(timeout=START)
        _, alive = psutil.wait_procs(self.children, timeout=LIMIT)
        assert not alive, f"{len(alive)} of {len(self.children)} children live on"
        return self.command.returncode, said, time.monotonic() - sent

    def assert_stops(self, number: signal.Signals, *, group: bool = False) -> None:
        """It ends in time with the signal's exit code and one sentence; killed, it says nothing."""
        code, said, seconds = self.stop(number, group=group)
        print(f"{number.name}: {seconds:.2f} s")
        assert code == CODES[number]
        assert seconds < LIMIT
        if number != signal.SIGKILL:
            assert "Traceback" not in said
            assert [line for line in said.splitlines() if line.startswith("medr1: ")] == [f"medr1: {SENTENCE}"]

    def close(self) -> None:
        for process in [*self._descendants(), *self.children]:
            if process.is_running():
                process.kill()
        self.command.kill()
        self.command.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts programs; none of them outlives the test."""
    started: list[Running] = []

    def run(program: str, *arguments: object) -> Running:
        started.append(Running(program, *arguments))
        return started[-1]

    yield run
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "test"
    write_phantoms(PhantomSettings(out=folder, split="test", count=60, side=224))
    return folder


SIGNALS = pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
    ids=["interrupt", "ctrl-c", "terminate", "kill"],
)


@SIGNALS
def test_workers_that_corrupt(
    start: Callable[..., Running], data: Path, tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    out = tmp_path / "out"
    one = start(COMMAND, "corrupt", data, "--out", out, "--processes", 2)
    one.wait_until(lambda: (out / "images.jsonl").exists(), children=2)
    one.assert_stops(number, group=group)


@SIGNALS
def test_workers_that_draw(start: Callable[..., Running], tmp_path: Path, number: signal.Signals, group: bool) -> None:
    one = start(
        COMMAND, "data", "phantom", "--out", tmp_path / "out", "--split", "test", "--count", 50000, "--processes", 2
    )
    one.wait_until(lambda: True, children=2)
    one.assert_stops(number, group=group)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "out"]), "something was left beside"


TRAININGS = (
    HEARING
    + """
import sys
from pathlib import Path
from types import SimpleNamespace

from medr1.cli.failures import run_command
from medr1.flows import trainings

folder = Path(sys.argv[1])
trainings.sys = SimpleNamespace(executable=str(folder / "python"))
two = [
    trainings.Training(name=name, folder=folder / "checkpoints" / name, arguments=(), num_steps=1) for name in "ab"
]
run_command(lambda: trainings.run_trainings(two, workers=2, progress=lambda training, step: None))
"""
)
SLEEPING = f"""#!{sys.executable}
import sys, time
from pathlib import Path
from medr1.cli.failures import run_command

def sleep():
    Path(sys.argv[-1]).mkdir()
    time.sleep(3600)

run_command(sleep)
"""


@SIGNALS
def test_trainings_of_the_demo(
    start: Callable[..., Running], tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    """Two commands that sleep in the place of `medr1 train`."""
    (tmp_path / "python").write_text(SLEEPING)
    (tmp_path / "python").chmod(0o755)
    one = start(TRAININGS, tmp_path)
    one.wait_until(lambda: all((tmp_path / "checkpoints" / name).is_dir() for name in "ab"), children=2)
    one.assert_stops(number, group=group)
    if number != signal.SIGKILL:
        for name in "ab":
            assert (tmp_path / "checkpoints" / f"{name}.txt").read_text() == f"medr1: {SENTENCE}\n"


LOADING = (
    HEARING
    + """
import sys
from pathlib import Path

import numpy as np

from medr1.models import loading

def load_model(*arguments, **settings):
    Path(sys.argv[-1]).with_name("loading").touch()
    np.linalg.svd(np.random.default_rng(0).normal(size=(6000, 6000)))  # no signal is looked at before it ends

loading.load_model = load_model
from medr1.__main__ import main
main()
"""
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_model_that_is_loading(
    start: Callable[..., Running], data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    one = start(LOADING, "eval", WARM_START, "--data", data, "--prompt", "bare", "--out", tmp_path / "out")
    one.wait_until((tmp_path / "loading").exists)
    time.sleep(1)
    one.assert_stops(number)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training(start: Callable[..., Running], data: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    one = start(
        COMMAND, "train", "grpo", "--config", "demo", "--model_name_or_path", WARM_START, "--train_data", data,
        "--output_dir", out, "--use_cpu", "true", "--logging_steps", "1",
    )  # fmt: skip
    one.wait_until(lambda: (out / "train_log.jsonl").exists() and (out / "train_log.jsonl").stat().st_size)
    one.assert_stops(number)


DEMO = (
    HEARING
    + """
import sys
from pathlib import Path
from rich.console import Console
from medr1.cli.failures import run_command

def demo():
    from medr1.flows.demo import run_demo
    from medr1.flows.settings import DemoSettings

    run_demo(DemoSettings(out=Path(sys.argv[1]), num_train=48, num_test=16, num_colour=16), Console(quiet=True))

run_command(demo)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_while_it_trains(start: Callable[..., Running], tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "demo"
    one = start(DEMO, out)
    outputs = [out / "checkpoints" / f"{name}.txt" for name in ("grpo", "blind_twin")]
    one.wait_until(lambda: all(output.exists() for output in outputs), children=2)
    time.sleep(5)  # they are importing PyTorch by now, or loading the model
    one.assert_stops(number)
