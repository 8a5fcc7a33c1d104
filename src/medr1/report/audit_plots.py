"""Figures of an audit: what blind rules reach, how fast, and what is shared with train."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medr1.report.plots import (
    ACCENT,
    BASE,
    INK,
    OTHER,
    chance_line,
    legend_above,
    new_figure,
    percent_axis,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Audit = Mapping[str, Any]

RULES = {
    "majority_letter": "majority letter",
    "majority_letter_of_train": "majority letter of train",
    "format_rule": "format rule",
    "longest_option": "longest option",
    "text_prior": "text prior",
    "linear_text": "linear text",
}
"""Names of the blind rules as figures and tables say them."""

MAX_PARTS = 15
"""Bars of a figure by part; the tables have all of them."""


@styled
def blind_bars(audit: Audit) -> "Figure":
    """Accuracy of every blind rule on the test set, with chance."""
    figure, (ax,) = new_figure(1, width=6.0, height=2.9)
    heights = [100 * audit["blind"][rule] for rule in RULES]
    above = [height - 100 * audit["chance"] > 3 for height in heights]
    bars = ax.bar(range(len(RULES)), heights, color=[ACCENT if high else BASE for high in above], width=0.62)
    ax.bar_label(bars, fmt="%.1f", fontsize=9, padding=2)
    chance_line(ax, audit["chance"], -0.5, len(RULES) - 0.5, "chance")
    ax.set_xticks(range(len(RULES)), [wrapped(name) for name in RULES.values()], fontsize=9)
    percent_axis(ax, "accuracy without images (%)")
    legend_above(ax)
    return figure


@styled
def curve(audit: Audit) -> "Figure":
    """Accuracy of the text prior against the number of training questions it was fitted on."""
    points = [*audit["learning_curve"], {"n": audit["n_train"], "accuracy": audit["blind"]["text_prior"], "std": 0.0}]
    sizes = np.array([point["n"] for point in points])
    means, deviations = (100 * np.array([point[key] for point in points]) for key in ("accuracy", "std"))
    figure, (ax,) = new_figure(1, width=5.0, height=2.9)
    ax.fill_between(sizes, means - deviations, means + deviations, color=OTHER, alpha=0.2, linewidth=0)
    ax.plot(sizes, means, color=OTHER, marker="o", markersize=4, label="text prior")
    chance_line(ax, audit["chance"], sizes.min(), sizes.max(), "chance")
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8, rotation=40)
    ax.minorticks_off()
    ax.set_xlabel("training questions, text only")
    percent_axis(ax, "accuracy without images (%)")
    legend_above(ax)
    return figure


@styled
def part_bars(audit: Audit, axis: str) -> "Figure":
    """Text prior and leaked images of the `MAX_PARTS` largest parts (`by_modality`, …), with their chance."""
    parts = audit[axis]
    largest = sorted(parts, key=lambda name: -parts[name]["n"])[:MAX_PARTS]
    names = [name for name in reversed(parts) if name in largest]
    rows = np.arange(len(names))
    figure, axes = new_figure(2, width=4.6, height=max(1.6, 0.7 + 0.3 * len(names)))
    values = (
        [100 * (parts[name]["blind"]["text_prior"] or 0) for name in names],
        [100 * parts[name]["image_leakage"]["share"] for name in names],
    )
    titles = ("Text prior, no image (%)", "Test questions whose image is in train (%)")
    for ax, shares, title, colour in zip(axes, values, titles, (OTHER, ACCENT), strict=True):
        bars = ax.barh(rows, shares, color=colour, height=0.62)
        ax.bar_label(bars, fmt="%.1f", fontsize=8, padding=3)
        ax.set(title=title, xlim=(0, 112), ylim=(-0.6, len(names) - 0.4))
        ax.set_xticks(range(0, 101, 20))
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
        ax.set_yticks(rows, [f"{name}  ({parts[name]['n']:,})" for name in names], fontsize=8)
    axes[1].set_yticklabels([])
    for row, name in zip(rows, names, strict=True):
        chance = parts[name]["chance"]
        if chance is not None:
            axes[0].plot([100 * chance] * 2, [row - 0.42, row + 0.42], color=INK, linewidth=1.2)
    return figure


@styled
def answer_bars(audit: Audit) -> "Figure":
    """How often each letter is right, and the texts that are right most often, in train and test."""
    sets = {"train": (BASE, audit["options"]["train"]), "test": (OTHER, audit["options"]["test"])}
    letters = sorted({letter for _, options in sets.values() for letter in options["gold_letters"]})
    figure, (left, right) = new_figure(2, width=4.2, height=3.0)
    for offset, (name, (colour, options)) in zip((-0.2, 0.2), sets.items(), strict=True):
        counts = options["gold_letters"]
        shares = [100 * counts.get(letter, 0) / max(sum(counts.values()), 1) for letter in letters]
        left.bar(np.arange(len(letters)) + offset, shares, width=0.38, color=colour, label=name)
    left.set_xticks(range(len(letters)), letters)
    left.set_title("Right letter (%)", pad=22)
    legend_above(left)
    top = audit["options"]["test"]["gold_texts"]["top"]
    texts = list(reversed(top))
    total = max(sum(audit["options"]["test"]["gold_letters"].values()), 1)
    right.barh(range(len(texts)), [100 * top[text] / total for text in texts], color=OTHER, height=0.62)
    right.set_yticks(range(len(texts)), [_short(text) for text in texts], fontsize=8)
    right.set_title("Commonest right texts in test (%)", pad=22)
    right.grid(visible=True, axis="x")
    right.grid(visible=False, axis="y")
    return figure


def _short(text: str, length: int = 32) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shown_axes(audit: Audit) -> Sequence[str]:
    """Divisions of the test set with more than one part."""
    return [axis for axis in ("by_modality", "by_task", "by_source") if len(audit[axis]) > 1]
