"""Figures of a report: pure functions from results to matplotlib figures, and those to SVG.

Figures are made without pyplot, so nothing global changes and no display is needed. Blue is the trained model, grey the
base model, a dotted line is chance; error bars are 95 % intervals.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from medr1.diagnosis import LogLine
from medr1.results.compared import Steps
from medr1.results.evaluated import ModalityTask, Results
from medr1.types import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

BASE, OTHER, ACCENT, INK, FAINT = "#9aa5b1", "#2f6f9f", "#c8793a", "#333f4c", "#dde2e8"
BARS = (BASE, OTHER, ACCENT, "#6b8f71")
"""One colour a run, in order."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#eef1f4",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "medr1",
}

SMALL_N = 10
"""Cells of the heat map with fewer samples are greyed: their interval is wider than ±26 points at 50 %."""


def styled(make: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Draw in the style of the report, whatever the process's own matplotlib settings are."""

    @wraps(make)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return make(*args, **kwargs)

    return drawn


def to_svg(figure: "Figure") -> bytes:
    """The figure as SVG, the same bytes for the same figure; text becomes outlines, so no font is needed."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


@styled
def training_curves(log: Sequence[LogLine]) -> "Figure":
    """Reward, its parts, and completion length against the step, from the rows of `train_log.jsonl` (TRL's names).

    Thin lines are the logged values, thick ones their running mean.
    """
    part_names = sorted({key for row in log for key in row if key.startswith("rewards/") and key.endswith("/mean")})
    panels = {
        "Reward": {"reward": "reward"},
        "Parts of the reward": {name: name.split("/")[1].replace("_", " ") for name in part_names},
        "Completion length (tokens)": {"completions/mean_length": "length"},
    }
    figure, axes = new_figure(len(panels), width=3.6, height=2.7)
    for ax, (title, series) in zip(axes, panels.items(), strict=True):
        for colour, (key, label) in zip((OTHER, ACCENT, "#6b8f71", BASE, INK), series.items(), strict=False):
            points = [(row["step"], row[key]) for row in log if key in row and "step" in row]
            if points:
                steps, values = np.array(points, dtype=float).T
                ax.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35)
                ax.plot(steps, _running_mean(values), color=colour, linewidth=1.8, label=label)
        ax.set(title=title, xlabel="step")
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend(fontsize=8)
    axes[2].set_ylim(bottom=0)
    return figure


@styled
def before_after(
    base: Results, other: Results, *, by_task: bool = False, labels: Sequence[str] = ("before", "after")
) -> "Figure":
    """Accuracy overall and by modality (or task) before and after training, with intervals and chance."""
    before, after = ((run.by_task if by_task else run.by_modality) for run in (base, other))
    rows = [("all", base, other), *((name, before[name], after[name]) for name in after if name in before)]
    figure, (ax,) = new_figure(1, width=max(4.5, 1.1 + 1.0 * len(rows)), height=3.0)
    for offset, colour, label, run in ((-0.2, BASE, labels[0], 1), (0.2, OTHER, labels[1], 2)):
        _bars(ax, np.arange(len(rows)) + offset, [row[run].accuracy for row in rows], colour, label, width=0.38)
    for position, row in enumerate(rows):
        chance_line(ax, row[2].chance, position - 0.45, position + 0.45, "chance" if position == 0 else None)
    ax.set_xticks(range(len(rows)), [f"{wrapped(name)}\nn = {scores.n:,}" for name, _, scores in rows], fontsize=8)
    percent_axis(ax, "accuracy (%)")
    legend_above(ax)
    return figure


@styled
def heat_map(cells: Sequence[ModalityTask]) -> "Figure":
    """Accuracy by modality × task (`by_modality_and_task` of the results); n in the cells, few samples greyed."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    modalities = sorted({cell.modality for cell in cells})
    tasks = sorted({cell.task for cell in cells})
    colours = LinearSegmentedColormap.from_list("medr1", ["#f6efe6", "#9fc2d8", "#1f5a85"])
    figure, (ax,) = new_figure(1, width=1.6 + 1.25 * len(tasks), height=0.9 + 0.55 * len(modalities))
    for cell in cells:
        x, y = tasks.index(cell.task), modalities.index(cell.modality)
        small = cell.n < SMALL_N
        face = "#f0f1f3" if small else colours(cell.accuracy.value)
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
        ink = "#7a828b" if small else "white" if cell.accuracy.value > 0.65 else INK
        ax.text(x, y - 0.12, f"{100 * cell.accuracy.value:.0f} %", ha="center", va="center", color=ink, fontsize=10)
        ax.text(x, y + 0.27, f"n = {cell.n:,}", ha="center", va="center", color=ink, fontsize=7)
    ax.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(modalities) - 0.5, -0.5))
    ax.set_xticks(range(len(tasks)), [wrapped(task) for task in tasks], fontsize=8)
    ax.set_yticks(range(len(modalities)), modalities)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return figure


@styled
def control_bars(runs: Mapping[str, Results]) -> "Figure":
    """Accuracy with the image as it is and under every control, for each run, with chance; and who follows the swap."""
    names = list(dict.fromkeys(name for results in runs.values() for name in results.controls))
    labels = ["image\nas it is", *(f"{name.replace('_', ' ')}\nimage" for name in names)]
    follows = {
        label: next((control.follows for control in results.controls.values() if control.follows), None)
        for label, results in runs.items()
    }
    if any(follows.values()):
        labels.append("answers the\nswapped image")
    figure, (ax,) = new_figure(1, width=max(4.5, 1.2 + 1.25 * len(labels)), height=3.0)
    width = 0.8 / len(runs)
    for number, ((label, results), colour) in enumerate(zip(runs.items(), BARS, strict=False)):
        shown = [results.accuracy]
        shown += [results.controls[name].accuracy if name in results.controls else None for name in names]
        shown += [follows[label]] if any(follows.values()) else []
        positions = np.arange(len(shown)) - 0.4 + width * (number + 0.5)
        _bars(ax, positions, shown, colour, label, width=0.92 * width)
    chance_line(ax, next(iter(runs.values())).chance, -0.5, len(labels) - 0.5, "chance")
    ax.set_xticks(range(len(labels)), labels, fontsize=8)
    percent_axis(ax, "share of samples (%)")
    legend_above(ax)
    return figure


@styled
def decomposition_bars(steps: Steps, labels: Sequence[str] = ("before", "after")) -> "Figure":
    """What a right answer takes, before and after, and how much of the gain each step brought."""
    stages = ("format right", "finding named\nright, of those", "letter right,\ngiven the finding")
    figure, (left, right) = new_figure(2, width=4.2, height=3.0)
    for offset, colour, label, run in ((-0.2, BASE, labels[0], steps.base), (0.2, OTHER, labels[1], steps.other)):
        shares = [run.format, run.finding, run.letter]
        _bars(left, np.arange(len(stages)) + offset, shares, colour, label, width=0.38)
    left.set_xticks(range(len(stages)), stages, fontsize=8)
    percent_axis(left, "share (%)")
    legend_above(left)

    values = [100 * value for value in (steps.parts.format, steps.parts.finding, steps.parts.letter, steps.gain)]
    right.bar(range(len(values)), values, color=[ACCENT] * len(stages) + [OTHER], width=0.6)
    for position, value in enumerate(values):
        above = value >= 0
        right.annotate(
            f"{value:+.1f}",
            (position, value),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
        )
    right.axhline(0, color=INK, linewidth=0.8)
    right.set_xticks(range(len(values)), ["format", "finding", "letter", "whole gain"], fontsize=8)
    right.set_title("What each step added to the accuracy (points)")
    right.margins(y=0.15)
    return figure


def new_figure(panels: int, *, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """A row of panels, each `width` × `height` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panels * width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])


def _bars(
    ax: "Axes",
    positions: np.ndarray,
    estimates: Sequence[Estimate | None],
    colour: str,
    label: str,
    *,
    width: float,
) -> None:
    """Bars with their intervals, in percent; what has no value has no bar."""
    shown = [(x, found) for x, found in zip(positions, estimates, strict=True) if found is not None]
    heights = np.array([100 * found.value for _, found in shown])
    limits = np.array([(found.low, found.high) for _, found in shown]).reshape(-1, 2).T * 100
    ax.bar([x for x, _ in shown], heights, width=width, color=colour, label=label)
    ax.errorbar(
        [x for x, _ in shown],
        heights,
        yerr=np.abs(limits - heights),
        fmt="none",
        ecolor=INK,
        elinewidth=0.9,
        capsize=2,
    )


def chance_line(ax: "Axes", chance: float | None, start: float, end: float, label: str | None) -> None:
    """A dotted line at chance between two places of the axis; nothing where chance is not known."""
    if chance is not None:
        ax.plot([start, end], [100 * chance] * 2, color=INK, linewidth=1, linestyle=(0, (1, 1.5)), label=label)


def percent_axis(ax: "Axes", label: str) -> None:
    """Let the vertical axis run from 0 to 100 %, with room for figures above the bars."""
    ax.set_ylim(0, 105)
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(label)


def legend_above(ax: "Axes") -> None:
    """Put the legend in one line above the panel, where it hides no bar."""
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(labels), fontsize=8)


def wrapped(name: str) -> str:
    """A name of several words on two lines."""
    words = name.split()
    middle = (len(words) + 1) // 2
    return "\n".join(filter(None, (" ".join(words[:middle]), " ".join(words[middle:]))))


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a tenth of the run around each step; shorter at the ends."""
    half = max(1, len(values) // 20)
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
