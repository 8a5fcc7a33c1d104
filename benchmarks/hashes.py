"""What knowing a run by its contents costs: seconds a GB of weights, milliseconds a picture, first and again.

python benchmarks/hashes.py --gigabytes 2 --pictures 2000
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from medr1.data.phantom import phantom
from medr1.records import content_hashes, file_hash


def seconds(call: object) -> float:
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        weights = Path(folder) / "model.safetensors"
        block = np.random.default_rng(0).bytes(10**8)
        with weights.open("wb") as file:
            for _ in range(round(10 * options.gigabytes)):
                file.write(block)
        size = weights.stat().st_size / 1e9
        first, again = seconds(lambda: file_hash(weights)), seconds(lambda: file_hash(weights))
        print(f"weights: {first / size:.2f} s/GB the first time, {1000 * again:.2f} ms a file again ({size:.1f} GB)")
        samples = [phantom("test", index, side=336).sample for index in range(50)]
        taken = seconds(lambda: [content_hashes(samples) for _ in range(options.pictures // 50)])
        inside = sum(len(ref.data or b"") for sample in samples for ref in sample.images) / len(samples) / 1e3
        print(f"questions with an embedded picture of {inside:.0f} kB: {1000 * taken / options.pictures:.3f} ms each")


if __name__ == "__main__":
    main()
