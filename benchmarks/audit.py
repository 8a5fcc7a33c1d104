"""How fast an audit is: 89,000 questions without images, and hashing 384 × 384 PNGs. Prints a table, writes JSON.

    python benchmarks/audit.py [--records 89000] [--images 1000] [--out audit_benchmark.json]

The questions are drawn with the make-up of the published splits (80 % train, four options, few right texts); each step
runs in a process of its own, whose peak memory is what the kernel counted.
"""

import argparse
import io
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medr1.data.questions import read_questions
from medr1.data.settings import AuditSettings
from medr1.flows.audit import run_audit

LIMITS = {"seconds": 20.0, "peak_gib": 2.0, "images_per_second": 200.0}


def write_text_split(folder: Path, records: int, seed: int = 0) -> tuple[Path, Path]:
    """Two files in Med-R1's format: 80 % train."""
    chance = random.Random(seed)
    words = [f"{a}{b}" for a in ("cardi", "hepat", "ren", "pulmon", "derm", "neur") for b in ("itis", "oma", "osis")]
    golds = [f"{chance.choice(words)} of the {chance.choice(words)}" for _ in range(400)]
    wrong = [f"{chance.choice(words)} with {chance.choice(words)} {i}" for i in range(6000)]
    stems = [f"What does region {i} of this {chance.choice(words)} image show?" for i in range(3000)]
    rows = []
    for number in range(records):
        gold = chance.choice(golds)
        options = [gold, *chance.sample(wrong, 3)]
        chance.shuffle(options)
        letters = ", ".join(f"{letter}){text}" for letter, text in zip("ABCD", options, strict=True))
        image = f"Images/RadImageNet/{words[number % len(words)]}/scan{number // 2 * 3:06d}.png"
        problem = f"{chance.choice(stems)} {letters}"
        rows.append(
            {"image": image, "problem": problem, "solution": f"<answer> {'ABCD'[options.index(gold)]} </answer>"}
        )
    chance.shuffle(rows)
    cut = records * 4 // 5
    paths = folder / "CT_train.json", folder / "CT_test.json"
    for path, part in zip(paths, (rows[:cut], rows[cut:]), strict=True):
        path.write_text(json.dumps(part))
    return paths


def write_images(folder: Path, count: int, seed: int = 0) -> Path:
    """A JSON-lines file and `count` PNGs of 384 × 384 smooth noise with grain, about as large as a slice."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize(
            (384, 384), Image.Resampling.BICUBIC
        )
        grain = rng.integers(-6, 7, (384, 384, 1))
        pixels = np.clip(np.asarray(coarse).astype(int) + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
        lines.append({"image": f"{number}.png", "question": "Which?", "options": ["CT", "MRI"], "answer": "A"})
    path = folder / "images.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def measured(work: Callable[..., Any], *arguments: Any) -> dict[str, float]:
    """Seconds and peak memory of a call in a fresh process (of its children too, one after another)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (work, arguments))


def _timed(work: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": peak,
    }


def audit_files(train: Path, test: Path, out: Path) -> None:
    run_audit(AuditSettings(train=train, test=test, out=out))


def hash_images(path: Path) -> None:
    read_questions(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=89_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = write_text_split(folder, arguments.records)
        text = measured(audit_files, train, test, folder / "out")
        (folder / "pictures").mkdir()
        pictures = write_images(folder / "pictures", arguments.images)
        images = _hashing(pictures, arguments.images)
    result = {
        "records": arguments.records,
        "audit": text,
        "images": arguments.images,
        "hashing": images,
        "limits": LIMITS,
    }
    print(f"audit of {arguments.records:,} text records  {text['seconds']:6.1f} s (limit {LIMITS['seconds']:.0f})")
    print(f"  of its own processor time          {text['cpu_seconds']:6.1f} s")
    print(f"  peak memory                        {text['peak_gib']:6.2f} GiB (limit {LIMITS['peak_gib']:.0f})")
    print(f"image hashing, 384 px PNG            {images['images_per_second']:6.0f} / s (limit 200)")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def _hashing(path: Path, count: int) -> dict[str, float]:
    """Hashing starts its own worker processes, which a pool's worker may not: timed here, in this process."""
    start = time.perf_counter()
    hash_images(path)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": count / seconds}


if __name__ == "__main__":
    main()
