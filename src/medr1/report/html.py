"""`report.html`: one self-contained page. Images travel as data URIs; it runs no script and asks nothing of the net.

Questions and completions are other people's text: everything is escaped, and the page's own content security policy
forbids scripts and requests in case something slips through.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medr1.report.tables import Table
from medr1.types import LETTERS

SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""First bytes of the encoded images that a browser shows; anything else is taken for SVG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number of the headline, with what it means below it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of judgement."""

    level: str
    """One of `medr1.diagnosis.LEVELS`; it chooses sign and colour."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureItem:
    """An image of the report: PNG, JPEG or SVG bytes."""

    title: str
    caption: str
    image: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryItem:
    """One question with its image and what the model made of it."""

    image: bytes
    """PNG or JPEG."""
    question: str
    options: Sequence[str]
    thinking: str
    answer: str | None
    """Letter that was read from the completion; None where it was unreadable."""
    gold: str
    right: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the page shows, in its order."""

    title: str
    intro: str
    findings: Sequence[Finding] = ()
    headline: Sequence[Fact] = ()
    figures: Sequence[FigureItem] = ()
    tables: Sequence[Table] = ()
    gallery: Sequence[GalleryItem] = ()
    manifest: Mapping[str, object] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(report), encoding="utf-8")


def render_report(report: Report) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medr1", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "flat": flat, "verdict": verdict, "columns": columns}
    return environment.get_template("report.html.jinja").render(report=report, letters=LETTERS)


def data_uri(image: bytes) -> str:
    """The image as a data URI, for the `src` of an image element only."""
    kind = next((kind for start, kind in SIGNATURES.items() if image.startswith(start)), "image/svg+xml")
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def verdict(item: GalleryItem) -> str:
    """`right`, `wrong` or `unreadable`."""
    if item.right:
        return "right"
    return "unreadable" if item.answer is None else "wrong"


def columns(number: int, most: int = 4) -> int:
    """Columns of a grid of so many cards, at most `most`, whose rows are as even as can be.

    >>> [columns(number) for number in range(1, 10)]
    [1, 2, 3, 4, 3, 3, 4, 4, 3]
    """
    rows = math.ceil(number / most)
    return math.ceil(number / rows)


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as rows of dotted names and values.

    >>> flat({"seed": 0, "sampling": {"top_k": 1, "stop": []}})
    [('seed', '0'), ('sampling.top_k', '1'), ('sampling.stop', '')]
    """
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list | tuple):
        return [(prefix, ", ".join(map(str, value)))]
    return [(prefix, "" if value is None else str(value))]
