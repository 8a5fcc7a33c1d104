"""What a person reads in a row is what the prompt shows and what is scored, or the row is refused: for every source.

Rows are generated as a question with its options, and written as each format writes them, in the spellings that people
use. None may come out with another question, other options, another right one, another letter or other pictures.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from medr1.answers import PROTOCOLS
from medr1.data import SOURCES
from medr1.data.source import LeftOut
from medr1.prompts import question_text
from medr1.train.dataset import reordered
from medr1.types import LETTERS, Sample
from source_cases import PICTURES, SPELLINGS, Case, write

EXAMPLES, ROWS = 12, 16
LEAST_ROWS = 2000


TEXTS = (
    *(
        "CT",
        "MRI (T2)",
        "Stain (H&E)",
        "x, y and z",
        "AMD (B)",
        "Vitamin A",
        "No",
        "Yes, it is",
        "E. coli",
        "S. aureus",
    ),
    *("5 cm以上", "1", "2", "None", "NA", "A lesion", "I see nothing", "肺", "Grade I–II", "<5 %", "> 5 %", "+", "−"),
    *(
        "Breast tissue.",
        "breast",
        "Aa",
        "No finding",
        "Q wave",
        "b12",
        "α-blocker",
        '"quoted"',
        "Option",
        "left\tright",
        "0.5",
    ),
)
REFERRING = ("Both A and B", "None of the above", "A和B都是", "以上都不是", "All of these", "A, B or both", "B only")
MISSING: tuple[Any, ...] = (None, "", " ", "nan", float("nan"), "<NA>")


@dataclass(frozen=True)
class Row:
    """A question as its author meant it, and how it is written."""

    number: int
    options: tuple[str, ...]
    """An empty one is a letter that is left out."""
    gold: int
    answer: Any
    """Of the right option, in some spelling, or something that names none."""
    labelled: str = "{text}"
    missing: Any = None
    pictures: tuple[str | bytes, ...] = ("a.png",)
    form: str = "{base64}"
    """Of a picture inside the record."""
    asked: str = "{question}"
    shown: str = "{question}"
    """The same without places of pictures."""
    refused: bool = False

    @property
    def question(self) -> str:
        return f"{self.number}: which of these, 5 < 6?"

    @property
    def text(self) -> str:
        return self.asked.format(question=self.question)

    @property
    def written(self) -> list[Any]:
        """The options as they are written."""
        labelled = zip(LETTERS, self.options, strict=False)
        return [self.labelled.format(letter=le, text=text) if text else self.missing for le, text in labelled]

    @property
    def images(self) -> list[str]:
        as_text = [
            picture if isinstance(picture, str) else base64.b64encode(picture).decode() for picture in self.pictures
        ]
        return [
            self.form.format(base64=text) if isinstance(picture, bytes) else text
            for text, picture in zip(as_text, self.pictures, strict=True)
        ]


LABELS = ("{letter}. {text}", "({letter}) {text}", "{letter}) {text}", "{letter}: {text}")


@st.composite
def rows(draw: st.DrawFn, number: int, gaps: bool, most: int, least: int = 2) -> Row:
    count = draw(st.integers(least, most) | st.just(min(4, most)))
    texts = draw(st.permutations(TEXTS))[:count] if count < 15 else [*draw(st.permutations(TEXTS))[:count]]
    options = list(texts)
    gold = draw(st.integers(0, count - 1))
    if count > 2 and draw(st.integers(0, 4)) == 0:
        options[-1] = draw(st.sampled_from(REFERRING))
    if gaps and count > 3 and draw(st.integers(0, 2)) == 0:
        options[draw(st.sampled_from([place for place in range(count - 1) if place != gold]))] = ""
    letter = LETTERS[gold]
    row = Row(number, tuple(options), gold, draw(st.sampled_from(SPELLINGS))(letter, options[gold]))
    row = replace(row, missing=draw(st.sampled_from(MISSING)), labelled=draw(st.sampled_from(("{text}", *LABELS))))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        outside = LETTERS[count] if count < len(LETTERS) else "none at all"
        return replace(row, answer=draw(st.sampled_from([*MISSING, "PET", "A or B", outside, "null"])), refused=True)
    if kind < 4:
        picture = draw(st.sampled_from(PICTURES))
        row = replace(
            row, pictures=(picture,), form=draw(st.sampled_from(("{base64}", "data:image/png;base64,{base64}")))
        )
    if kind in (1, 4):
        return replace(
            row, asked=draw(st.sampled_from(("<image>\n{question}", "{question}\n<image>", "<img> {question}")))
        )
    return row


Writer = Callable[[Row], dict[str, Any]]


def _columns(row: Row, prefix: str) -> dict[str, Any]:
    return {f"{prefix}{letter}": option for letter, option in zip(LETTERS, row.written, strict=False)}


def _cells(record: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in record.items()}


def _by_letter(row: Row) -> dict[str, Any]:
    return dict(zip(LETTERS, row.written, strict=False))


def _lines(row: Row, mark: str) -> str:
    return row.text + "".join(
        mark.format(letter=letter, text=text) for letter, text in zip(LETTERS, row.options, strict=False)
    )


def _turns(row: Row) -> list[dict[str, str]]:
    told = "\nAnswer with the option's letter." if row.number % 2 else ""
    return [
        {"from": "human", "value": _lines(row, "\n{letter}. {text}") + told},
        {"from": "gpt", "value": row.answer},
    ]


WIDTH = len(TEXTS) if len(TEXTS) < len(LETTERS) else len(LETTERS)
"""Columns of a table, and the most options of a question."""


def _wide(row: Row, prefix: str) -> dict[str, Any]:
    names = [f"{prefix}{letter}" for letter in LETTERS[:WIDTH]]
    return dict.fromkeys(names, row.missing) | _columns(row, prefix)


@dataclass(frozen=True)
class Format:
    """How a source writes a row."""

    file: str
    write: Writer
    gaps: bool = False
    """Whether letters may be left out."""
    most: int = WIDTH
    least: int = 2
    labels: bool = True


FORMATS = {
    "med-r1": Format(
        "own_test.json",
        lambda row: {
            "image": row.images[0],
            "problem": row.text
            + " "
            + ", ".join(f"{le}){text}" for le, text in zip(LETTERS, row.options, strict=False)),
            "solution": row.answer,
        },
        labels=False,
    ),
    "medvlm-r1": Format(
        "own_test.json",
        lambda row: {"image": row.images, "problem": _lines(row, "\n{letter}) {text}"), "solution": row.answer},
        labels=False,
    ),
    "huatuo": Format(
        "own.json",
        lambda row: {
            **{"image": row.images, "question": row.text, "options": row.written, "answer": row.answer},
            "dataset": "x",
        },
        gaps=True,
    ),
    "omnimedvqa": Format(
        "own.json",
        lambda row: {
            **{"image_path": row.images[0], "question": row.text, **_columns(row, "option_"), "gt_answer": row.answer},
            **{"dataset": "x", "question_type": "other", "modality_type": "CT scan"},
        },
        gaps=True,
    ),
    "pmc-vqa": Format(
        "own.csv",
        lambda row: _cells(
            {"Figure_path": row.images[0], "Question": row.text, **_columns(row, "Choice "), "Answer": row.answer}
        ),
        gaps=True,
        most=4,
        least=4,
    ),
    "medxpertqa-mm": Format(
        "own.jsonl",
        lambda row: {
            **{"images": row.images, "question": f"{row.text}\nAnswer Choices: (A) x", "options": _by_letter(row)},
            **{"label": row.answer, "medical_task": "Diagnosis", "body_system": "x"},
        },
        gaps=True,
    ),
    "medvlthinker": Format(
        "own.jsonl",
        lambda row: {
            **{"images": row.images, "question": row.text, "answer_label": row.answer, "dataset_name": "x"},
            "options": json.dumps(_by_letter(row)) if row.number % 2 else _by_letter(row),
        },
        gaps=True,
    ),
    "trl": Format(
        "own.jsonl",
        lambda row: {"images": row.images, "prompt": _lines(row, "\n({letter}) {text}"), "solution": row.answer},
        labels=False,
    ),
    "llava": Format(
        "own.jsonl",
        lambda row: {"image": row.images[0], "conversations": _turns(row)},
        labels=False,
    ),
    "vlmevalkit": Format(
        "own.tsv",
        lambda row: _cells(
            {
                **{"index": row.number, "image": base64.b64encode(PICTURES[0]).decode(), "question": row.text},
                **_wide(row, ""),
                "answer": row.answer,
            }
        ),
        gaps=True,
    ),
    "jsonl": Format(
        "own.jsonl",
        lambda row: {
            **{"image": row.images, "question": row.text, "answer": row.answer},
            **({"options": row.written} if row.number % 3 else _columns(row, "option_")),
        },
        gaps=True,
    ),
    "csv": Format(
        "own.csv",
        lambda row: _cells({"image": row.images[0], "question": row.text, **_wide(row, ""), "answer": row.answer}),
        gaps=True,
    ),
    "rows": Format(
        "own.parquet",
        lambda row: {
            **{"image": row.images[0], "question": row.text, "answer": _text_or_none(row.answer)},
            "options": [_text_or_none(option) for option in row.written],
        },
        gaps=True,
    ),
}
OTHERWISE = {  # those without a word of where: test_sources_roundtrip_odd.py
    **dict.fromkeys(("vqa-rad", "slake", "path-vqa", "pubmedvision"), "open answers: test_open_rows_are_what_they_say"),
    "mm-iq": "its options are the letters",
    "chest-xray14": "one question for all",
    "class-folders": "options are folders",
}


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def shown(row: Row) -> str:
    """The text that a person reads: the question, and every option that is there behind its letter."""
    lettered = zip(LETTERS, row.options, strict=False)
    return row.question + "".join(f"\n{letter}) {text.strip()}" for letter, text in lettered if text)


def check(row: Row, sample: Sample, embedded: bool) -> None:
    assert question_text(sample, "lines") == shown(row)
    assert sample.gold == LETTERS[row.gold]
    assert sample.options[row.gold] == row.options[row.gold].strip()
    for place, option in enumerate(sample.options):
        if option:
            read = PROTOCOLS["default"](f"<think> x </think> <answer>{LETTERS[place]}</answer>", sample)
            assert (read.letter == sample.gold) == (place == row.gold)
    assert len(sample.images) == len(row.pictures)
    if not embedded:
        assert [ref.data or ref.path for ref in sample.images] == list(row.pictures)
    turned = reordered(sample, np.random.default_rng(row.number))
    assert turned.options[turned.answer_index or 0] == sample.options[row.gold]
    if set(row.options) & {"", *REFERRING}:
        assert turned == sample


def test_every_source_has_generated_rows():
    assert FORMATS.keys() | OTHERWISE.keys() == SOURCES.keys()
    assert len(FORMATS) * EXAMPLES * ROWS >= LEAST_ROWS


@pytest.mark.parametrize("name", FORMATS)
def test_no_row_changes_silently(tmp_path: Path, name: str):
    form, seen = FORMATS[name], 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # a batch of rows takes minutes to shrink, and names the row as it is
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def every_row_is_itself_or_refused(data: st.DataObject) -> None:
        nonlocal seen
        made = [data.draw(rows(number, form.gaps, form.most, form.least)) for number in range(ROWS)]
        made.append(Row(ROWS, TEXTS[:4], 3, "D"))  # a file of bad records only is refused as a whole
        made = [row if form.labels else replace(row, labelled="{text}") for row in made]
        seen += len(made)
        path = write(tmp_path, Case(form.file, [], []), [form.write(row) for row in made])
        left_out = LeftOut(skip_bad=True)
        found = {s.question.split(":")[0]: s for s in SOURCES[name].read(path, left_out=left_out)}
        kept = [row for row in made if not row.refused]
        assert found.keys() == {str(row.number) for row in kept}, left_out.first_bad
        assert left_out.bad == len(made) - len(kept)
        for row in kept:
            check(row, found[str(row.number)], embedded=name == "vlmevalkit")

    every_row_is_itself_or_refused()
    assert seen >= EXAMPLES * ROWS


OPEN: dict[str, tuple[str, Callable[[str, Any], dict[str, Any]]]] = {
    "vqa-rad": (
        "own.json",
        lambda asked, answer: {
            **{"image_name": "a.png", "image_organ": "HEAD", "phrase_type": "test_freeform"},
            **{"question": asked, "answer": answer},
        },
    ),
    "slake": (
        "own.json",
        lambda asked, answer: {
            **{"img_name": "a.png", "q_lang": "en", "modality": "CT", "question": asked, "answer": answer}
        },
    ),
    "path-vqa": ("own.parquet", lambda asked, answer: {"image": "a.png", "question": asked, "answer": answer}),
    "pubmedvision": (
        "own.json",
        lambda asked, answer: {
            **{"image": ["a.png"], "modality": "CT", "body_part": "Lung"},
            "conversations": [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": answer}],
        },
    ),
    "jsonl": ("own.jsonl", lambda asked, answer: {"image": "a.png", "question": asked, "answer": answer}),
}
OPEN_ANSWERS = (
    "yes",
    "No.",
    "3",
    "2.5",
    "2 cm",
    "None",
    "NA",
    "left lung",
    "hepatitis B",
    "A lesion",
    "+",
    "右肺",
    "N/A",
)
NO_ANSWERS = (None, "", "  ", "nan", "NaN", "<NA>", "null")


@pytest.mark.parametrize("name", OPEN)
def test_open_rows_are_what_they_say(tmp_path: Path, name: str):
    file, as_row = OPEN[name]
    answers = [*OPEN_ANSWERS, *NO_ANSWERS]
    made = [as_row(f"{number}: what is seen?", answer) for number, answer in enumerate(answers)]
    left_out = LeftOut(skip_bad=True)
    found = list(SOURCES[name].read(write(tmp_path, Case(file, [], []), made), left_out=left_out))
    assert left_out.bad == len(NO_ANSWERS)
    for number, (answer, sample) in enumerate(zip(OPEN_ANSWERS, found, strict=True)):
        assert sample.question == question_text(sample, "lines").split("\n")[0] == f"{number}: what is seen?"
        gold = sample.answers or (sample.options[sample.answer_index or 0],)
        assert [text.casefold().rstrip(".") for text in gold] == [answer.casefold().rstrip(".")]
