"""What every record of results keeps to: its JSON is as its schema says, and reading gives back what was written."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from json_schema import faults
from medr1.errors import DataError
from medr1.records import as_json, checked, read_record
from medr1.results import Record, Written
from medr1.results.compared import Compared
from medr1.results.evaluated import Results
from medr1.results.schemas import FILES, main, schema
from medr1.types import Estimate

ROOT = Path(__file__).parents[2]
STORED: dict[str, Any] = json.loads((ROOT / "tests" / "assets" / "numbers.json").read_text())


def with_seconds(value: Any) -> Any:
    """Stored numbers hold no times."""
    if isinstance(value, dict):
        added = {"seconds_per_sample": 0.5} if "attacked_wrong" in value else {}
        return {name: with_seconds(part) for name, part in value.items()} | added
    return [with_seconds(part) for part in value] if isinstance(value, list) else value


CASES = [
    (run, file, with_seconds(value)) for run, files in STORED.items() for file, value in files.items() if file in FILES
]
NAMES = [f"{run}/{file}" for run, file, _ in CASES]


@pytest.mark.parametrize(("run", "file", "value"), CASES, ids=NAMES)
def test_reading_gives_what_was_written(run: str, file: str, value: Any) -> None:
    adapter = TypeAdapter(FILES[file][1])
    record = adapter.validate_python(value)
    assert json.loads(as_json(record)) == value
    assert adapter.validate_python(json.loads(as_json(record))) == record
    assert list(faults(value, schema(file))) == []


@pytest.mark.parametrize("file", FILES)
def test_schemas_in_docs_are_those_of_the_types(file: str, tmp_path: Path) -> None:
    main(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in (ROOT / "docs" / "schemas").iterdir()}, "run: make docs"
    assert schema(file)["version"] == FILES[file][0] >= 1


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every object in a JSON value."""
    if isinstance(value, dict):
        yield path
        for name, part in value.items():
            yield from places(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value[:1]):
            yield from places(part, (*path, number))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


@pytest.mark.parametrize(("run", "file", "value"), CASES, ids=NAMES)
def test_a_field_too_much_is_one_sentence(run: str, file: str, value: Any) -> None:
    """Wherever a record stands: where names are free, as those of modalities are, a number is no part."""
    for path in places(value):
        changed = copy.deepcopy(value)
        at(changed, path)["surplus"] = [1]
        if (path and path[-1] in ("trace", "differing_arguments")) or "differing_arguments" in path:
            continue
        assert list(faults(changed, schema(file))), path
        with pytest.raises(DataError) as refused:
            checked(changed, FILES[file][1], Path(file))
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith(f"{file}: ")


@pytest.mark.parametrize(("file", "kind"), [("results.json", Results), ("compare.json", Compared)])
def test_a_missing_field_is_named(file: str, kind: type[Record], tmp_path: Path) -> None:
    value = next(value for _, name, value in CASES if name == file)
    optional = {"void", "train_overlap", "by_blind"} if kind is Results else set()
    for name in value.keys() - optional:
        left = {key: part for key, part in value.items() if key != name}
        (tmp_path / file).write_text(json.dumps(left))
        with pytest.raises(DataError, match=rf"\b{name}\b"):
            read_record(tmp_path / file, kind)
    for name in optional:
        (tmp_path / file).write_text(json.dumps({key: part for key, part in value.items() if key != name}))
        assert read_record(tmp_path / file, kind), "of an earlier version"


NUMBERS = st.floats(0, 1)
COUNTS = st.integers(1, 9)
ESTIMATES = st.builds(
    Estimate, value=NUMBERS, low=NUMBERS, high=NUMBERS, n=COUNTS, groups=COUNTS, method=st.sampled_from(["wilson", "x"])
)


@given(ESTIMATES)
def test_an_estimate_keeps_what_has_a_name(estimate: Estimate) -> None:
    every = Written("share", n="n", groups="n_groups", method="ci_method")
    assert every.read(every.write(estimate)) == estimate
    few = Written("share")
    read = few.read(few.write(estimate))
    assert (read.value, read.low, read.high) == (estimate.value, estimate.low, estimate.high)
    assert (read.n, read.groups, read.method) == (None, None, None), "not told, so not known"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"share": 0.5}, "ci95 is missing"),
        ({"share": 0.5, "ci95": [0.1, 0.9], "n": 3}, "n is not known here"),
        ({"share": "half", "ci95": [0.1, 0.9]}, "a number and its two limits"),
        ({"share": 0.5, "ci95": [0.1]}, "a number and its two limits"),
        ({"share": None, "ci95": None}, "a number and its two limits"),
    ],
)
def test_what_is_no_estimate(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Written("share").read(parts)


def test_the_validator_has_teeth() -> None:
    value = next(value for _, file, value in CASES if file == "compare.json")
    for path, wrong in ((("n",), "many"), (("pairs", 0, "p_holm"), None), (("pairs", 0, "difference", "ci95"), [0.1])):
        changed = copy.deepcopy(value)
        at(changed, path[:-1])[path[-1]] = wrong
        assert list(faults(changed, schema("compare.json"))), path
