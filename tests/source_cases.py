"""Good records of every source, and files of them, for the contract suite and the fuzz tests.

Most formats have five made-up rows in `tests/assets/sources`, with what some fields of their samples must be; in a row
`{"picture": n, "as": "image"}` stands for an embedded picture (`"base64"` for its text).
"""

import base64
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ASSETS = Path(__file__).resolve().parent / "assets" / "sources"

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """Five good records of a format, what some fields of their samples are, and how to break one."""

    file: str
    """Its name under the folder of the data; empty where the folder itself is the data."""
    rows: Records
    samples: list[dict[str, Any]]
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)
    detected_as: str | None = None
    images_in: str = ""


INLINE = "Which technique? A)CT, B)Stain (H&E), C)x, y"
LINES = "Which technique?\nA) CT\nB) Stain (H&E)\nC) x, y"
OPTIONS = ["CT", "Stain (H&E)", "x, y"]

BROKEN_PROBLEM = {
    "letter outside the options": {"solution": "D"},
    "no letter": {"solution": "perhaps"},
    "empty question": {"problem": " A)x, B)y\nA) x\nB) y"},
    "no options": {"problem": "Which technique?"},
    "no image": {"image": ""},
    "image of another type": {"image": 3},
    "solution of another type": {"solution": 1},
    "half a character": {"image": "\ud800"},
}
BROKEN_TABLE = {
    "letter outside the options": {"answer": "D"},
    "text of no option": {"answer": "PET"},
    "empty question": {"question": " "},
    "no options": {"options": None},
    "no image": {"image": ""},
}

PLAIN = [{"question": "Which technique?", "options": OPTIONS, "gold": "B", "answer_type": "choice"}] * 5

CASES = {file.stem: Case(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(ASSETS.glob("*.json"))} | {
    "med-r1": Case(
        "CT_test.json",
        [
            {"image": f"Images/MIAS/{name}", "problem": INLINE, "solution": "<answer> B </answer>"}
            for name in ("a.png", "71%1 #2.png", "H&E (2).png", "d.png", "e.png")
        ],
        PLAIN,
        BROKEN_PROBLEM,
    ),
    "medvlm-r1": Case(
        "test.json",
        [
            {"image": [name], "problem": LINES, "solution": "B", "answer": OPTIONS[1], "subset": "X-Ray"}
            for name in ("a.png", "b.png", "c.png", "d.png", "e.png")
        ],
        PLAIN,
        {name: change for name, change in BROKEN_PROBLEM.items() if not name.startswith("image of")}
        | {"empty image list": {"image": []}, "answer of another option": {"answer": OPTIONS[0]}},
    ),
    "huatuo": Case(
        "test.json",
        [
            {
                "question": "Which technique?",
                "image": [name],
                "options": OPTIONS,
                "answer": OPTIONS[1],
                "dataset": "OmniMedVQA",
                "subset": "X-Ray",
            }
            for name in ("a.png", "b.png", "c.png", "d.png", "e.png")
        ],
        PLAIN,
        {name: change for name, change in BROKEN_TABLE.items() if name != "no image"}
        | {"empty image list": {"image": []}, "options with a number": {"options": ["CT", 3]}},
    ),
    "jsonl": Case(
        "own.jsonl",
        [
            {"image": name, "question": "Which technique?", "options": OPTIONS, "answer": "B", "modality": "X-Ray"}
            for name in ("a.png", "b.png", "c.png", "d.png", "e.png")
        ],
        PLAIN,
        BROKEN_TABLE,
    ),
    "csv": Case(
        "own.csv",
        [
            {"image": name, "question": "Which technique?", "options": json.dumps(OPTIONS), "answer": "B", "note": "é"}
            for name in ("a.png", "b.png", "c.png", "d.png", "e.png")
        ],
        PLAIN,
        {**BROKEN_TABLE, "no options": {"options": ""}, "no JSON": {"options": "CT; MRI"}},
    ),
}


def picture(number: int, kind: str) -> Any:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (number, 200, 0)).save(buffer, "PNG")
    data = buffer.getvalue()
    return base64.b64encode(data).decode() if kind == "base64" else {"bytes": data, "path": None}


def drawn(value: Any) -> Any:
    """The value with its pictures."""
    if isinstance(value, dict) and value.keys() == {"picture", "as"}:
        return picture(value["picture"], value["as"])
    if isinstance(value, dict):
        return {name: drawn(item) for name, item in value.items()}
    return [drawn(item) for item in value] if isinstance(value, list) else value


def write(folder: Path, case: Case, rows: Records) -> Path:
    """The rows in the container that the name of the file asks for."""
    path = folder / case.file if case.file else folder
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = drawn(rows)
    if not case.file:
        for row in rows:
            (path / row["image"]).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2)).save(path / row["image"])
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def _png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (9, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [_png(value) for value in (0, 127, 255)]
"""Three different ones."""

SPELLINGS: tuple[Callable[[str, str], Any], ...] = (
    lambda letter, text: letter,
    lambda letter, text: letter.lower(),
    lambda letter, text: f"({letter})",
    lambda letter, text: f" {letter}. ",
    lambda letter, text: f"{letter}) {text}",
    lambda letter, text: f"<answer> {letter} </answer>",
    lambda letter, text: chr(ord(letter) + 0xFEE0),  # full width
    lambda letter, text: text,
)
"""How people write the right option, of its letter and its text."""
