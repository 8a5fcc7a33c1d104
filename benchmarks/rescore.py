"""How fast stored predictions are scored again under every protocol, without a model. Prints a table, writes JSON.

    python benchmarks/rescore.py [--predictions 18000] [--out rescore_benchmark.json]

The completions are what models of the field write, in these shares: 60 % thinking and a tagged letter, 10 % a tagged
option text, 15 % a letter or a letter with its text, 10 % prose without tags, 5 % refusals. The command runs as a user
runs it, in a process of its own, start of Python included.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medr1.records import JsonlAppender

LIMITS = {"seconds": 60.0}
PROSE = (
    "the image shows a hyperintense lesion in left temporal lobe with mild surrounding oedema and no midline shift so "
    "this appearance on axial slice suggests that option is more likely than any other finding described here"
)
OPTIONS = (
    ("CT", "Breast tissue", "MRI", "X-ray"),
    ("Benign", "Malignant"),
    ("Cerebral infarction with oedema", "Low-grade glioma", "Normal brain", "Meningioma of the convexity"),
    ("Yes", "No"),
)


def completion(chance: random.Random, options: tuple[str, ...]) -> str:
    """What a model may write; wrong as often as right."""
    index = chance.randrange(len(options))
    letter, text = "ABCD"[index], options[index]
    thinking = " ".join(chance.choices(PROSE.split(), k=chance.randint(40, 160)))
    draw = chance.random()
    if draw < 0.6:
        return f"<think>{thinking}</think><answer>{letter}</answer>"
    if draw < 0.7:
        return f"<think>{thinking}</think>\n<answer>{text}</answer>"
    if draw < 0.85:
        return chance.choice([letter, f"{letter}.", f"{letter}) {text}", f"The answer is {letter}."])
    if draw < 0.95:
        return f"{thinking}. I would say {text.lower()}."
    return "I'm sorry, but I cannot determine the diagnosis from this image."


def write_predictions(path: Path, count: int, seed: int = 0) -> None:
    """A `predictions.jsonl` with two questions an image."""
    chance = random.Random(seed)
    with JsonlAppender(path) as file:
        for number in range(count):
            options = OPTIONS[number % len(OPTIONS)]
            line = {
                "id": f"q{number}",
                "variant": "",
                "draw": 0,
                "group": f"image{number // 2}",
                "modality": chance.choice(["CT", "MRI", "X-Ray"]),
                "task": chance.choice(["Disease Diagnosis", "Modality Recognition"]),
                "source": "drawn",
                "options": options,
                "gold": "ABCD"[chance.randrange(len(options))],
                "prompt_style": "think",
                "completion": completion(chance, options),
                "answer": None,
                "parse_status": "ok",
                "num_tokens": 100,
            }
            file.append(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=18_000)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_predictions(folder / "predictions.jsonl", arguments.predictions)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "medr1", "rescore", str(folder / "predictions.jsonl"), "--out", str(folder)],
            check=True,
        )
        seconds = time.perf_counter() - start
        protocols = len(json.loads((folder / "rescore.json").read_text())["protocols"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "predictions": arguments.predictions,
        "protocols": protocols,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,
        "limits": LIMITS,
    }
    print(f"{arguments.predictions:,} predictions under {protocols} protocols  {seconds:6.1f} s (limit 60)")
    print(f"  processor time                          {result['cpu_seconds']:6.1f} s")
    print(f"  peak memory                             {result['peak_gib']:6.2f} GiB")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
