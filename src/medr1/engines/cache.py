"""Completions kept on disk, so that the same request to a paid or slow engine is not made twice.

One small file per completion, named by the hash of all that decides it; written aside and renamed, so that several runs
may share a folder.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from medr1.engines.engine import Request, SamplingParams
from medr1.records import write_json
from medr1.types import Completion

_COMPLETION = TypeAdapter(Completion)


def image_hash(image: Image.Image) -> str:
    """Identity of the pixels, whatever file they came from."""
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()


def request_hash(
    identity: Mapping[str, str], request: Request, params: SamplingParams, draw: int, omitted: Collection[str] = ()
) -> str:
    """Identity of one completion: engine, text, pixels, sampling and draw.

    Greedy decoding knows no random numbers: neither the request's name nor the seed nor the draw changes its result.
    Where the temperature is among the fields that are `omitted`, the server may sample at its own.
    """
    asked = {field.name: getattr(request, field.name) for field in fields(Request) if field.name != "record"}
    asked["images"] = [image_hash(image) for image in request.images]
    sampling = asdict(params) | {"num_draws": 1, "draw": draw}
    if params.temperature == 0 and "temperature" not in omitted:
        del asked["key"], sampling["seed"], sampling["draw"]
    facts = {"engine": dict(identity), "request": asked, "sampling": sampling}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """A folder of completions by their `request_hash`."""

    folder: Path

    def get(self, key: str) -> Completion | None:
        """The completion kept under `key`; None where there is none, or only a torn or foreign file."""
        try:
            return _COMPLETION.validate_json(self._path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, completion: Completion) -> None:
        """Keep a completion. Failures are not answers and must be tried again."""
        assert completion.finish_reason != "error", "only answers are kept"
        write_json(self._path(key), asdict(completion))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
