"""`medr1 rescore`: stored completions in, statistics and every protocol out, without a model."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medr1.answers import OPEN_PROTOCOLS, PROTOCOLS, YES_NO_ONLY
from medr1.cli import app
from medr1.errors import DataError
from medr1.eval.rescore import drawn_questions
from medr1.eval.rescore import rescore as _rescore
from medr1.eval.stored import read_stored
from written import as_written

rescore = as_written(_rescore)

ROW = {"index": 0, "question": "Which?", "A": "CT", "B": "MRI", "answer": "B", "prediction": "B"}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    rows = [ROW | {"index": i, "prediction": text} for i, text in enumerate(["B", "A", "<answer>B</answer>", "MRI?"])]
    path = tmp_path / "kit.json"
    path.write_text(json.dumps(rows))
    return path


def test_the_default_statistics_and_every_protocol(stored: Path) -> None:
    results = rescore(read_stored(stored))
    assert (results["stored_as"], results["n"], results["failed"]) == ("vlmevalkit", 4, 0)
    assert results["accuracy"] == results["protocols"]["default"]["accuracy"] == 0.75
    assert results["ci95"] == results["protocols"]["default"]["ci95"]
    assert (results["chance"], results["blind"]["format_rule"] is not None) == (0.5, True)
    assert results["parse"] == {"ok": 4}
    assert set(results["protocols"]) == set(PROTOCOLS) - YES_NO_ONLY
    assert results["protocols"]["med-r1/zeroshot"]["accuracy"] == 0.25
    accuracies = [scores["accuracy"] for scores in results["protocols"].values()]
    assert results["spread"]["difference"] == max(accuracies) - min(accuracies)
    assert "open" not in results


def test_what_was_stored_as_the_answer_does_not_matter(tmp_path: Path) -> None:
    line = {"id": "q", "variant": "", "draw": 0, "group": "", "modality": "CT", "task": "other", "source": "s"}
    line |= {"options": ["CT", "MRI"], "gold": "A", "prompt_style": "think", "completion": "<answer>B</answer>"}
    line |= {"answer": "A", "parse_status": "ok", "num_tokens": 3}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    assert rescore(read_stored(tmp_path))["accuracy"] == 0


def test_open_questions_have_protocols_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"question": "Where?", "answer": "Left lung", "response": "left lung."},
        {"question": "Where?", "answer": "Left lung", "response": "right lung"},
        {"question": "Any?", "answer": "no", "response": "No."},
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    results = rescore(read_stored(tmp_path))
    assert (results["n"], results["accuracy"], results["open"]["n"]) == (1, 1.0, 2)
    scores = results["open"]["protocols"]
    assert set(scores) == set(OPEN_PROTOCOLS)
    assert scores["lmms-slake@75571cf"]["accuracy"] == 0.5
    assert scores["medevalkit-em@9b12e3b"]["accuracy"] == 0
    assert scores["medevalkit-f1@9b12e3b"]["accuracy"] == pytest.approx(0.5)  # one word of two each: left, lung


FAILED = "Failed to obtain answer via API. "
LMMS = {"doc_id": 0, "target": "B", "doc": {"question": "Which?", "options": ["CT", "MRI"]}}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("x.json", [ROW, ROW | {"index": 1, "prediction": FAILED}]),
        ("x.json", [ROW, ROW | {"index": 1, "prediction": "Failed to obtain answer via BailingMM API."}]),
        ("x.json", [ROW, ROW | {"index": 1, "prediction": "Fail to obtain answer via API."}]),
        (
            "x.jsonl",
            [
                LMMS | {"resps": [["B"]]},
                LMMS | {"doc_id": 1, "resps": [["[LMMS_EVAL_REQUEST_FAILED after 5 retries] Error code: 429 - {...}"]]},
            ],
        ),
        (
            "results.json",
            [
                {"question": "Which?", "options": ["CT", "MRI"], "answer": "B", "response": "B"},
                {
                    "question": "What?",
                    "options": ["CT", "MRI"],
                    "answer": "B",
                    "response": "RetryError[<Future at 0x1>]",
                },
            ],
        ),
        ("x.json", [ROW, ROW | {"index": 1, "prediction": "Error code: 500 - {'message': 'B'}"}]),
        ("x.json", [ROW, ROW | {"index": 1, "prediction": "$ERROR$"}]),
    ],
)
def test_failed_calls_are_counted_apart(tmp_path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if name.endswith("l") else json.dumps(rows))
    run = read_stored(path)
    results = rescore(run)
    assert (results["n"], results["accuracy"], results["failed"]) == (1, 1.0, 1)
    assert list(results["failed_calls"].values()) == [1]
    assert all(scores["n"] == 1 for scores in results["protocols"].values())
    assert [failure.id for failure in run.failures] == [run.samples[1].id]
    assert "failed_calls" not in rescore(drawn_questions(replace(run, samples=run.samples[:1]), None, 0))


def test_failed_calls_of_the_seeds_and_of_open_questions(tmp_path: Path) -> None:
    record = {"image": "Images/MIAS/a.png", "problem": "Which? A)CT, B)MRI", "solution": "<answer> B </answer>"}
    entries = [
        {"question": record, "ground_truth": "<answer> B </answer>", "model_output": output, "extracted_answer": None}
        for output in ("<answer>B</answer>", "Connection error.", "Request timed out.", "")
    ]
    (tmp_path / "out.json").write_text(json.dumps({"accuracy": 25.0, "results": entries}))
    results = rescore(read_stored(tmp_path / "out.json"))
    assert (results["n"], results["accuracy"], results["failed"]) == (2, 0.5, 2)
    assert results["failed_calls"] == {"Connection error.": 1, "Request timed out.": 1}
    rows = [
        {"question": "Where?", "answer": "Left lung", "response": "left lung."},
        {"question": "Where now?", "answer": "Left lung", "response": FAILED},
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    opened = rescore(read_stored(tmp_path / "results.json"))["open"]
    assert (opened["n"], opened["failed"], opened["protocols"]["medr1-open"]["accuracy"]) == (1, 1, 1.0)


def test_the_command_says_how_many_calls_had_failed(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([ROW, ROW | {"index": 1, "prediction": FAILED}]))
    result = CliRunner().invoke(app, ["rescore", str(tmp_path / "x.json"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1 calls had failed ('Failed to obtain answer via API.'): counted apart" in " ".join(result.output.split())


def test_words_of_an_answer_are_no_failed_call(tmp_path: Path) -> None:
    said = ("The biopsy failed to obtain tissue. B", "There is an error in the image: B", "Connection errors.")
    (tmp_path / "x.json").write_text(
        json.dumps([ROW | {"index": n, "prediction": text} for n, text in enumerate(said)])
    )
    assert rescore(read_stored(tmp_path / "x.json"))["failed"] == 0


def test_a_file_of_failed_calls_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([ROW | {"prediction": FAILED}]))
    with pytest.raises(DataError, match=r"all 1 calls had failed .*Failed to obtain answer via API.*evaluate again"):
        read_stored(tmp_path / "x.json")


def test_questions_without_a_gold_answer_are_refused(tmp_path: Path) -> None:
    line = {"id": "q", "variant": "", "draw": 0, "group": "", "modality": "CT", "task": "other", "source": "s"}
    line |= {"options": [], "gold": None, "prompt_style": "think", "completion": "x"}
    line |= {"answer": None, "parse_status": "ok", "num_tokens": 3}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="none of the questions has a gold answer"):
        rescore(read_stored(tmp_path))


def test_a_limit_draws_questions_with_their_completions(stored: Path) -> None:
    run = drawn_questions(read_stored(stored), 2, seed=0)
    assert [p.id for p in run.predictions] == [s.id for s in run.samples]
    assert len(run.samples) == 2
    assert drawn_questions(read_stored(stored), None, seed=0) == read_stored(stored)


def test_the_command(stored: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rescore", str(stored), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "75.0 [30.1, 95.4]" in result.output
    assert "medevalkit@9b12e3b/A.text" in result.output
    assert "moves the accuracy by" in result.output
    written = json.loads((tmp_path / "out" / "rescore.json").read_text())
    assert written["manifest"]["arguments"]["predictions"] == "kit.json"
    printed = CliRunner().invoke(app, ["rescore", str(stored), "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(printed.stdout) == {name: value for name, value in written.items() if name != "manifest"}


def test_torch_is_not_needed(stored: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom medr1.cli import app\n"
        f"app(['rescore', {str(stored)!r}, '--out', {str(tmp_path / 'out')!r}], standalone_mode=False)\n"
        "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
