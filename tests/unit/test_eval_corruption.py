"""Corruption metrics against hand-worked values, and the table that shows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from medr1.errors import ConfigError, DataError
from medr1.eval.corruption import open_predictions
from medr1.eval.corruption import score_corruptions as _score_corruptions
from medr1.eval.runner import line_of
from medr1.records import JsonlAppender, write_json
from medr1.report.side_by_side import corruption_tables
from medr1.types import Prediction
from written import as_written

score_corruptions = as_written(_score_corruptions)

OPTIONS = ("cyst", "nodule")


def answer(
    number: int, letter: str | None, variant: str = "", sure: float | None = None, group: str = ""
) -> Prediction:
    """A prediction for question `number`, whose right letter is A; `sure` is the probability of the answer."""
    logprobs = None
    if sure is not None:
        both = (sure, 1 - sure) if letter == "A" else (1 - sure, sure)
        logprobs = tuple(np.log(both).tolist())
    return Prediction(
        id=f"q{number}",
        variant=variant,
        draw=0,
        group=group or f"g{number}",
        modality="CT",
        task="other",
        source="s",
        options=OPTIONS,
        gold="A",
        prompt_style="bare",
        completion="",
        answer=letter,
        parse_status="ok" if letter else "empty",
        num_tokens=1,
        option_logprobs=logprobs,
    )


def run(letters: str, variant: str = "", **kwargs: float) -> list[Prediction]:
    """One prediction a sign; a dot is an unreadable answer."""
    return [answer(n, None if sign == "." else sign, variant, **kwargs) for n, sign in enumerate(letters)]


CLEAN = run("AAAAB")


def test_a_cell_by_hand() -> None:
    results = score_corruptions(CLEAN, run("AAB.A", "jpeg/3"))
    cell = results["corruptions"]["jpeg"]["severities"]["3"]
    assert cell["n"] == 5
    assert cell["accuracy"] == pytest.approx(3 / 5)
    assert cell["clean"]["accuracy"] == pytest.approx(4 / 5)
    assert cell["difference"]["value"] == pytest.approx(-1 / 5)
    assert cell["relative_drop"] == pytest.approx(1 / 4)
    assert (cell["flip_rate"]["n"], cell["flip_rate"]["share"]) == (4, pytest.approx(2 / 4))
    assert cell["unreadable"] == pytest.approx(1 / 5)
    assert cell["calibration"] is None


def test_means_weigh_corruptions_and_severities_alike() -> None:
    corrupted = [
        *run("AAAAB", "jpeg/1"),  # 4 of 5
        *run("AABBB", "jpeg/5"),  # 2 of 5
        *run("BA", "low_dose/1"),  # 1 of 2, where clean is 2 of 2
    ]
    results = score_corruptions(CLEAN, corrupted)
    assert results["n"] == 12
    assert results["corruptions"]["jpeg"]["corrupted"]["accuracy"] == pytest.approx(3 / 5)
    assert results["corrupted"]["accuracy"] == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert results["clean"]["accuracy"] == pytest.approx((4 / 5 + 2 / 2) / 2)
    assert results["drop"]["value"] == pytest.approx(0.9 - 0.55)
    assert results["relative_drop"]["value"] == pytest.approx(0.35 / 0.9)
    for name in ("corrupted", "clean"):
        low, high = results[name]["ci95"]
        assert low < results[name]["accuracy"] < high
    low, high = results["relative_drop"]["ci95"]
    assert low < results["relative_drop"]["value"] < high
    assert results["corrupted"]["n_groups"] == 5


def test_answers_about_one_image_are_worth_fewer() -> None:
    """The same answers to one variant twice say no more than once: the interval stays as wide as Wilson's."""
    letters = "AABAB" * 12
    clean = run("A" * 60)
    once = score_corruptions(clean, run(letters, "jpeg/1"))["corrupted"]["ci95"]
    twice = score_corruptions(clean, [*run(letters, "jpeg/1"), *run(letters, "jpeg/2")])["corrupted"]["ci95"]
    plain = score_corruptions(clean, run(letters, "jpeg/1"))["corruptions"]["jpeg"]["severities"]["1"]["ci95"]
    assert once == pytest.approx(plain, abs=1e-9)
    assert twice == pytest.approx(once, abs=0.01)


def test_unequal_weights_are_worth_fewer_answers() -> None:
    """A share of variance sum w² (hit - p)² is worth p (1 - p) over it, here 1 / (4/64 + 40/6400) answers."""
    few, many = run("AABB", "jpeg/1"), run("AABB" + "AB" * 20, "low_dose/1")[4:]
    low, high = score_corruptions(run("A" * 44), [*few, *many])["corrupted"]["ci95"]
    size, z = 1 / (4 / 64 + 40 / 6400), 1.959964
    half = z * np.sqrt(0.25 / size + z * z / (4 * size * size)) / (1 + z * z / size)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_calibration_shift_by_hand() -> None:
    clean = [answer(n, "A", sure=0.8) for n in range(10)]
    corrupted = [answer(n, "AB"[n % 2], "jpeg/1", sure=0.9) for n in range(10)]
    shift = score_corruptions(clean, corrupted)["corruptions"]["jpeg"]["severities"]["1"]["calibration"]
    assert shift["overconfidence"] == pytest.approx({"clean": -0.2, "corrupted": 0.4, "shift": 0.6})
    assert shift["ece"]["shift"] == pytest.approx(0.4 - 0.2)


def test_image_reliant_questions_apart() -> None:
    clean = [*run("AAAA"), *run("ABAB", "blank")]  # q1 and q3 change without the image
    results = score_corruptions(clean, run("AABB", "jpeg/1"))
    assert results["corrupted"]["accuracy"] == pytest.approx(2 / 4)
    assert results["image_reliant"]["n"] == 2
    assert results["image_reliant"]["corrupted"]["accuracy"] == pytest.approx(1 / 2)
    assert score_corruptions(CLEAN, run("A", "jpeg/1"))["image_reliant"] is None


def test_what_has_no_twin() -> None:
    strangers = [answer(99, "A", "jpeg/1"), answer(0, "A", "blank"), answer(0, "A", "jpeg/1")]
    results = score_corruptions(CLEAN, strangers)
    assert (results["n"], results["without_clean"]) == (1, 1)
    with pytest.raises(DataError, match="medr1 corrupt"):
        score_corruptions(CLEAN, strangers[:2])


def test_never_right_has_no_relative_drop_and_a_table() -> None:
    results = _score_corruptions(run("BB"), run("B.", "jpeg/1"))
    assert results.relative_drop is None
    json.dumps(results.written(), allow_nan=False)
    means, severities = corruption_tables(results)
    assert means.rows[3][1] == "–"
    assert severities.rows[0][0] == "jpeg 1"
    assert all(len(row) == len(severities.columns) for row in severities.rows)


def test_runs_must_be_of_one_model(tmp_path: Path) -> None:
    for name, model, data in (("clean", "m", "a"), ("corrupted", "m", "b"), ("other", "n", "b")):
        write_json(tmp_path / name / "manifest.json", {"arguments": {"model": model, "data": data, "prompt": "bare"}})
        with JsonlAppender(tmp_path / name / "predictions.jsonl") as lines:
            for prediction in run("AB", "" if name == "clean" else "jpeg/1"):
                lines.append(line_of(prediction))
    clean, corrupted = open_predictions(tmp_path / "clean", tmp_path / "corrupted")
    assert score_corruptions(clean, corrupted)["n"] == 2
    with pytest.raises(ConfigError, match="model: 'm' and 'n'"):
        open_predictions(tmp_path / "clean", tmp_path / "other")
