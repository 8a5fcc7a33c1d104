"""JSON Schema of every file that holds a record: `python -m medr1.results.schemas FOLDER` writes them."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from medr1.results.answered import Asked, Reasoning, Rescored, RescoredOpen
from medr1.results.attacked import AttackedImage, Cell, CrashedCell, Grid
from medr1.results.audited import Audited, Described, Hardened
from medr1.results.compared import Compared, Corruptions, DemoSummary
from medr1.results.evaluated import RelianceRow, Results

FILES: dict[str, tuple[int, Any]] = {
    "ask.json": (1, Asked),  # no file: what `medr1 ask --json` prints
    "attack.json": (1, Cell | CrashedCell),
    "audit.json": (1, Audited),
    "compare.json": (1, Compared),
    "corruptions.json": (1, Corruptions),
    "grid.json": (1, Grid),
    "harden.json": (1, Hardened),
    "manifest.jsonl": (1, AttackedImage),
    "reasoning.json": (1, Reasoning),
    "reliance.jsonl": (1, RelianceRow),
    "rescore.json": (1, Rescored | RescoredOpen),
    "results.json": (1, Results),
    "stats.json": (1, Described),
    "summary.json": (1, DemoSummary),
}
"""Version and type of each file, or of a line of it. A version grows where a reader of the one before would stumble: a
field that is gone, renamed or of another kind; a further field is no other version."""


def schema(file: str) -> JsonSchemaValue:
    """The schema of a file of results."""
    version, kind = FILES[file]
    found = TypeAdapter(kind).json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"medr1/{file}/{version}"}
    return head | {"version": version} | found


def main(folder: Path) -> None:
    """Write them, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        path = folder / f"{file.replace('.jsonl', '.line').removesuffix('.json')}.schema.json"
        path.write_text(json.dumps(schema(file), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
