"""Numbers of evaluation, comparison, robustness, rescoring, reasoning, audit and attack stay as they were.

`tests/assets/numbers.json` was written by `python tests/stored_numbers.py`; where a number moves on purpose, the file
is written anew, and `docs/log.md` says which number and why.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import stored_numbers
from json_schema import faults
from medr1.records import as_json, checked, read_jsonl
from medr1.results.schemas import FILES, schema

STORED = Path(__file__).parents[1] / "assets" / "numbers.json"
RELATIVE = 1e-6
"""Of sums in another order; the attack is on a model in float64."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def found(runs: Path) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(json.dumps(stored_numbers.numbers(runs)))
    return numbers


def differences(found: Any, wanted: Any, place: str = "") -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in found.keys() | wanted.keys():
            if key not in found or key not in wanted:
                yield f"{place}.{key} is only in the {'stored' if key in wanted else 'new'} ones"
            else:
                yield from differences(found[key], wanted[key], f"{place}.{key}")
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif isinstance(found, float) and isinstance(wanted, (int, float)):
        if not math.isclose(found, wanted, rel_tol=RELATIVE, abs_tol=1e-8):
            yield f"{place}: {found} instead of {wanted}"
    elif found != wanted:
        yield f"{place}: {found!r} instead of {wanted!r}"


@pytest.mark.parametrize("run", sorted(json.loads(STORED.read_text())))
def test_numbers_stay(found: dict[str, Any], run: str) -> None:
    assert list(differences(found[run], json.loads(STORED.read_text())[run])) == []


def test_every_file_is_as_its_schema_says(found: dict[str, Any], runs: Path) -> None:
    seen = set[str]()
    for path in sorted(path for path in runs.rglob("*.json*") if path.name in FILES):
        values = [json.loads(path.read_text())] if path.suffix == ".json" else read_jsonl(path)
        for value in values:
            assert list(faults(value, schema(path.name))) == [], path
            assert json.loads(as_json(checked(value, FILES[path.name][1], path))) == value, path
        seen.add(path.name)
    assert seen == FILES.keys() - {"ask.json", "summary.json"}, "ask and the demo have tests of their own"
