"""Numbers of every kind of run on fixed seeds: `python tests/stored_numbers.py FILE` writes them down.

The answers are drawn by a rule from the question's name, so that no model's rounding decides about them; the attack is
on the shipped warm start. Times, versions, paths and hashes are left out.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from evaluated import evaluate
from medr1.cli import main
from medr1.data.phantom import write_phantoms
from medr1.data.settings import PhantomSettings
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.models.tiny import WARM_START
from medr1.records import read_samples

LEFT_OUT = {
    "manifest",
    "seconds",
    "seconds_per_sample",
    "started",
    "version",
    "versions",
    "hashes",
    "command",
    "git_commit",
    "created",
    "finished",
    "sha256",
}
THOUGHTS = (
    "The bright rim is unlike {other}. It points to {said}.",
    "No sign of {other}; this is {said}.",
    "It could be {said} or {other}.",
    "Compared to {other}, this is {said}.",
    "A hard case.",
)


def scripted(name: str) -> Callable[[Request, int], str]:
    """Answers that differ from question to question, from variant to variant and between names."""

    def answer(request: Request, draw: int) -> str:
        digest = hashlib.sha256(f"{name}/{request.key}/{draw}".encode()).digest()
        lines = [line for line in request.text.splitlines() if line[1:3] == ") "]
        said, other = (lines[digest[place] % len(lines)] for place in (0, 1))
        thought = THOUGHTS[digest[2] % len(THOUGHTS)].format(said=said[3:], other=other[3:])
        end = ("<answer>%s</answer>", "<answer>%s", "I cannot tell from this image.")[min(2, digest[3] // 110)]
        return f"<think>{thought}</think>" + (end % said[0] if "%" in end else end)

    return answer


def numbers(folder: Path) -> dict[str, Any]:
    """All of them, by command; the runs that they come from are left in the folder."""
    write_phantoms(PhantomSettings(out=folder / "train", split="train", count=60))
    write_phantoms(PhantomSettings(out=folder / "test", split="test", count=40))
    _call(
        "corrupt",
        folder / "test",
        "--out",
        folder / "bad",
        "--corruptions",
        "jpeg,gaussian_blur",
        "--severities",
        "5",
    )
    train = list(read_samples(folder / "train"))
    for run, data in (("one", "test"), ("two", "test"), ("one-bad", "bad")):
        evaluate(
            list(read_samples(folder / data)), ScriptedEngine(scripted(run.split("-")[0])),
            out=folder / run, params=SamplingParams(), batch_size=16, seed=3, train_samples=train,
            variants=() if data == "bad" else ("blank", "swapped", "shuffled", "noise", "rotated"),
        )  # fmt: skip
    calls: dict[str, tuple[object, ...]] = {
        "compare": ("compare", folder / "one", folder / "two"),
        "robustness": ("robustness", folder / "one", folder / "one-bad"),
        "rescore": ("rescore", folder / "one"),
        "reasoning": ("reasoning", folder / "one"),
        "audit": ("data", "audit", folder / "train", folder / "test"),
        "split": ("data", "split", folder / "train"),
        "harden": ("data", "harden", folder / "train"),
        "stats": ("data", "stats", folder / "train"),
        "attack": (
            "attack",
            WARM_START,
            "--data",
            folder / "test",
            "--limit",
            12,
            "--no-checks",
            "--seed",
            1,
            "--prompt",
            "bare",
        ),
    }
    for key, arguments in calls.items():
        _call(*arguments, "--out", folder / f"{key}-out")
    found = {run: _read(folder / run) for run in ("one", "two", "one-bad")}
    return found | {key: _read(folder / f"{key}-out") for key in calls}


def _call(*arguments: object) -> None:
    before, sys.argv = sys.argv, ["medr1", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{arguments} ended with {end.code}") from end
    finally:
        sys.argv = before


def _read(folder: Path) -> dict[str, Any]:
    """The JSON files that a run wrote, but its manifest."""
    return {
        path.name: _kept(json.loads(path.read_text()), folder.parent)
        for path in sorted(folder.glob("*.json"))
        if "manifest" not in path.name
    }


def _kept(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _kept(part, folder) for key, part in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [_kept(part, folder) for part in value]
    if isinstance(value, str):
        return value.replace(str(folder), "")
    return round(value, 10) if isinstance(value, float) else value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        Path(sys.argv[1]).write_text(json.dumps(numbers(Path(name)), indent=1, sort_keys=True) + "\n")
