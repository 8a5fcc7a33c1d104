"""Figures: they show the numbers they were given, and are the same bytes every time."""

from typing import Any

import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from medr1.report.plots import (
    SMALL_N,
    before_after,
    control_bars,
    decomposition_bars,
    heat_map,
    to_svg,
    training_curves,
)
from medr1.results.evaluated import ModalityTask
from report_cases import control, part, results, steps


def scores(accuracy: float, n: int = 100, **further: Any) -> dict[str, Any]:
    return part(accuracy, [accuracy - 0.1, accuracy + 0.05], n=n, **further)


def shown(accuracy: float, **further: Any) -> dict[str, Any]:
    return control(accuracy, [accuracy - 0.1, accuracy + 0.05], **further)


BASE = results(**scores(0.3), by_modality={"CT": scores(0.2), "MRI": scores(0.4)}, controls={"blank": shown(0.28)})
OTHER = results(
    **scores(0.8),
    by_modality={"CT": scores(0.7), "OCT": scores(0.9)},
    controls={
        "blank": shown(0.26),
        "swapped": shown(0.1, follows={"n": 9, "share": 0.6, "ci95": [0.4, 0.8]}),
    },
)
DECOMPOSITION = steps(
    gain=0.5,
    parts={"format": 0.3, "finding": -0.1, "letter": 0.3},
    base={"format": {"n": 9, "share": 0.5, "ci95": [0.4, 0.6]}, "finding": None, "letter": None},
    other={stage: {"n": 9, "share": 0.9, "ci95": [0.8, 1.0]} for stage in ("format", "finding", "letter")},
)
LOG = [
    {"step": step, "reward": step / 10, "rewards/accuracy/mean": 0.5, "completions/mean_length": 40.0}
    for step in range(1, 11)
] + [{"step": 10, "train_runtime": 3.0}]


def bar_heights(ax: Any) -> list[list[float]]:
    return [[bar.get_height() for bar in c] for c in ax.containers if isinstance(c, BarContainer)]


def test_before_and_after_show_the_parts_that_both_runs_have() -> None:
    (ax,) = before_after(BASE, OTHER).axes
    assert np.allclose(bar_heights(ax), [[30, 20], [80, 70]])
    errors = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert np.allclose(errors[1][2][0].get_segments()[0][:, 1], [70, 85])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["all\nn = 100", "CT\nn = 100"]


def test_controls_without_a_value_have_no_bar() -> None:
    (ax,) = control_bars({"before": BASE, "after": OTHER}).axes
    assert np.allclose(bar_heights(ax)[0], [30, 28])
    assert np.allclose(bar_heights(ax)[1], [80, 26, 10, 60])


def test_heat_map_greys_small_cells() -> None:
    cells = [
        ModalityTask.model_validate(scores(0.5, n=n, modality=modality, task="Lesion Grading"))
        for modality, n in (("CT", SMALL_N), ("MRI", SMALL_N - 1))
    ]
    (ax,) = heat_map(cells).axes
    large, small = (patch.get_facecolor() for patch in ax.patches)
    assert len({round(channel, 2) for channel in small[:3]}) <= 2, "grey"
    assert large != small
    assert [text.get_text() for text in ax.texts] == ["50 %", f"n = {SMALL_N}", "50 %", f"n = {SMALL_N - 1}"]


def test_decomposition_shows_stages_and_parts() -> None:
    left, right = decomposition_bars(DECOMPOSITION).axes
    assert np.allclose(bar_heights(left)[0], [50])
    assert np.allclose(bar_heights(left)[1], [90, 90, 90])
    assert np.allclose(bar_heights(right)[0], [30, -10, 30, 50])


def test_training_curves_take_what_the_log_has() -> None:
    reward, parts, length = training_curves(LOG).axes
    assert np.allclose(reward.lines[0].get_ydata(), np.arange(1, 11) / 10)
    assert np.allclose(parts.lines[1].get_ydata(), 0.5)
    assert length.get_ylim()[0] == 0
    training_curves([])


@pytest.mark.parametrize(
    "figure",
    [
        lambda: training_curves(LOG),
        lambda: before_after(BASE, OTHER),
        lambda: control_bars({"run": OTHER}),
        lambda: decomposition_bars(DECOMPOSITION),
    ],
)
def test_svg_is_reproducible_and_self_contained(figure) -> None:
    svg = to_svg(figure())
    assert svg == to_svg(figure())
    assert b"<svg" in svg[:600]
    assert b'href="http' not in svg.replace(b'xlink:href="#', b"")


def test_settings_of_the_process_are_left_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_svg(before_after(BASE, OTHER))
    assert dict(matplotlib.rcParams) == before
