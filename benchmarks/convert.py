"""Memory and speed of a conversion with images: does the peak grow with the data?

Run as `python benchmarks/convert.py [--rows 2000 20000] [--size 64] [--out convert.json]`. Every measurement is a
process of its own: its peak resident memory counts the libraries too, so what matters is the difference per row.
Also measured: `medr1 data resize` in images a second.
"""

import argparse
import base64
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

KINDS = ("json", "csv", "tsv", "parquet")


def picture(number: int, size: int) -> bytes:
    """A noisy PNG, as scans are: it does not compress well, and every one is different."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make(folder: Path, kind: str, rows: int, size: int) -> Path:
    """A source of `rows` questions: images as files (json, csv), as base64 (tsv) or as bytes (parquet)."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = [
        {"question": f"Question {n} about a picture?", "A": "CT", "B": "MRI", "answer": "B"} for n in range(rows)
    ]
    if kind in ("json", "csv"):
        for number in range(min(rows, 500)):
            (folder / f"{number}.png").write_bytes(picture(number, size))
        table = [{"image": f"{n % 500}.png", **question} for n, question in enumerate(questions)]
    path = folder / f"rows.{kind}"
    if kind == "json":
        path.write_text(json.dumps(table))
    elif kind == "parquet":
        schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
        schema = pa.schema([*schema, *((name, pa.string()) for name in questions[0])])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, rows, 100):
                part = enumerate(questions[start : start + 100], start)
                embedded = [{"image": {"bytes": picture(n, size), "path": None}, **question} for n, question in part]
                writer.write_table(pa.Table.from_pylist(embedded, schema=schema))
    else:
        with path.open("w", newline="") as file:
            if kind == "tsv":
                pictures = (base64.b64encode(picture(n, size)).decode() for n in range(rows))
                table = ({"index": n, "image": next(pictures), **question} for n, question in enumerate(questions))
            writer_ = None
            for row in table:
                writer_ = writer_ or csv.DictWriter(file, list(row), delimiter="\t" if kind == "tsv" else ",")
                if file.tell() == 0:
                    writer_.writeheader()
                writer_.writerow(row)
    return path


def measure(path: Path) -> dict[str, float]:
    """Convert in this process; seconds and peak memory in MiB."""
    from medr1.data.convert import convert
    from medr1.data.settings import ConvertSettings

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        convert(ConvertSettings(path=path, out=Path(out) / "out"))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def resizing(images: int, from_size: int, to_size: int) -> float:
    """Images a second of `medr1 data resize`."""
    from medr1.data.convert import convert
    from medr1.data.resize import resize
    from medr1.data.settings import ConvertSettings, ResizeSettings

    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder) / "source", "parquet", images, from_size)
        convert(ConvertSettings(path=path, out=Path(folder) / "data"))
        started = time.perf_counter()
        resize(ResizeSettings(path=Path(folder) / "data", out=Path(folder) / "out", size=to_size))
        return images / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=(2000, 20000))
    parser.add_argument("--size", type=int, default=64, help="pixels a side of the pictures")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    results: dict[str, dict[str, float]] = {}
    for kind in options.kinds:
        for rows in options.rows:
            with tempfile.TemporaryDirectory() as folder:
                path = make(Path(folder), kind, rows, options.size)
                command = [sys.executable, __file__, "--measure", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[f"{kind} {rows}"] = json.loads(done.stdout)
        few, many = (results[f"{kind} {rows}"] for rows in options.rows)
        grown = (many["peak_mib"] - few["peak_mib"]) * 2**20 / (options.rows[1] - options.rows[0])
        rate = options.rows[1] / many["seconds"]
        print(
            f"{kind:8} peak {few['peak_mib']:.0f} → {many['peak_mib']:.0f} MiB for "
            f"{options.rows[0]} → {options.rows[1]} rows ({grown:.0f} bytes a row), {rate:.0f} rows/s"
        )
    results["resize 512 → 384"] = {"images_per_second": resizing(300, 512, 384)}
    print(f"resize 512 → 384: {results['resize 512 → 384']['images_per_second']:.0f} images/s")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
