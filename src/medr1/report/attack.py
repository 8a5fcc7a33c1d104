"""The page and the tables of an attack: accuracy against the budget, beside noise and blind baselines."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medr1.report.html import Fact, FigureItem, Finding, GalleryItem, Report
from medr1.report.plots import ACCENT, BASE, INK, OTHER, chance_line, new_figure, percent_axis, styled, to_svg
from medr1.report.tables import NONE, Table, percent, warnings, with_interval
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


def attack_table(grid: Mapping[str, Any], title: str = "Attacks") -> Table:
    """One row a cell: what is left, what was lost how, and how visible it is; blind baselines above."""
    clean, blind = grid["clean"], grid["clean"]["blind"]
    rows = [("clean", NONE, f"{clean['n']:,}", with_interval(clean), NONE, NONE, NONE, NONE, NONE)]
    for label, value in (
        ("chance", clean["chance"]),
        *((f"{n.replace('_', ' ')}, blind", v) for n, v in blind.items()),
    ):
        if value is not None:
            rows.append((label, NONE, f"{clean['n']:,}", percent(value), NONE, NONE, NONE, NONE, NONE))
    for cell in grid["cells"].values():
        k = NONE if cell.get("norm") == "none" else f"{cell['k']} ({cell['epsilon']:.4f})"
        if "error" in cell:
            rows.append((cell["attack"], k, NONE, f"failed: {cell['error'][:60]}", NONE, NONE, NONE, NONE, NONE))
            continue
        reliant = cell["image_reliant"] or {}
        success = {"share": cell["attack_success_rate"], "ci95": cell["attack_success_ci95"]}
        lost = cell["lost"]
        rows.append(
            (
                cell["attack"],
                k,
                f"{cell['n']:,}",
                with_interval({"accuracy": cell["robust_accuracy"], "ci95": cell["ci95"]}),
                percent(reliant.get("robust_accuracy")),
                with_interval(success, "share"),
                f"{lost['flipped']} / {lost['unreadable']} / {lost['refused']}",
                NONE if cell["psnr_mean"] is None else f"{cell['psnr_mean']:.1f}",
                f"{cell['ssim_mean']:.3f}",
            )
        )
    columns = (
        "", "k (epsilon)", "n", "accuracy [95 % interval]", "image-reliant", "success rate",
        "flipped/unreadable/refused", "PSNR", "SSIM",
    )  # fmt: skip
    floor = grid["noise_floor"]
    note = (
        f"{grid['image_reliant']:,} of {grid['n']:,} questions are image-reliant. Original files: "
        f"{percent(grid['native_clean_accuracy'])} %. Answers that differ between two clean runs: "
        f"{percent(floor['share'])} %. " + trust_line(grid)
    )
    return Table(title=title, columns=columns, rows=rows, note=note, warnings=warnings(clean))


def trust_line(grid: Mapping[str, Any]) -> str:
    """Whether the figures may be believed, and why not."""
    if grid["trustworthy"]:
        return "Trustworthy: every required check passed."
    return "NOT trustworthy: " + "; ".join(grid["reasons"])


def parts_table(grid: Mapping[str, Any], axis: str, title: str) -> Table:
    """Accuracy of every cell, a row each, by modality or task (`axis` is `by_modality` or `by_task`), in percent."""
    cells = {name: cell[axis] for name, cell in grid["cells"].items() if "error" not in cell}
    clean = grid["clean"][axis]
    names = list(next(iter(cells.values()))) if cells else []
    rows = [
        ("n", *(f"{clean[name]['n']:,}" for name in names)),
        ("clean", *(percent(clean[name]["accuracy"]) for name in names)),
        *((label, *(percent(parts[name]["robust_accuracy"]) for name in names)) for label, parts in cells.items()),
    ]
    return Table(title=title, columns=("", *names), rows=rows)


def checks_table(grid: Mapping[str, Any]) -> Table:
    """Every check with what was seen."""
    rows = [
        (name.replace("_", " "), status.replace("_", " "), grid["check_details"][name])
        for name, status in grid["checks"].items()
    ]
    return Table(title="Checks", columns=("", "outcome", "what was seen"), rows=rows)


@styled
def budget_curves(grid: Mapping[str, Any]) -> "Figure":
    """Accuracy against k for every attack, with intervals, chance and what a blank image leaves."""
    figure, (ax,) = new_figure(1, width=5.6, height=3.4)
    clean = grid["clean"]
    cells = [cell for cell in grid["cells"].values() if "error" not in cell and cell["norm"] != "none"]
    names = list(dict.fromkeys(cell["attack"] for cell in cells))
    spare = iter(MORE_COLOURS)
    largest = max((cell["k"] for cell in cells), default=1)
    for name in names:
        own = sorted((cell for cell in cells if cell["attack"] == name), key=lambda cell: cell["k"])
        k = np.array([0, *(cell["k"] for cell in own)])
        shown = 100 * np.array([clean["accuracy"], *(cell["robust_accuracy"] for cell in own)])
        limits = 100 * np.array([clean["ci95"], *(cell["ci95"] for cell in own)]).T
        colour = COLOURS.get(name) or next(spare, INK)
        ax.errorbar(
            k, shown, yerr=np.abs(limits - shown), color=colour, label=name, marker="o", markersize=3.5, capsize=2
        )
    chance_line(ax, clean["chance"], 0, largest, "chance")
    if clean["blind"]["blank_image"] is not None:
        blank = 100 * clean["blind"]["blank_image"]
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


def attack_report(grid: Mapping[str, Any], examples: Sequence[Example], made_by: Mapping[str, Any]) -> Report:
    """The page of a run."""
    findings = [Finding(level="pass", text=trust_line(grid))] if grid["trustworthy"] else []
    findings += [Finding(level="fail", text=f"Not trustworthy. {reason}") for reason in grid["reasons"]]
    findings += [
        Finding(level="fail", text=f"{name} crashed and has no accuracy: {cell['error']}")
        for name, cell in grid["cells"].items()
        if "error" in cell
    ]
    scored = [cell for cell in grid["cells"].values() if "error" not in cell]
    worst = min(scored, key=lambda cell: cell["robust_accuracy"], default=None)
    headline = [Fact(label="clean accuracy", value=f"{percent(grid['clean']['accuracy'])} %")]
    if worst is not None:
        note = f"{worst['attack']}, k = {worst['k']}"
        headline.append(Fact(label="robust accuracy", value=f"{percent(worst['robust_accuracy'])} %", note=note))
    parts = [parts_table(grid, "by_modality", "By modality"), parts_table(grid, "by_task", "By task")]
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
        tables=[attack_table(grid), *(table for table in parts if table.rows), checks_table(grid)],
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
