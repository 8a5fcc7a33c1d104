"""The only code that turns a completion into an answer.

    tags.py       what lies outside the thinking, what the answer block holds
    reading.py    which option the text of an answer names
    parser.py     the default parser, shared by rewards and evaluation
    published.py  the rules of the published systems, as they are

A completion is right under a protocol where `PROTOCOLS[name](completion, sample).letter == sample.gold`.
"""

from collections.abc import Callable

from medr1.answers.parser import AnswerFormat, parse_answer
from medr1.answers.published import EXTRACTORS, as_protocol
from medr1.types import ParsedAnswer, Sample

Protocol = Callable[[str, Sample], ParsedAnswer]
"""Reads a completion to a question. Never raises: a bad completion is data."""

PROTOCOLS: dict[str, Protocol] = {
    "default": parse_answer,
    **{name: as_protocol(extract) for name, extract in EXTRACTORS.items()},
}

__all__ = ["PROTOCOLS", "AnswerFormat", "Protocol", "parse_answer"]
