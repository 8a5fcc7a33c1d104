"""Evaluations that kill themselves with SIGKILL at a chosen moment, for tests of resuming.

Moments are counted in events of the interpreter (calls and returns, of C functions too): every one can be hit, also
those between two system calls, and the same number hits the same place again.

As a program it reads lines of JSON, `[out, kill_at or null]`, runs each in a fork, and answers with a line: the count
at the last answer of the engine, at the end of the run and wherever a JSON file was about to be brought to the disk, or
null where it was killed. It has not loaded PyTorch,
whose threads would not survive a fork, and it has run once before, so that the moments are not spent on imports.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from evaluated import evaluate
from medr1.data.images import png_bytes
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.types import ImageRef, Sample


class Countdown:
    """Counts events, and ends the process without a word when there have been `kill_at`."""

    def __init__(self, kill_at: int | None) -> None:
        self.count, self.kill_at = 0, kill_at
        self.answered: list[int] = []
        """Count at each answer of the engine."""
        self.syncs: list[int] = []
        """Count at each `fsync`: a JSON file has been written and does not have its name yet."""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        self.count += 1
        if event == "c_call" and argument is os.fsync:
            self.syncs.append(self.count)
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def answer(self, request: Request, draw: int) -> str:
        """A model that sees whether the image is bright, and mumbles about every seventh question."""
        self.answered.append(self.count)
        if request.key.startswith("q6"):
            return "who knows"
        bright = not request.images or np.asarray(request.images[0]).mean() > 100
        return f"<think>{draw}</think><answer>{'AB'[int(bright)]}</answer>"


def samples(count: int) -> list[Sample]:
    """Questions about bright and dark pictures."""
    pictures = [ImageRef(data=png_bytes(Image.new("RGB", (4, 4), (200 * dark,) * 3))) for dark in (0, 1)]
    return [
        Sample(
            id=f"q{i}",
            images=(pictures[i % 2],),
            question="How bright?",
            options=("Dark", "Bright"),
            answer_index=i % 2,
            group=f"g{i // 2}",
        )
        for i in range(count)
    ]


def run(out: Path, kill_at: int | None = None) -> tuple[int, int, list[int]]:
    """Evaluate, and count the events until the last answer, in all, and until each `fsync`."""
    countdown = Countdown(kill_at)
    sys.setprofile(countdown)
    evaluate(
        samples(8),
        ScriptedEngine(countdown.answer),
        out=out,
        params=SamplingParams(num_draws=2, temperature=1.0),
        batch_size=3,
        seed=0,
        variants=("blank", "swapped"),
    )
    sys.setprofile(None)
    return countdown.answered[-1] if countdown.answered else 0, countdown.count, countdown.syncs


def run_in_fork(out: Path, kill_at: int | None) -> tuple[int, int, list[int]] | None:
    """As `run`; None where the fork was killed."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sending, json.dumps(run(out, kill_at)).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        counts = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    return json.loads(counts)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    for line in sys.stdin:
        out, kill_at = json.loads(line)
        print(json.dumps(run_in_fork(Path(out), kill_at)), flush=True)
