import json
from pathlib import Path
from typing import Any

import pytest

from medr1.data import SOURCES, read_source
from medr1.data.source import LeftOut
from medr1.errors import DataError
from medr1.types import Sample

RECORD = {"image": "a.png", "question": "Which?", "options": ["CT", "MRI", "No"], "answer": "B"}


def read_json(folder: Path, **change: Any) -> Sample:
    (folder / "own.v2.jsonl").write_text(json.dumps(RECORD | change))
    [sample] = read_source(folder / "own.v2.jsonl", "jsonl")
    return sample


def read_csv(folder: Path, text: str) -> list[Sample]:
    (folder / "own.csv").write_text(text, encoding="utf-8-sig")
    return list(read_source(folder / "own.csv"))


def test_the_least_that_is_needed(tmp_path: Path):
    sample = read_json(tmp_path)
    assert (sample.options, sample.gold, sample.source) == (("CT", "MRI", "No"), "B", "own")
    assert (sample.modality, sample.task, sample.rationale, sample.extra) == ("unknown", "unknown", None, {})


def test_all_optional_columns(tmp_path: Path):
    sample = read_json(
        tmp_path,
        image=["b.png", "a.png"],
        modality="mri",
        task="Lesion_Grading",
        source="Ours",
        group="P7",
        rationale="so",
        age=61,
        site="x",
    )
    assert [ref.path for ref in sample.images] == ["b.png", "a.png"]
    assert (sample.modality, sample.task, sample.source, sample.rationale) == ("MRI", "Lesion Grading", "Ours", "so")
    assert sample.extra == {"age": "61", "site": "x"}
    assert sample.group == read_json(tmp_path, image="other.png", group="P7").group != read_json(tmp_path).group


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        *(("A", "A"), ("C", "C"), ("MRI", "B"), (" MRI ", "B"), ("No", "C"), ("b", "B"), ("(B)", "B"), ("B.", "B")),
        *(("B) MRI", "B"), ("mri", "B"), ("MRI.", "B"), ("the answer is B", "B")),
    ],
)
def test_answers_are_letters_or_exact_texts(tmp_path: Path, answer: str, gold: str):
    assert read_json(tmp_path, answer=answer).gold == gold


@pytest.mark.parametrize("answer", ["D", "d", "PET", "A or B", "A. MRI", "", "1", None, 1, "nan", float("nan"), "null"])
def test_other_answers_are_refused(tmp_path: Path, answer: Any):
    with pytest.raises(DataError, match="record 1"):
        read_json(tmp_path, answer=answer)


def test_an_answer_that_is_a_letter_and_the_text_of_another_option_is_refused(tmp_path: Path):
    options = ["B", "A"]
    with pytest.raises(DataError, match="letter of one option and the text of another"):
        read_json(tmp_path, options=options, answer="A")
    assert read_json(tmp_path, options=["A", "B"], answer="B").gold == "B"
    assert read_json(tmp_path, options=["x", "Z"], answer="Z").gold == "B"


@pytest.mark.parametrize("header", ["A,B,C", "option_A,option_B,option_C", "a,b,c", "option_a,option_b,option_c"])
def test_options_in_columns(tmp_path: Path, header: str):
    text = (
        f'image,question,{header},answer,site\na.png,"Which, then?",CT,MRI,,B,é\n"b ""2"".png",Which?,CT,MRI,No,No,\n'
    )
    short, long = read_csv(tmp_path, text)
    assert (short.question, short.options, short.gold) == ("Which, then?", ("CT", "MRI"), "B")
    assert short.extra == {"site": "é"}
    assert (long.images[0].path, long.options, long.gold) == ('b "2".png', ("CT", "MRI", "No"), "C")


def test_letters_stay_where_a_column_is_empty(tmp_path: Path):
    header = "image,question,A,B,C,D,answer\n"
    [sample] = read_csv(tmp_path, f"{header}a.png,Which?,,axial,coronal,sagittal,C\n")
    assert (sample.options, sample.gold) == (("", "axial", "coronal", "sagittal"), "C")
    [sample] = read_csv(tmp_path, f"{header}a.png,Which?,axial,nan,coronal,nan,coronal\n")
    assert (sample.options, sample.gold) == (("axial", "", "coronal"), "C")
    with pytest.raises(DataError, match="record 1: the gold letter A is left out of the options B C D"):
        read_csv(tmp_path, f"{header}a.png,Which?,,axial,coronal,sagittal,A\n")


def test_letters_stay_where_a_list_or_object_has_a_null(tmp_path: Path):
    for options in (
        [None, "axial", "coronal"],
        {"B": "axial", "C": "coronal"},
        {"A": None, "b": "axial", "c": "coronal"},
    ):
        sample = read_json(tmp_path, options=options, answer="C")
        assert (sample.options, sample.gold) == (("", "axial", "coronal"), "C")


def test_a_position_counts_where_the_field_says_so(tmp_path: Path):
    (tmp_path / "own.jsonl").write_text(
        json.dumps({k: v for k, v in RECORD.items() if k != "answer"} | {"answer_index": 2})
    )
    [sample] = read_source(tmp_path / "own.jsonl")
    assert sample.gold == "C"
    assert read_json(tmp_path, answer_index=1.0).gold == "B"
    for change in ({"answer_index": 0}, {"answer": None, "answer_index": 3}, {"answer": None, "answer_index": True}):
        with pytest.raises(DataError, match="record 1"):
            read_json(tmp_path, **change)


def test_labels_are_taken_off_and_checked_against_the_place(tmp_path: Path):
    sample = read_json(tmp_path, options=["A. CT", "B. MRI", "C. X-ray"], answer="C")
    assert (sample.options, sample.gold) == (("CT", "MRI", "X-ray"), "C")
    assert read_json(tmp_path, options=["A. CT", "B. MRI", "C. X-ray"], answer="C. X-ray").gold == "C"
    with pytest.raises(DataError, match="option A has the label of another"):
        read_json(tmp_path, options=["B. CT", "A. MRI"], answer="CT")


def test_options_and_places_of_pictures_in_the_question(tmp_path: Path):
    sample = read_json(tmp_path, question="<image>\nWhich?\nA. CT\nB. MRI", options=None)
    assert (sample.question, sample.options, sample.gold) == ("Which?", ("CT", "MRI"), "B")
    sample = read_json(tmp_path, image=["a.png", "b.png"], question="Is <image> older than <image>?")
    assert sample.question == "Is image 1 older than image 2?"
    with pytest.raises(DataError, match="places for more pictures"):
        read_json(tmp_path, question="Is <image> older than <image>?")


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_header_tells_what_parts_the_cells(tmp_path: Path, mark: str):
    [sample] = read_csv(
        tmp_path,
        mark.join(("image", "question", "A", "B", "answer")) + f"\na.png{mark}Which?{mark}CT{mark}MRI{mark}B\n",
    )
    assert (sample.options, sample.gold) == (("CT", "MRI"), "B")


def test_a_missing_column_is_named(tmp_path: Path):
    for header, missing in (("image,question,gold", "no `answer`"), ("image,ask,answer", "no `question`")):
        with pytest.raises(DataError, match=missing):
            read_csv(tmp_path, f"{header}\na.png,Which?,B\n")
    (tmp_path / "own.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"own\.zip is an archive; unpack it"):
        read_source(tmp_path / "own.zip")


def test_rows_without_a_picture_are_counted_or_kept_where_asked_for(tmp_path: Path):
    rows = [RECORD | {"image": image, "question": f"{n}?"} for n, image in enumerate(["a.png", "", None, "nan"])]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"own\.jsonl record 2: has no picture \(as 2 more\); .*--allow-text-only"):
        list(read_source(tmp_path / "own.jsonl"))
    kept = list(SOURCES["jsonl"].read(tmp_path / "own.jsonl", left_out=LeftOut(text_only=True)))
    assert [len(sample.images) for sample in kept] == [1, 0, 0, 0]
    assert len({sample.group for sample in kept}) == len({sample.id for sample in kept}) == 4
    left_out = LeftOut(skip_bad=True)
    assert len(list(SOURCES["jsonl"].read(tmp_path / "own.jsonl", left_out=left_out))) == 1
    assert left_out.bad == 3


def test_columns_that_happen_to_have_one_letter_are_no_options(tmp_path: Path):
    assert read_json(tmp_path, x="3", y="4", options=None, answer="a mass").extra == {"x": "3", "y": "4"}


def test_lists_in_cells(tmp_path: Path):
    rows = (
        "image,question,options,answer",
        '"[""a.png"", ""b.png""]",Which?,"[""x, y"", ""z""]",z',
        '[1].png,Which?,"[""x"", ""z""]",A',
    )
    several, single = read_csv(tmp_path, "\n".join(rows))
    assert [ref.path for ref in several.images] == ["a.png", "b.png"]
    assert several.options == ("x, y", "z")
    assert [ref.path for ref in single.images] == ["[1].png"]


def test_open_questions_are_typed(tmp_path: Path):
    def typed(**change: Any) -> Sample:
        return read_json(tmp_path, **({"options": None} | change))

    assert (typed(answer="no").answer_type, typed(answer="no").gold) == ("yes_no", "B")
    assert (typed(answer=2).answer_type, typed(answer=2).answers) == ("number", ("2",))
    assert (typed(answer="a mass").answer_type, typed(answer="a mass").answers) == ("text", ("a mass",))
    both = typed(answer=["mass", "effusion"], answer_type="multi")
    assert (both.answer_type, both.answers) == ("multi", ("mass", "effusion"))
    for change in (
        {"answer": "B"},
        {"answer": ["mass", "effusion"]},
        {"answer": "x", "answer_type": "essay"},
        {"answer": True},
    ):
        with pytest.raises(DataError, match="record 1"):
            typed(**change)


def test_options_by_letter(tmp_path: Path):
    sample = read_json(tmp_path, options={"A": "CT", "B": "MRI"}, answer="MRI")
    assert (sample.options, sample.gold) == (("CT", "MRI"), "B")
