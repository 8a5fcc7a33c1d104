"""The page and the tables of an attack: accuracy against the budget, beside noise and blind baselines."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from medr1.report.html import Fact, FigureItem, Finding, GalleryItem, Report
from medr1.report.plots import ACCENT, BASE, INK, OTHER, chance_line, new_figure, percent_axis, styled, to_svg
from medr1.report.tables import NONE, Table, estimated, percent, warnings
from medr1.results.attacked import AttackScores, Cell, CrashedCell, Grid
from medr1.results.evaluated import Part
from medr1.types import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"noise": BASE, "fgsm": ACCENT, "pgd": OTHER}
MORE_COLOURS = ("#6b8f71", "#8a5a83", INK, "#b0413e")
TILE = 168
"""Smallest side of an image in the gallery, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A right answer that an attack changed."""

    sample: Sample
    clean: Image.Image
    attacked: Image.Image
    before: str
    """Completions."""
    after: str
    answer: str | None
    note: str


def attack_table(grid: Grid, title: str = "Attacks") -> Table:
    """One row a cell: what is left, what was lost how, and how visible it is; blind baselines above."""
    clean, n = grid.clean, f"{grid.clean.n:,}"
    without_image = {"chance": clean.chance, **{f"{n.replace('_', ' ')}, blind": v for n, v in clean.blind}}
    rows = [("clean", NONE, n, estimated(clean.accuracy), *[NONE] * 5)]
    rows += [(label, NONE, n, percent(v), *[NONE] * 5) for label, v in without_image.items() if v is not None]
    rows += [_row(cell) for cell in grid.cells.values()]
    columns = (
        "", "k (epsilon)", "n", "accuracy [95 % interval]", "image-reliant", "success rate",
        "flipped/unreadable/refused", "PSNR", "SSIM",
    )  # fmt: skip
    note = (
        f"{grid.image_reliant:,} of {grid.n:,} questions are image-reliant. Original files: "
        f"{percent(grid.native_clean_accuracy)} %. Answers that differ between two clean runs: "
        f"{percent(grid.noise_floor.value)} %. " + trust_line(grid)
    )
    return Table(title=title, columns=columns, rows=rows, note=note, warnings=warnings(clean.void))


def _row(cell: Cell | CrashedCell) -> tuple[str, ...]:
    budget = f"{cell.k} ({cell.epsilon:.4f})"
    if isinstance(cell, CrashedCell):
        return (cell.attack, budget, NONE, f"failed: {cell.error[:60]}", *[NONE] * 5)
    return (
        cell.attack,
        NONE if cell.norm == "none" else budget,
        f"{cell.n:,}",
        estimated(cell.robust_accuracy),
        _robust(cell.image_reliant),
        estimated(cell.attack_success_rate),
        f"{cell.lost.flipped} / {cell.lost.unreadable} / {cell.lost.refused}",
        NONE if cell.psnr_mean is None else f"{cell.psnr_mean:.1f}",
        f"{cell.ssim_mean:.3f}",
    )


def _robust(scores: AttackScores | None) -> str:
    return percent(scores.robust_accuracy.value if scores and scores.robust_accuracy else None)


def scored_cells(grid: Grid) -> dict[str, Cell]:
    """Those that did not crash."""
    return {name: cell for name, cell in grid.cells.items() if isinstance(cell, Cell)}


def trust_line(grid: Grid) -> str:
    """Whether the figures may be believed, and why not."""
    if grid.trustworthy:
        return "Trustworthy: every required check passed."
    return "NOT trustworthy: " + "; ".join(grid.reasons)


def parts_tables(grid: Grid) -> list[Table]:
    """Accuracy of every cell, a row each, by modality and by task, in percent."""
    cells, clean = scored_cells(grid), grid.clean
    return [
        _parts_table("Accuracy by modality (%)", clean.by_modality, {n: cell.by_modality for n, cell in cells.items()}),
        _parts_table("Accuracy by task (%)", clean.by_task, {name: cell.by_task for name, cell in cells.items()}),
    ]


def _parts_table(title: str, clean: Mapping[str, Part], cells: Mapping[str, Mapping[str, AttackScores]]) -> Table:
    names = list(next(iter(cells.values()))) if cells else []
    rows = [
        ("n", *(f"{clean[name].n:,}" for name in names)),
        ("clean", *(percent(clean[name].accuracy.value) for name in names)),
        *((label, *(_robust(parts[name]) for name in names)) for label, parts in cells.items()),
    ]
    return Table(title=title, columns=("", *names), rows=rows)


def checks_table(grid: Grid) -> Table:
    """Every check with what was seen."""
    rows = [
        (name.replace("_", " "), status.replace("_", " "), grid.check_details[name])
        for name, status in grid.checks.items()
    ]
    return Table(title="Checks", columns=("", "outcome", "what was seen"), rows=rows)


@styled
def budget_curves(grid: Grid) -> "Figure":
    """Accuracy against k for every attack, with intervals, chance and what a blank image leaves."""
    figure, (ax,) = new_figure(1, width=5.6, height=3.4)
    cells = [cell for cell in scored_cells(grid).values() if cell.norm != "none"]
    spare = iter(MORE_COLOURS)
    largest = max((cell.k for cell in cells), default=1)
    for name in dict.fromkeys(cell.attack for cell in cells):
        own = sorted((cell for cell in cells if cell.attack == name), key=lambda cell: cell.k)
        points = [(0, grid.clean.accuracy), *((c.k, c.robust_accuracy) for c in own if c.robust_accuracy)]
        shown = 100 * np.array([found.value for _, found in points])
        limits = 100 * np.array([(found.low, found.high) for _, found in points]).T
        colour = COLOURS.get(name) or next(spare, INK)
        k = [k for k, _ in points]
        ax.errorbar(
            k, shown, yerr=np.abs(limits - shown), color=colour, label=name, marker="o", markersize=3.5, capsize=2
        )
    chance_line(ax, grid.clean.chance, 0, largest, "chance")
    if grid.clean.blind.blank_image is not None:
        blank = 100 * grid.clean.blind.blank_image
        ax.plot([0, largest], [blank, blank], color=BASE, linewidth=1, linestyle="--", label="blank image")
    ax.set_xlabel("budget k (grey levels of 255)")
    percent_axis(ax, "accuracy (%)")
    ax.legend(fontsize=8)
    return figure


def triptych(clean: Image.Image, attacked: Image.Image) -> bytes:
    """Clean image, adversarial image, and their difference stretched around grey to the full range, as PNG."""
    a, b = (np.asarray(image.convert("RGB")).astype(np.int16) for image in (clean, attacked))
    change = b - a
    gain = 127 / max(1, int(np.abs(change).max()))
    magnified = (128 + gain * change).round().clip(0, 255)
    strip = np.concatenate([a, b, magnified], axis=1).astype(np.uint8)
    factor = max(1, round(TILE / a.shape[0]))
    picture = Image.fromarray(strip)
    picture = picture.resize((strip.shape[1] * factor, strip.shape[0] * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def attack_report(grid: Grid, examples: Sequence[Example], made_by: Mapping[str, object]) -> Report:
    """The page of a run."""
    findings = [Finding(level="pass", text=trust_line(grid))] if grid.trustworthy else []
    findings += [Finding(level="fail", text=f"Not trustworthy. {reason}") for reason in grid.reasons]
    findings += [
        Finding(level="fail", text=f"{name} crashed and has no accuracy: {cell.error}")
        for name, cell in grid.cells.items()
        if isinstance(cell, CrashedCell)
    ]
    scored = [(cell.robust_accuracy.value, cell) for cell in scored_cells(grid).values() if cell.robust_accuracy]
    headline = [Fact(label="clean accuracy", value=f"{percent(grid.clean.accuracy.value)} %")]
    if scored:
        lowest, worst = min(scored, key=lambda found: found[0])
        note = f"{worst.attack}, k = {worst.k}"
        headline.append(Fact(label="robust accuracy", value=f"{percent(lowest)} %", note=note))
    return Report(
        title="Adversarial robustness",
        intro="Accuracy by free generation from the saved adversarial files, beside random noise of the same size and "
        "what is reached without an image.",
        findings=findings,
        headline=headline,
        figures=[
            FigureItem(
                title="Accuracy against the budget", caption="95 % intervals.", image=to_svg(budget_curves(grid))
            )
        ],
        tables=[attack_table(grid), *parts_tables(grid), checks_table(grid)],
        gallery=[_gallery_item(example) for example in examples],
        manifest=made_by,
    )


def _gallery_item(example: Example) -> GalleryItem:
    assert example.sample.gold is not None
    return GalleryItem(
        image=triptych(example.clean, example.attacked),
        question=example.sample.question,
        options=example.sample.options,
        thinking=f"before: {example.before} after: {example.after}",
        answer=example.answer,
        gold=example.sample.gold,
        right=False,
        note=f"{example.note}; clean, attacked, difference (magnified)",
    )
