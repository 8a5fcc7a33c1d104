"""Outputs of the evaluation kits: one record a question, with the completion among its fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medr1.data.record_files import Record
from medr1.errors import DataError
from medr1.eval.stored.run import StoredAnswer, options_in_prompt, options_of, sample_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """One format."""

    name: str
    sniff: Callable[[Record], bool]
    """Whether a record has its fields."""
    parse: Callable[[Record, int], StoredAnswer]
    """A record and its number."""


def _is_vlmevalkit(record: Record) -> bool:
    return {"question", "prediction", "answer"} <= record.keys()


def _vlmevalkit(record: Record, number: int) -> StoredAnswer:
    sample = sample_of(
        record,
        identity=["vlmevalkit", record.get("index", number)],
        question=_text(record["question"]),
        options=options_of(record),
        gold=record["answer"],
    )
    return StoredAnswer(sample=sample, completions=[_text(record["prediction"])])


def _is_lmms_eval(record: Record) -> bool:
    return "doc_id" in record and bool({"resps", "filtered_resps"} & record.keys()) and "target" in record


def _lmms_eval(record: Record, number: int) -> StoredAnswer:
    doc: Record = record["doc"] if isinstance(record.get("doc"), Mapping) else {}
    prompt = _prompt(record)
    sample = sample_of(
        doc,
        identity=["lmms-eval", record["doc_id"]],
        question=_text(doc.get("question")) or prompt,
        options=options_of(doc) or options_in_prompt(prompt),
        gold=record["target"],
    )
    completions = [_text(text) for text in _flat(record.get("resps") or record.get("filtered_resps") or [])]
    if not completions:
        raise DataError("has no response; evaluate it again with --log_samples")
    return StoredAnswer(sample=sample, completions=completions)


def _prompt(record: Record) -> str:
    """The text that the model was shown: `input`, or the first text of `arguments`."""
    if isinstance(record.get("input"), str):
        return record["input"]
    return next((text for text in _flat(record.get("arguments")) if isinstance(text, str)), "")


def _is_medevalkit(record: Record) -> bool:
    return {"response", "answer"} <= record.keys()


def _medevalkit(record: Record, number: int) -> StoredAnswer:
    sample = sample_of(
        record,
        identity=["medevalkit", number],
        question=_text(record.get("question") or record.get("prompt")),
        options=options_of(record),
        gold=record["answer"],
    )
    return StoredAnswer(sample=sample, completions=[_text(record["response"])])


def _flat(value: Any) -> list[Any]:
    """The members of lists inside lists."""
    return [leaf for member in value for leaf in _flat(member)] if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """A cell as text; an empty one (which pandas calls NaN) as nothing."""
    return "" if value is None or value != value else str(value)


KITS = (
    Kit(name="vlmevalkit", sniff=_is_vlmevalkit, parse=_vlmevalkit),
    Kit(name="lmms-eval", sniff=_is_lmms_eval, parse=_lmms_eval),
    Kit(name="medevalkit", sniff=_is_medevalkit, parse=_medevalkit),
)
"""The first that fits a file's first record reads it."""
