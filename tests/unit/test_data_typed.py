import base64
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from medr1.data import SOURCES, read_source
from medr1.data.source import Choice
from medr1.data.typed import image_refs, kind_of_answer, listed_options, other_fields, typed_sample
from medr1.errors import ConfigError, DataError
from medr1.types import ImageRef, Sample

IMAGE = [ImageRef(path="a.png")]


def sample(**change: Any) -> Sample:
    return typed_sample(**({"source": "s", "images": IMAGE, "question": "What?", "answers": ["x"]} | change))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *((answer, "yes_no") for answer in ("yes", "No", " YES. ")),
        *((answer, "number") for answer in ("3", "-1.5", "0,5")),
        *((answer, "text") for answer in ("yes, it is", "3 cm", "none", "٣", "1e5", "not seen")),
    ],
)
def test_the_type_follows_from_the_answer(answer: str, kind: str):
    assert kind_of_answer(answer) == sample(answers=[answer]).answer_type == kind


def test_yes_and_no_are_two_options_in_that_order():
    yes, no = sample(answers=["yes"]), sample(answers=["No."])
    assert (yes.options, yes.gold, yes.answers) == (("Yes", "No"), "A", ())
    assert no.gold == "B"
    assert yes.id == no.id, "the gold is no part of a question's identity"


def test_open_answers_are_kept_apart_from_options():
    several = sample(answers=["effusion", "mass"], answer_type="multi")
    assert (several.answers, several.options, several.gold, several.answer_type) == (
        ("effusion", "mass"),
        (),
        None,
        "multi",
    )
    assert sample(answers=["a", "b"], answer_type="text").answers == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ["a", "b"]}, "2 answers and no options"),
        ({"answers": []}, "0 answers"),
        ({"answers": ["B"]}, "is a letter, but there are no options"),
        ({"answer_type": "choice"}, "no options to choose from"),
        ({"answer_type": "yes_no"}, "not yes or no"),
        ({"answer_type": "number"}, "not a number"),
        ({"question": " "}, "empty"),
        ({"answers": [" "], "answer_type": "text"}, "empty"),
        ({"options": ["a", "b"]}, "outside the options A B"),
        ({"options": ["a", "b"], "answers": ["x y"]}, "not among the options"),
    ],
)
def test_answers_that_do_not_fit_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        sample(**change)


def test_embedded_images_are_known_by_their_content():
    one, same, other = (
        sample(images=image_refs({"image": {"bytes": data, "path": path}}, "image"))
        for data, path in ((b"1", "x/a.png"), (b"1", None), (b"2", "x/a.png"))
    )
    assert one.id == same.id != other.id
    assert one.group == same.group != other.group
    assert one.images == (ImageRef(path="a.png", data=b"1"),)
    assert same.images[0].path
    assert not one.extra


def test_folders_of_names_are_kept_beside_the_sample():
    assert sample(images=[ImageRef(path="p7/a.png")]).extra == {"images": '["p7/a.png"]'}
    assert sample().extra == {}


@pytest.mark.parametrize(
    "value", [3, [None], {"bytes": b""}, ["a.png", 3], "https://x.org/a.png", "data:image/png,%89PNG", "x" * 1025]
)
def test_what_is_no_image_is_refused(value: Any):
    with pytest.raises(DataError, match="image"):
        image_refs({"image": value}, "image")


@pytest.mark.parametrize(
    "value",
    [{"B": "y", "A": "x"}, '{"A": "x", "B": "y"}', "A. x\nB) y", {"A": "x", "B": "y", "C": None}, ["x", "y", None]],
)
def test_options_by_letter_or_as_a_list(value: Any):
    assert listed_options({"o": value}, "o") == ("x", "y")


@pytest.mark.parametrize(
    "value", [{}, "x or y", "A. x\ny", None, [1, "x"], {"A": 1}, "[" * 10_000, {"AA": "x"}, {"A": "x", "a": "y"}]
)
def test_options_without_letters_are_refused(value: Any):
    with pytest.raises(DataError, match="o "):
        listed_options({"o": value}, "o")


@pytest.mark.parametrize("value", [None, "", " ", "nan", [], {"bytes": None, "path": None}])
def test_no_image_is_none(value: Any):
    assert image_refs({"image": value}, "image") == ()


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(120))
ENCODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value",
    [
        *(ENCODED, f"data:image/png;base64,{ENCODED}", "\n".join(textwrap.wrap(ENCODED, 76)), [ENCODED]),
        *({"bytes": ENCODED, "path": None}, f"DATA:image/png;base64,{ENCODED}", {"bytes": PNG}),
    ],
)
def test_pictures_as_text_are_decoded(value: Any):
    assert [ref.data for ref in image_refs({"image": value}, "image")] == [PNG]


def test_a_broken_picture_as_text_is_not_shown():
    for value in (ENCODED[:-1] + "%" * 30, "iVBORw0KGgo" + "#" * 5000, f"data:image/png;base64,{'#' * 5000}"):
        with pytest.raises(DataError, match="no base64") as caught:
            image_refs({"image": value}, "image")
        assert len(str(caught.value)) < 200


def test_other_fields_are_texts():
    record = {"used": 1, "none": None, "empty": "", "bytes": b"x", "text": "é", "list": [1, {"a": b"x"}], "yes": True}
    assert other_fields(record, {"used"}) == {"text": "é", "list": '[1, {"a": null}]', "yes": "true"}
    for name, value in (("record_fields", "x"), ("splits", "x"), ("a", "\ud800"), ("\ud800", "a")):
        with pytest.raises(DataError):
            other_fields({name: value}, set())


ROWS = [
    {"Bild": f"{n}.png", "Frage": f"{n}?", "answer": "yes", "lang": lang, "organ": organ}
    for n, (lang, organ) in enumerate([("de", "lung"), ("en", "lung"), ("en", "liver"), ("zh", "lung")])
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def asked(path: Path, **choice: Any) -> list[str]:
    columns = {"image": "Bild", "question": "Frage"}
    return [one.question for one in read_source(path, choice=Choice(**({"columns": columns} | choice)))]


def test_columns_are_mapped_and_records_chosen(table: Path):
    assert asked(table) == ["0?", "1?", "2?", "3?"]
    assert asked(table, where={"lang": ["en", "de"]}) == ["0?", "1?", "2?"]
    assert asked(table, where={"lang": ["en", "de"], "organ": ["lung"]}) == ["0?", "1?"]


def test_images_are_looked_for_where_the_source_keeps_them(table: Path):
    source, choice = SOURCES["slake"], Choice(columns={"img_name": "Bild", "question": "Frage"})
    rows = [{"q_lang": "en", "modality": "CT", **row} for row in ROWS]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert source.image_root(table, choice) == table.parent / "imgs"
    (table.parent / "0.png").write_bytes(b"x")
    assert source.image_root(table, choice) == source.image_root(table.parent, choice) == table.parent
    (table.parent / "imgs").mkdir()
    (table.parent / "imgs" / "0.png").write_bytes(b"x")
    assert source.image_root(table, choice) == table.parent / "imgs"


def test_wrong_columns_and_choices_are_named(table: Path):
    with pytest.raises(ConfigError, match="'Antwort' in the data; it has Bild"):
        asked(table, columns={"answer": "Antwort"})
    with pytest.raises(DataError, match="no field 'sprache'"):
        asked(table, where={"sprache": ["en"]})
    with pytest.raises(DataError, match="no record where lang is fr"):
        asked(table, where={"lang": ["fr"]})
    with pytest.raises(DataError, match="fields Bild, Frage"):
        asked(table, columns={})
