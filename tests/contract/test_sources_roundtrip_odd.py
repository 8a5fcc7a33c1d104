"""The same of sources whose options are no cells: labels of films, folders of classes, letters inside of pictures."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from medr1.data import SOURCES
from medr1.data.formats.chest_xray14 import FINDINGS, NO_FINDING
from medr1.data.source import LeftOut
from medr1.errors import DataError
from medr1.prompts import question_text
from source_cases import PICTURES, SPELLINGS, Case, write

drawn = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
ROWS = 16
CLASSES = (
    "melanoma",
    "seborrheic_keratosis",
    "Grade 2",
    "A. baumannii",
    "no finding",
    "x, y & z",
    "肺",
    "B",
    "50 %",
    "#1",
)


@given(st.data())
@drawn
def test_films_have_the_findings_of_their_row(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("films")
    made: list[tuple[set[str] | None, str]] = []
    with (folder / "Data_Entry_2017.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Labels", "Follow-up #", "Patient ID"])
        for number in range(ROWS):
            labels = data.draw(st.sets(st.sampled_from(FINDINGS), min_size=1).map(sorted).flatmap(st.permutations))
            space, between = data.draw(st.sampled_from((" ", "_"))), data.draw(st.sampled_from(("|", " | ")))
            kind = data.draw(st.integers(0, 5))
            means: set[str] | None = set(labels)
            if kind == 0:
                labels, means = [NO_FINDING], {NO_FINDING}
            elif kind == 1:  # not among the findings, or beside none
                labels, means = (
                    data.draw(st.sampled_from(([*labels, "Bone"], [*labels, NO_FINDING], ["nan"], [""]))),
                    None,
                )
            cell = between.join(label.replace(" ", space) if kind > 1 else label for label in labels)
            made.append((means, str(number % 3)))
            writer.writerow([f"{number}.png", cell, "0", number % 3])
        writer.writerow(["last.png", "Mass", "0", "9"])
    left_out = LeftOut(skip_bad=True)
    found = {
        s.images[0].path: s for s in SOURCES["chest-xray14"].read(folder / "Data_Entry_2017.csv", left_out=left_out)
    }
    kept = {f"{number}.png": row for number, row in enumerate(made) if row[0] is not None}
    assert found.keys() == {*kept, "last.png"}
    assert left_out.bad == len(made) - len(kept)
    patients: dict[str, str] = {}
    for name, (means, patient) in kept.items():
        assert set(found[name].answers) == means
        assert all(finding in question_text(found[name], "lines") for finding in means or ())
        assert patients.setdefault(patient, found[name].group) == found[name].group
    assert len(set(patients.values())) == len(patients)


@given(st.lists(st.sampled_from(CLASSES), unique=True, min_size=2), st.data())
@drawn
def test_a_picture_is_of_the_class_of_its_folder(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("classes") / "own"
    for number, name in enumerate(classes):
        part = data.draw(st.sampled_from(("", "train", "test")))
        (folder / part / name).mkdir(parents=True)
        (folder / part / name / f"{number}.png").write_bytes(PICTURES[number % len(PICTURES)])
    shown = [name.replace("_", " ") for name in sorted(classes)]
    found = list(SOURCES["class-folders"].read(folder))
    assert len(found) == len(classes)
    for sample in found:
        path = Path(sample.images[0].path or "")
        assert list(sample.options) == shown
        assert sample.options[sample.answer_index or 0] == path.parent.name.replace("_", " ")
        for place, option in enumerate(shown):
            assert f"\n{'ABCDEFGHIJ'[place]}) {option}" in question_text(sample, "lines")
        assert sample.extra.get("split") == (path.parts[0] if len(path.parts) == 3 else None)


def test_classes_that_read_alike_are_refused(tmp_path: Path) -> None:
    for name in ("no_finding", "no finding"):
        (tmp_path / "own" / name).mkdir(parents=True)
        shutil.copy(__file__, tmp_path / "own" / name / "1.png")
    with pytest.raises(DataError, match="read alike"):
        list(SOURCES["class-folders"].read(tmp_path / "own"))


@given(st.data())
@drawn
def test_letters_inside_of_a_picture(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    made: list[tuple[int | None, Any]] = []
    for _ in range(ROWS):
        gold = data.draw(st.integers(0, 3))
        answer = data.draw(st.sampled_from(SPELLINGS))("ABCD"[gold], "ABCD"[gold])
        if data.draw(st.integers(0, 4)) == 0:
            made.append((None, data.draw(st.sampled_from(("E", "", "nan", "A or B", "1")))))
        else:
            made.append((gold, answer))
    made.append((3, "D"))
    records = [
        {"question_en": f"{number}: which next?", "question_zh": "?", "image": "a.png", "answer": answer}
        | {"data_id": number, "category": "2D"}
        for number, (_, answer) in enumerate(made)
    ]
    path = write(tmp_path_factory.mktemp("iq"), Case("own.jsonl", [], []), records)
    left_out = LeftOut(skip_bad=True)
    found = {int(s.question.split(":")[0]): s for s in SOURCES["mm-iq"].read(path, left_out=left_out)}
    assert found.keys() == {number for number, (gold, _) in enumerate(made) if gold is not None}
    assert left_out.bad == sum(gold is None for gold, _ in made)
    for number, sample in found.items():
        assert sample.answer_index == made[number][0]
        assert sample.options == tuple("ABCD")
