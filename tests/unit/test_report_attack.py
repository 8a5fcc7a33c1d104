"""The page of an attack: what is shown, and that a crash or a failed check cannot be overlooked."""

import io

import numpy as np
from PIL import Image

from medr1.report.attack import Example, attack_report, attack_table, triptych
from medr1.report.html import render_report
from medr1.results.evaluated import Void
from medr1.types import Sample
from report_cases import BESIDE, UNKNOWN, attack_scores, cell, grid, part, results

CRASH = {"attack": "fgsm", "k": 7, "epsilon": 7 / 255, "error": "RuntimeError: boom", **BESIDE, **UNKNOWN}
GRID = grid(
    clean=results(
        **part(0.8, [0.67, 0.89], n=50),
        blind={"blank_image": 0.27},
        by_modality={"CT": part(0.8, n=50)},
        by_task={"other": part(0.8, n=50)},
    ),
    cells={"pgd-k7": cell(0.1, [0.04, 0.21], image_reliant=attack_scores(0.05)), "fgsm-k7": CRASH},
)


def test_the_table_shows_baselines_crashes_and_doubt() -> None:
    table = attack_table(GRID)
    rows = {row[0]: row for row in table.rows}
    assert rows["pgd"][1:6] == ("7 (0.0275)", "50", "10.0 [4.0, 21.0]", "5.0", "87.5 [74.0, 95.0]")
    assert rows["fgsm"][3] == "failed: RuntimeError: boom"
    assert rows["blank image, blind"][3] == "27.0"
    assert "text prior, blind" not in rows
    assert "NOT trustworthy: gradient" in table.note


def test_a_clean_accuracy_that_cannot_mean_anything_is_said_above_the_attacks() -> None:
    clean = GRID.clean.model_copy(update={"void": [Void(what="accuracy", why="all 50 readable answers are A")]})
    doubtful = GRID.model_copy(update={"clean": clean})
    assert list(attack_table(doubtful).warnings) == ["void: accuracy: all 50 readable answers are A."]
    assert "void: accuracy" in render_report(attack_report(doubtful, [], {}))
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
