"""The page of an attack: what is shown, and that a crash or a failed check cannot be overlooked."""

import io

import numpy as np
from PIL import Image

from medr1.report.attack import Example, attack_report, attack_table, triptych
from medr1.report.html import render_report
from medr1.types import Sample

CELL = {
    "attack": "pgd",
    "norm": "linf",
    "k": 7,
    "epsilon": 7 / 255,
    "n": 50,
    "robust_accuracy": 0.1,
    "ci95": [0.04, 0.21],
    "attack_success_rate": 0.875,
    "attack_success_ci95": [0.74, 0.95],
    "lost": {"flipped": 33, "unreadable": 1, "refused": 1},
    "image_reliant": {"robust_accuracy": 0.05},
    "psnr_mean": 33.3,
    "ssim_mean": 0.91,
    "by_modality": {"CT": {"robust_accuracy": 0.1}},
    "by_task": {"other": {"robust_accuracy": 0.1}},
}
PART = {"n": 50, "accuracy": 0.8, "ci95": [0.67, 0.89], "chance": 0.25}
GRID = {
    "n": 50,
    "clean": {
        **PART,
        "blind": {"blank_image": 0.27, "text_prior": None},
        "by_modality": {"CT": PART},
        "by_task": {"other": PART},
    },
    "native_clean_accuracy": 0.8,
    "noise_floor": {"share": 0.02},
    "image_reliant": 44,
    "cells": {"pgd-k7": CELL, "fgsm-k7": {"attack": "fgsm", "k": 7, "epsilon": 7 / 255, "error": "RuntimeError: boom"}},
    "checks": {"gradient": "failed"},
    "check_details": {"gradient": "largest relative error 0.5"},
    "trustworthy": False,
    "reasons": ["gradient: largest relative error 0.5"],
}


def test_the_table_shows_baselines_crashes_and_doubt() -> None:
    table = attack_table(GRID)
    rows = {row[0]: row for row in table.rows}
    assert rows["pgd"][1:6] == ("7 (0.0275)", "50", "10.0 [4.0, 21.0]", "5.0", "87.5 [74.0, 95.0]")
    assert rows["fgsm"][3] == "failed: RuntimeError: boom"
    assert rows["blank image, blind"][3] == "27.0"
    assert "text prior, blind" not in rows
    assert "NOT trustworthy: gradient" in table.note


def test_a_clean_accuracy_that_cannot_mean_anything_is_said_above_the_attacks() -> None:
    void = [{"what": "accuracy", "why": "50 of 50 answers could not be read"}]
    grid = {**GRID, "clean": {**GRID["clean"], "void": void}}
    assert attack_table(grid).warnings == ["void: accuracy: 50 of 50 answers could not be read."]
    assert "void: accuracy" in render_report(attack_report(grid, [], {}))
    assert list(attack_table(GRID).warnings) == []


def test_a_small_change_is_magnified() -> None:
    clean = np.full((84, 84, 3), 100, np.uint8)
    moved = clean.copy()
    moved[0, 0] += 2
    picture = np.asarray(Image.open(io.BytesIO(triptych(Image.fromarray(clean), Image.fromarray(moved)))))
    assert picture.shape == (168, 3 * 168, 3)
    assert picture[0, 2 * 168].tolist() == [255, 255, 255]
    assert picture[90, 2 * 168 + 90].tolist() == [128, 128, 128]


def test_the_page_escapes_what_models_write() -> None:
    sample = Sample(id="1", images=(), question="Which?", options=("a", "b"), answer_index=0)
    image = Image.new("RGB", (28, 28))
    script = "<script>alert(1)</script>"
    example = Example(
        sample=sample, clean=image, attacked=image, before="x", after=script, answer="B", note="pgd, k = 7"
    )
    page = render_report(attack_report(GRID, [example], {"seed": 0}))
    assert script not in page
    assert "Not trustworthy" in page
    assert "crashed and has no accuracy" in page
