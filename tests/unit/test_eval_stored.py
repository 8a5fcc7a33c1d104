"""Predictions on disk: each program's format, hand-written as it writes it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from medr1.data import read_source
from medr1.errors import DataError
from medr1.eval.stored import clean_result, read_stored, seed_result
from medr1.eval.stored.run import options_in_prompt, options_of
from medr1.types import Sample

MEDVLM_RECORD = {
    "image": ["images/a.png"],
    "problem": "What content appears in this image?\nA) Cardiac tissue\nB) Breast tissue",
    "solution": "B",
}
MED_R1_RECORD = {
    "image": "Images/MIAS/a.png",
    "problem": "Which? A)CT, B)MRI, C)X-ray",
    "solution": "<answer> C </answer>",
}
TAGGED = "<think>x</think><answer>B</answer>"


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def of_seed(record: dict[str, Any], gold: str, output: str | None, **fields: Any) -> dict[str, Any]:
    return {"question": record, "ground_truth": gold, "model_output": output, "extracted_answer": None, **fields}


def ours(number: int, variant: str = "", **fields: Any) -> dict[str, Any]:
    line = {"id": f"q{number}", "variant": variant, "draw": 0, "group": "g", "modality": "CT", "task": "other"}
    line |= {"source": "s", "options": ["CT", "MRI"], "gold": "A", "prompt_style": "think", "completion": "A"}
    return line | {"answer": "A", "parse_status": "ok", "num_tokens": 3} | fields


def test_our_own_predictions_without_the_controls(tmp_path: Path) -> None:
    text = lines(ours(0), ours(0, "blank"), ours(1, gold="B", completion=TAGGED), ours(1, draw=1, gold="B"))
    write(tmp_path / "predictions.jsonl", text + '{"id": "q2", "var')
    run = read_stored(tmp_path)
    assert run.kind == "medr1"
    assert [(p.id, p.variant, p.draw) for p in run.predictions] == [("q0", "", 0), ("q1", "", 0), ("q1", "", 1)]
    assert [(s.id, s.gold, s.options, s.group) for s in run.samples] == [
        ("q0", "A", ("CT", "MRI"), "g"),
        ("q1", "B", ("CT", "MRI"), "g"),
    ]
    assert read_stored(tmp_path / "predictions.jsonl") == run


def test_predictions_on_attacked_images_alone_are_scored(tmp_path: Path) -> None:
    write(tmp_path / "predictions.jsonl", lines(ours(0, "fgsm")))
    assert [s.variant for s in read_stored(tmp_path).samples] == ["fgsm"]


def test_our_own_questions_are_found_in_the_data_by_id(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", lines(ours(1), ours(0)))
    data = [Sample(id=f"q{n}", images=(), question=f"{n}?", options=("CT", "MRI"), answer_index=0) for n in range(3)]
    assert [s.question for s in read_stored(file, data).samples] == ["1?", "0?"]
    with pytest.raises(DataError, match=r"1 of 2 questions of .* are not in the data, q1 first"):
        read_stored(file, data[:1])


def test_medvlm_r1_and_med_r1_results(tmp_path: Path) -> None:
    results = [of_seed(MEDVLM_RECORD, "B", TAGGED), of_seed(MEDVLM_RECORD, "B", None)]
    run = read_stored(write(tmp_path / "out.json", {"accuracy": 50.0, "results": results}))
    assert run.kind == "medvlm-r1"
    assert [(p.gold, p.answer, p.parse_status) for p in run.predictions] == [("B", "B", "ok"), ("B", None, "empty")]
    assert run.samples[0].options == ("Cardiac tissue", "Breast tissue")
    assert len({s.id for s in run.samples}) == 2, "a question that is asked twice is kept twice"
    assert len({s.group for s in run.samples}) == 1

    med_r1 = {"accuracy": 0.0, "results": [of_seed(MED_R1_RECORD, "<answer> C </answer>", "A")]}
    run = read_stored(write(tmp_path / "out.json", med_r1))
    assert (run.kind, run.samples[0].source, run.samples[0].modality) == ("med-r1", "MIAS", "X-Ray")
    assert [(p.gold, p.answer) for p in run.predictions] == [("C", "A")]


def test_advmed_r1_results_need_the_test_file(tmp_path: Path) -> None:
    detail = {"model_output": TAGGED, "model_answer": "B", "ground_truth": "<answer> C </answer>", "gt_answer": "C"}
    file = write(tmp_path / "clean.json", {"accuracy": 0.0, "num_samples": 1, "detailed_results": [detail]})
    data = list(read_source(write(tmp_path / "test.json", [MED_R1_RECORD])))
    run = read_stored(file, data)
    assert (run.kind, list(run.samples), run.predictions[0].answer) == ("advmed-r1", data, "B")
    with pytest.raises(DataError, match=r"clean.json record 1: has no question; name the test file .* with --data"):
        read_stored(file)
    with pytest.raises(DataError, match="has 1 results and the data 2 questions"):
        read_stored(file, [*data, *data])
    other = list(read_source(write(tmp_path / "other.json", [MED_R1_RECORD | {"solution": "<answer> A </answer>"}])))
    with pytest.raises(DataError, match="its gold answer is C and that of the question A"):
        read_stored(file, other)


VLM_ROW = {"index": 7, "question": "Which?", "A": "CT", "B": "MRI", "C": "", "answer": "B", "prediction": "B. MRI"}


@pytest.mark.parametrize("suffix", ["tsv", "csv", "json", "xlsx"])
def test_vlmevalkit(tmp_path: Path, suffix: str) -> None:
    rows = [VLM_ROW, VLM_ROW | {"index": 8, "prediction": None, "C": "X-ray", "answer": "C"}]
    file = tmp_path / f"model_OmniMedVQA.{suffix}"
    if suffix == "json":
        write(file, rows)
    elif suffix == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in (list(VLM_ROW), *(list(row.values()) for row in rows)):
            book.active.append(row)
        book.save(file)
    else:
        mark = "\t" if suffix == "tsv" else ","
        cells = [list(VLM_ROW), *(["" if v is None else str(v) for v in row.values()] for row in rows)]
        write(file, "".join(mark.join(row) + "\n" for row in cells))
    run = read_stored(file)
    assert run.kind == "vlmevalkit"
    assert [(s.options, s.gold) for s in run.samples] == [(("CT", "MRI"), "B"), (("CT", "MRI", "X-ray"), "C")]
    assert [(p.completion, p.answer, p.parse_status) for p in run.predictions] == [
        ("B. MRI", "B", "ok"),
        ("", None, "empty"),
    ]


def test_a_damaged_spreadsheet_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match="no spreadsheet that can be read"):
        read_stored(write(tmp_path / "x.xlsx", "no zip"))


def test_lmms_eval_samples(tmp_path: Path) -> None:
    prompt = "Which?\nA. CT\nB. MRI\n\nAnswer with the option's letter."
    mmmu = {"doc_id": 0, "target": "B", "resps": [["B", "A"]], "filtered_resps": ["b"], "input": prompt}
    listed = {"doc_id": 1, "target": "A", "filtered_resps": ["A"], "doc": {"question": "?", "options": "['CT', 'MRI']"}}
    medqa = {"doc_id": 2, "target": "MRI", "resps": ["x"], "doc": {"options": {"A": "CT", "B": "MRI"}}}
    by_place = {"doc_id": 3, "target": 1, "resps": [["(B)"]], "doc": {"choices": ["CT", "MRI"], "question": "?"}}
    yes = {"doc_id": 4, "target": "Yes", "resps": [["yes"]], "doc": {"question": "Any?", "img_name": "x/source.jpg"}}
    text = {"doc_id": 5, "target": "Left lung", "resps": [["lung"]], "doc": {"question": "Where?"}}
    run = read_stored(write(tmp_path / "samples.jsonl", lines(mmmu, listed, medqa, by_place, yes, text)))
    assert run.kind == "lmms-eval"
    assert [s.gold for s in run.samples] == ["B", "A", "B", "B", "A", None]
    assert [(p.completion, p.draw) for p in run.predictions][:3] == [("B", 0), ("A", 1), ("A", 0)]
    assert run.samples[0].options == run.samples[1].options == ("CT", "MRI")
    assert (run.samples[4].answer_type, run.samples[4].options) == ("yes_no", ("Yes", "No"))
    assert (run.samples[5].answers, run.samples[5].answer_type) == (("Left lung",), "text")
    assert [bool(s.group) for s in run.samples] == [False, False, False, False, True, False]


def test_medevalkit_results(tmp_path: Path) -> None:
    omni = {"question": "Which?", "choices": ["A. CT", "B. MRI"], "answer": "B", "response": TAGGED, "correct": True}
    omni |= {"modality_type": "MR (Mag-netic Resonance Imaging)", "question_type": "Modality Recognition"}
    omni |= {"dataset": "RadImageNet", "image_path": "data/Images/a.png"}
    pmc = {"prompt": "Which?", "choices": [" A:X-ray ", " B:MRI "], "answer": "A", "response": "A"}
    open_question = {"question": "Where?", "answer": "Left lung", "response": "left lung"}
    write(tmp_path / "results.json", [omni, pmc, open_question])
    run = read_stored(tmp_path)
    assert run.kind == "medevalkit"
    first = run.samples[0]
    assert (first.options, first.gold, first.modality, first.task) == (
        ("CT", "MRI"),
        "B",
        "MRI",
        "Modality Recognition",
    )
    assert (first.source, run.samples[1].options) == ("RadImageNet", ("X-ray", "MRI"))
    assert run.samples[2].answers == ("Left lung",)


def test_the_output_of_a_kit_joined_with_the_data(tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", [VLM_ROW])
    data = [Sample(id="q", images=(), question="Which?", options=("CT", "MRI"), answer_index=1, group="g")]
    assert read_stored(file, data).predictions[0].group == "g"
    with pytest.raises(DataError, match="record 1: its gold answer is not that of the data"):
        read_stored(file, [Sample(id="q", images=(), question="Which?", options=("CT", "MRI"), answer_index=0)])
    with pytest.raises(DataError, match="has 1 questions and the data 2"):
        read_stored(file, data * 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", [{"a": 1, "b": 2}], r"holds no predictions that can be read \(its fields: a, b\)"),
        ("x.txt", "B", "of no kind that is known by its name"),
        ("x.json", {"accuracy": 1.0, "results": []}, "holds no list of results"),
        ("x.json", {"results": [{"model_output": "B"}]}, "record 1: has no model_output or no ground_truth"),
        ("x.json", {"results": [of_seed({"q": 1}, "B", "B")]}, "record 1: its question is no record of"),
        ("x.json", {"results": [of_seed(MEDVLM_RECORD, "?", "B")]}, "record 1: the answer '\\?' is not among"),
        ("x.json", [VLM_ROW | {"answer": "E"}], "record 1: the gold letter E is outside the options A B"),
        ("x.json", [VLM_ROW, {"index": 1}], "record 2: lacks fields of vlmevalkit"),
        ("x.json", [{"response": "B", "answer": "", "question": "?"}], "record 1: has no gold answer"),
        (
            "x.jsonl",
            lines({"doc_id": 0, "target": "A", "resps": ["A"]}),
            "record 1: has the letter A as gold answer but",
        ),
        ("x.jsonl", lines({"doc_id": 0, "target": "no", "resps": []}), "record 1: has no response"),
        ("predictions.jsonl", lines({"id": 1}), "record 1: a line of predictions.jsonl is no prediction"),
        ("predictions.jsonl", "", "holds no predictions yet"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_stored(write(tmp_path / name, content))
    assert name in str(caught.value)


def test_a_path_that_is_not_there_and_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; give a run folder"):
        read_stored(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds neither predictions.jsonl nor results.json"):
        read_stored(tmp_path)


def test_results_are_written_as_the_seeds_write_them_and_read_back(tmp_path: Path) -> None:
    records = [MED_R1_RECORD, MED_R1_RECORD | {"image": "Images/MIAS/b.png"}]
    samples = list(read_source(write(tmp_path / "test.json", records)))
    outputs = ["<answer>C</answer>", "<answer>c</answer>"]
    results = [of_seed(record, "<answer> C </answer>", out) for record, out in zip(records, outputs, strict=True)]
    run = read_stored(write(tmp_path / "out.json", {"accuracy": 0.0, "results": results}))

    written = seed_result(run.predictions, samples, "med-r1/think", tagged_gold=True).written()
    assert written["accuracy"] == 50.0
    assert [entry["extracted_answer"] for entry in written["results"]] == ["C", "c"]
    assert [{**e, "extracted_answer": None} for e in written["results"]] == results
    assert read_stored(write(tmp_path / "again.json", written)) == run

    plain = seed_result(run.predictions[:1], samples, "medvlm-r1/simple", tagged_gold=False)
    assert (plain.accuracy, len(plain.results)) == (0.0, 1)
    assert (plain.results[0].ground_truth, plain.results[0].extracted_answer) == ("C", "<answer>C</answer>")

    clean = clean_result(run.predictions, samples, "test.json").written()
    assert (clean["accuracy"], clean["num_samples"], clean["num_correct"]) == (100.0, 2, 2)
    assert clean["detailed_results"][1] == {
        "model_output": "<answer>c</answer>",
        "model_answer": "C",
        "ground_truth": "<answer> C </answer>",
        "gt_answer": "C",
        "correct": True,
    }
    assert read_stored(write(tmp_path / "clean.json", clean), samples).predictions[0].gold == "C"


def test_questions_of_other_sources_are_written_in_medvlm_r1s_form(tmp_path: Path) -> None:
    sample = Sample(id="q0", images=(), question="Which?", options=("CT", "MRI"), answer_index=0)
    run = read_stored(write(tmp_path / "predictions.jsonl", lines(ours(0))))
    written = seed_result(run.predictions, [sample], "medvlm-r1/simple", tagged_gold=False)
    assert written.results[0].question == {"image": [], "problem": "Which?\nA) CT\nB) MRI", "solution": "A"}
    assert written.accuracy == 100.0


def test_labels_of_options() -> None:
    assert options_of({"options": ["A. CT", "B. MRI"]}) == ("CT", "MRI")
    assert options_of({"options": ["A. CT", "C. MRI"]}) == ("A. CT", "C. MRI")
    assert options_in_prompt("Example\nA. x\nB. y\nNow\n(A) CT\n(B) MRI: a\nAnswer.") == ["CT", "MRI: a"]


EMPTY_CELLS = [
    {"A": "", "B": "axial", "C": "coronal", "D": "sagittal"},
    {"A": None, "B": "axial", "C": "coronal", "D": "sagittal"},
    {"A": float("nan"), "B": "axial", "C": "coronal", "D": "sagittal", "E": float("nan")},
    {"option_A": "nan", "option_B": "axial", "option_C": "coronal", "option_D": "sagittal"},
    {"options": [None, "axial", "coronal", "sagittal"]},
    {"options": {"B": "axial", "C": "coronal", "D": "sagittal"}},
    {"options": "{'A': None, 'B': 'axial', 'C': 'coronal', 'D': 'sagittal'}"},
]


@pytest.mark.parametrize("cells", EMPTY_CELLS)
@pytest.mark.parametrize("gold", ["C", "c", "(C)", "coronal"])
def test_letters_of_stored_results_stay_where_a_cell_is_empty(tmp_path: Path, cells: dict[str, Any], gold: str) -> None:
    records = [
        {"index": 1, "question": "Which?", "answer": gold, "prediction": said, **cells} for said in ("C", "D", "A")
    ]
    run = read_stored(write(tmp_path / "x.json", records))
    assert [sample.gold for sample in run.samples] == ["C"] * 3
    assert run.samples[0].options == ("", "axial", "coronal", "sagittal")
    assert [prediction.answer == "C" for prediction in run.predictions] == [True, False, False]


def test_twelve_options_are_read(tmp_path: Path) -> None:
    record = {"index": 1, "question": "Which?", "answer": "L", "prediction": "L. t11"}
    cells = {letter: f"t{number}" for number, letter in enumerate("ABCDEFGHIJKL")}
    [prediction] = read_stored(write(tmp_path / "x.json", [record | cells])).predictions
    assert (prediction.gold, prediction.answer, len(prediction.options)) == ("L", "L", 12)


def test_a_gold_that_is_no_option_or_none_is_refused(tmp_path: Path) -> None:
    record = {"index": 1, "question": "Which?", "prediction": "A", "A": "CT", "B": "MRI", "C": ""}
    for gold in ("C", None, float("nan"), "nan", 2, "PET"):  # a cell that held the word None is read as empty
        with pytest.raises(DataError, match="record 1"):
            read_stored(write(tmp_path / "x.json", [record | {"answer": gold}]))
    with pytest.raises(DataError, match="no commas"):
        read_stored(write(tmp_path / "x.json", [record | {"answer": "A", "options": "['CT' 'MRI']"}]))
