"""Receipts of pictures, and what they say against an accuracy."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluated import evaluate
from medr1.data.images import png_bytes
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.eval.files import line_of, prediction_from, read_predictions
from medr1.eval.receipts import receipt_verdicts, receipts_of
from medr1.eval.rescore import rescore as _rescore
from medr1.eval.stored import read_stored
from medr1.types import ImageRef, Prediction, Receipt, Sample
from written import as_written

rescore = as_written(_rescore)


def picture(level: int, size: tuple[int, int] = (3, 2)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def asked(count: int, levels: Sequence[int] = (10, 20, 30)) -> list[Sample]:
    return [
        Sample(
            id=f"q{i}",
            images=(ImageRef(data=png_bytes(picture(levels[i % len(levels)]))),),
            question=f"Question {i}?",
            options=("Dark", "Bright"),
            answer_index=i % 2,
            group=f"g{i % len(levels)}",
        )
        for i in range(count)
    ]


def evaluated(samples: Sequence[Sample], out: Path, **settings: object) -> list[Prediction]:
    engine = ScriptedEngine(lambda request, draw: "<think>.</think><answer>A</answer>")
    evaluate(samples, engine, out=out, params=SamplingParams(), batch_size=2, seed=0, **settings)  # type: ignore[arg-type]
    return read_predictions(out)


def test_a_receipt_is_the_hash_of_the_pixels_with_size_and_tokens() -> None:
    first, second = picture(7, (3, 2)), Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    told = receipts_of((first, second), (4, 9))
    assert told[0] == Receipt(sha256=hashlib.sha256(bytes([7]) * 18).hexdigest(), width=3, height=2, tokens=4)
    assert told[1].sha256 == hashlib.sha256(bytes(range(48))).hexdigest()
    assert [receipt.tokens for receipt in receipts_of((first, second), None)] == [None, None]
    assert receipts_of((), None) == ()


def test_predictions_carry_receipts_and_the_question(tmp_path: Path) -> None:
    predictions = evaluated(asked(3), tmp_path, variants=("blank", "no_image", "swapped"))
    by_key = {(p.id, p.variant): p for p in predictions}
    plain, blank, none = (by_key["q1", variant] for variant in ("", "blank", "no_image"))
    assert plain.question == "Question 1?"
    assert plain.images == receipts_of((picture(20),), None)
    assert blank.images == receipts_of((picture(127),), None)
    assert none.images == ()
    line = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[1])
    assert line["images"] == [{"sha256": plain.images[0].sha256, "width": 3, "height": 2, "tokens": None}]
    assert prediction_from(line) == plain
    assert receipt_verdicts(predictions, asked(3)) == []


def test_lines_without_receipts_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    line = line_of(evaluated(asked(1), tmp_path)[0])
    del line["question"], line["images"]
    old = prediction_from(line)
    assert (old.question, old.images) == (None, None)
    assert line_of(old) == line


@pytest.mark.parametrize("with_data", [True, False])
def test_receipts_that_are_missing(tmp_path: Path, with_data: bool) -> None:
    samples = asked(4)
    predictions = evaluated(samples, tmp_path)
    predictions[2] = replace(predictions[2], images=None)
    (line,) = receipt_verdicts(predictions, samples if with_data else None)
    assert line.startswith("not checked: 1 of 4 answers have no receipt of a picture (q2 first)")


@pytest.mark.parametrize("images", [(), (Receipt(sha256="0" * 64, width=2, height=2, tokens=0),)])
def test_pictures_that_did_not_arrive(tmp_path: Path, images: tuple[Receipt, ...]) -> None:
    samples = asked(4)
    predictions = [replace(p, images=images) if p.id != "q0" else p for p in evaluated(samples, tmp_path)]
    (line,) = receipt_verdicts(predictions, samples)
    assert line.startswith("fail: 3 of 4 questions about a picture were asked without one (q1 first)")


def test_text_only_questions_need_no_receipt(tmp_path: Path) -> None:
    samples = [replace(sample, images=()) for sample in asked(3)]
    predictions = [replace(p, images=None) for p in evaluated(samples, tmp_path)]
    assert receipt_verdicts(predictions, samples) == []


@pytest.mark.parametrize("with_data", [True, False])
def test_receipts_that_are_all_alike(tmp_path: Path, with_data: bool) -> None:
    """As where an engine, or a loader before it, shows one picture to everybody."""
    samples = asked(6)
    same = receipts_of((picture(0),), (4,))
    predictions = [replace(p, images=same) for p in evaluated(samples, tmp_path, variants=("blank",))]
    (line,) = receipt_verdicts(predictions, samples if with_data else None)
    assert line.startswith(
        f"fail: all 6 questions were asked with one and the same picture (sha256 {same[0].sha256[:12]}"
    )
    assert "the data have 3" in line


def test_one_picture_for_all_questions_is_well_where_the_data_have_one(tmp_path: Path) -> None:
    samples = asked(4, levels=(10,))
    predictions = evaluated(samples, tmp_path)
    assert receipt_verdicts(predictions, samples) == receipt_verdicts(predictions) == []


def test_controls_are_alike_on_purpose(tmp_path: Path) -> None:
    predictions = evaluated(asked(4), tmp_path, variants=("blank",))
    assert len({p.images for p in predictions if p.variant == "blank"}) == 1
    assert receipt_verdicts(predictions, asked(4)) == []


def test_files_of_other_programs_have_none(tmp_path: Path) -> None:
    rows = [{"index": i, "question": "?", "A": "x", "B": "y", "answer": "A", "prediction": "A"} for i in range(3)]
    (tmp_path / "kit.json").write_text(json.dumps(rows))
    (line,) = rescore(read_stored(tmp_path / "kit.json"))["receipts"]
    assert line.startswith("not checked: 3 of 3 answers have no receipt")
    evaluated(asked(3), tmp_path / "ours")
    assert "receipts" not in rescore(read_stored(tmp_path / "ours"))


def test_a_request_is_not_changed_by_its_receipt(tmp_path: Path) -> None:
    seen: list[Request] = []
    engine = ScriptedEngine(lambda request, draw: seen.append(request) or "<answer>A</answer>")
    evaluate(asked(2), engine, out=tmp_path, params=SamplingParams(), batch_size=2, seed=0, prompt="nothink")
    told = {p.id: p.images for p in read_predictions(tmp_path)}
    assert told == {request.key.removesuffix(":"): receipts_of(request.images, None) for request in seen}
