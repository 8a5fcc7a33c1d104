"""The page: complete, self-contained, and inert whatever the texts say."""

import base64
import re
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from medr1.data.images import png_bytes
from medr1.report.html import Fact, FigureItem, Finding, GalleryItem, Report, data_uri, render_report, write_report
from medr1.report.tables import Table

PNG = png_bytes(Image.new("RGB", (3, 2), (10, 20, 30)))
ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</style><svg onload=alert(1)>",
    "javascript:alert(1)",
    "<think>&lt;b&gt;</think>",
)


class Page(HTMLParser):
    """Elements with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def report_with(text: str) -> Report:
    return Report(
        title=text,
        intro=text,
        findings=[Finding(level=text, text=text)],
        headline=[Fact(label=text, value=text, note=text)],
        figures=[FigureItem(title=text, caption=text, image=b"<svg xmlns='http://www.w3.org/2000/svg'/>")],
        tables=[Table(title=text, columns=[text, text], rows=[[text, text]], note=text)],
        gallery=[
            GalleryItem(
                image=PNG,
                question=text,
                options=[text, text],
                thinking=text,
                answer=text,
                gold=text,
                right=False,
                note=text,
            )
        ],
        manifest={text: {text: text}},
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_texts_stay_texts(attack: str) -> None:
    def structure(page: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in page.elements]

    hostile, harmless = Page(render_report(report_with(attack))), Page(render_report(report_with("x")))
    # The same elements with the same attribute names: the text has become neither.
    assert structure(hostile) == structure(harmless)
    assert attack in hostile.text
    assert {tag for tag, _ in hostile.elements}.isdisjoint({"script", "iframe", "object", "embed", "link", "form"})
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)


def test_the_page_asks_nothing_of_the_net() -> None:
    html = render_report(report_with("x"))
    page = Page(html)
    sources = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(sources) == 2
    assert all(source and source.startswith("data:image/") for source in sources)
    assert "url(" not in html
    assert "@import" not in html
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_everything_in_the_report_is_on_the_page() -> None:
    marked = Report(
        title="title-1",
        intro="intro-1\n\nintro-2",
        findings=[Finding(level="warn", text="finding-1")],
        headline=[Fact(label="label-1", value="value-1", note="note-1")],
        figures=[FigureItem(title="figure-1", caption="caption-1", image=PNG)],
        tables=[Table(title="table-1", columns=["column-1", "column-2"], rows=[["cell-1", "cell-2"]], note="note-2")],
        gallery=[
            GalleryItem(
                image=PNG,
                question="question-1",
                options=["option-1", "option-2"],
                thinking="thinking-1",
                answer="B",
                gold="A",
                right=False,
                note="note-3",
            )
        ],
        manifest={"seed": "seed-1", "sampling": {"top_k": "top-1"}},
    )
    text = Page(render_report(marked)).text
    facts = [
        "title-1",
        "intro-1",
        "intro-2",
        "finding-1",
        "label-1",
        "value-1",
        "note-1",
        "seed-1",
        "top-1",
        "sampling.top_k",
    ]
    items = ["figure-1", "caption-1", "table-1", "column-1", "column-2", "cell-1", "cell-2", "note-2"]
    examples = ["question-1", "option-1", "option-2", "thinking-1", "note-3"]
    for word in facts + items + examples:
        assert word in text, word
    assert len(fields(Report)) == 8, "a new field belongs into this test"


@pytest.mark.parametrize(
    ("answer", "right", "says"),
    [
        ("A", True, "Answer A: right"),
        ("B", False, "Answer B: wrong; right is A"),
        (None, False, "No readable answer; right is A"),
    ],
)
def test_verdicts(answer: str | None, right: bool, says: str) -> None:
    item = GalleryItem(image=PNG, question="?", options=["a", "b"], thinking="", answer=answer, gold="A", right=right)
    page = Page(render_report(Report(title="t", intro="", gallery=[item])))
    assert says in " ".join(page.text.split())
    assert [a["data-letter"] for tag, a in page.elements if tag == "li" and a.get("class") == "gold"] == ["A"]


def test_empty_parts_have_no_heading() -> None:
    assert re.findall(r"<h2>(.*?)</h2>", render_report(Report(title="t", intro="i"))) == []


@pytest.mark.parametrize(("number", "wide"), [(1, "1"), (4, "4"), (5, "3"), (6, "3"), (7, "4"), (8, "4")])
def test_rows_of_facts_are_even(number: int, wide: str) -> None:
    facts = [Fact(label="l", value="v")] * number
    page = Page(render_report(Report(title="t", intro="", headline=facts)))
    assert [a["style"] for tag, a in page.elements if a.get("class") == "facts"] == [f"--columns: {wide}"]


def test_data_uris_hold_the_image() -> None:
    kind, encoded = data_uri(PNG).split(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(encoded) == PNG
    assert data_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;")
    assert data_uri(b"<?xml").startswith("data:image/svg+xml;")


def test_the_file_is_utf8(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "report.html", Report(title="Größe – ≥ 3", intro=""))
    assert "Größe – ≥ 3" in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")


def test_warnings_of_a_table_stand_above_it() -> None:
    table = Table(title="t", columns=("",), rows=[("cell",)], warnings=("void: <accuracy>.",))
    page = render_report(Report(title="x", intro="y", tables=[table]))
    assert page.index("void: &lt;accuracy&gt;.") < page.index("<caption>t</caption>")
