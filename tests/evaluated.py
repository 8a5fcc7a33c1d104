"""`evaluate` with the fields of `Asking` among its own arguments: most tests change one of them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from medr1.engines.engine import Engine
from medr1.eval import runner
from medr1.results.evaluated import Results
from medr1.types import Sample

ASKED = {field.name for field in fields(runner.Asking)}


def evaluate(samples: Sequence[Sample], engine: Engine, **given: Any) -> Results:
    asking = runner.Asking(**{name: value for name, value in given.items() if name in ASKED})
    return runner.evaluate(samples, engine, asking, **{name: given[name] for name in given if name not in ASKED})
