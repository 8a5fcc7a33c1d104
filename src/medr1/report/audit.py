"""The page of an audit: verdicts first, then what they rest on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medr1.report.html import Fact, FigureItem, Finding, Report
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
    to_svg,
    wrapped,
)
from medr1.report.tables import NONE, Table, percent
from medr1.results.audited import Audited, AuditedPart, BlindAccuracies, CurvePoint, Shared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = {
    "image_leakage": "their image is in train",
    "group_leakage": "their group (image, series, patient) is in train",
    "record_repeats": "image, question and options are in train",
    "image_question_repeats": "image and question are in train, whatever the options",
    "question_repeats": "question and options are in train, about any image",
    "stem_repeats": "the question alone is in train",
}
FAULTS = {
    "duplicate_options": "two options are the same text",
    "folded_duplicates": "two options differ in case or punctuation only",
    "ambiguous_gold": "the right option has such a twin",
    "conflicting_answers": "another record gives another answer to the same question about the same image",
    "several_true": "another record gives one of its wrong options as the answer to that question",
    "options_that_refer": "an option speaks of others (“Both A and B”); their order is kept",
}


MAX_PARTS = 15
"""Bars of a figure by part; the tables have all of them."""


def audit_report(audit: Audited, manifest: Mapping[str, object] | None = None) -> Report:
    """Everything that the page of an audit shows, from the values of `audit.json`."""
    return Report(
        title=f"Audit: {audit.test} against {audit.train}",
        intro=_what(audit),
        findings=[finding(line) for line in audit.verdicts],
        headline=_headline(audit),
        figures=_figures(audit),
        tables=audit_tables(audit),
        manifest=manifest or {},
    )


def finding(verdict: str) -> Finding:
    """A line of `verdicts` in the words of the page.

    >>> finding("warn: near-duplicates were not looked for.")
    Finding(level='warn', text='Near-duplicates were not looked for.')
    """
    level, _, text = verdict.partition(": ")
    return Finding(level=level, text=f"{text[:1].upper()}{text[1:]}")


def audit_tables(audit: Audited) -> list[Table]:
    """Every table of the page."""
    tables = [overview(audit), _shared(audit), _slices(audit), _near(audit)]
    tables += [_parts(axis, parts) for axis, parts in _divisions(audit)]
    tables += [_one_sided(audit), _faults(audit), _formats(audit)]
    return [table for table in tables if table.rows]


def overview(audit: Audited) -> Table:
    """The figures that a split is judged by, in percent: also what the terminal shows."""
    near = audit.near_duplicates
    rows = [
        ("image is in train", percent(audit.image_leakage.share)),
        ("near-duplicate image in train", NONE if near is None else percent(near.rate)),
        ("the same, expected of unrelated images", NONE if near is None else percent(near.expected_rate)),
        ("question and options are in train", percent(audit.question_repeats.share)),
        ("chance", percent(audit.chance)),
        *((f"{name}, no image", percent(accuracy)) for name, accuracy in _by_rule(audit.blind).items()),
    ]
    note = (
        f"{audit.n_test:,} test questions, {audit.n_train:,} in train; rules are fitted on train only, "
        "but for the majority letter."
    )
    return Table(title=f"Audit of {audit.test}", columns=("", "% of test"), rows=rows, note=note)


def _what(audit: Audited) -> str:
    return (
        f"{audit.n_test:,} test questions were compared with {audit.n_train:,} training questions, and answered "
        "without looking at any image. ✗ must be mended before an accuracy means anything, ! must be reported with it, "
        "– could not be checked."
    )


def _headline(audit: Audited) -> list[Fact]:
    leak, near, blind = audit.image_leakage, audit.near_duplicates, audit.blind
    chance = f"chance is {percent(audit.chance)} %"
    facts = [
        Fact(label="Test images in train", value=f"{percent(leak.share)} %", note=f"{leak.records:,} questions"),
        Fact(label="Text prior, no image", value=f"{percent(blind.text_prior)} %", note=chance),
        Fact(label="Linear text model, no image", value=f"{percent(blind.linear_text)} %", note=chance),
        Fact(
            label="Questions word for word in train",
            value=f"{percent(audit.question_repeats.share)} %",
            note=f"{audit.question_repeats.records:,} with the same options",
        ),
    ]
    if near is not None:
        note = f"unrelated images: {percent(near.expected_rate)} %"
        facts.insert(1, Fact(label="Near-duplicates in train", value=f"{percent(near.rate)} %", note=note))
    return facts


def _figures(audit: Audited) -> list[FigureItem]:
    figures = [
        FigureItem(
            title="Answering without the image",
            caption="Rules fitted on train only. Orange: more than 3 points above chance.",
            image=to_svg(blind_bars(audit)),
        )
    ]
    if audit.learning_curve:
        figures.append(
            FigureItem(
                title="How few questions teach the answers",
                caption="A counter of right option texts, fitted on random training questions; band: ± 1 std.",
                image=to_svg(curve(audit)),
            )
        )
    figures += [
        FigureItem(
            title=f"By {axis}",
            caption=f"Number of test questions in brackets; the dark stroke is chance; the {MAX_PARTS} largest.",
            image=to_svg(part_bars(parts)),
        )
        for axis, parts in _divisions(audit)
    ]
    answers = FigureItem(
        title="What is right",
        caption="An even spread of letters says little: look at how few texts are ever right.",
        image=to_svg(answer_bars(audit)),
    )
    return [*figures, answers]


def _shared(audit: Audited) -> Table:
    levels: dict[str, Shared] = {what: getattr(audit, name) for name, what in LEVELS.items()}
    rows = [(what, f"{shared.records:,}", percent(shared.share)) for what, shared in levels.items()]
    compared = audit.images_compared
    found = ", ".join(f"{count:,} questions by {basis}" for basis, count in compared.found_by.items() if count)
    note = (
        f"{audit.shared_images:,} distinct images are in both{f' ({found})' if found else ''}; images were compared "
        f"by {compared.basis or 'nothing: one of the two has none'}."
    )
    return Table(title="What test shares with train", columns=("test questions", "n", "%"), rows=rows, note=note)


def _slices(audit: Audited) -> Table:
    found = audit.slice_neighbours or {}
    rows = [(f"within {gap}", f"{value.images:,}", percent(value.share)) for gap, value in found.items()]
    note = "Distinct test images, not themselves in train, with a training slice of the same folder and prefix so near."
    return Table(title="Neighbouring slices", columns=("slice numbers", "images", "%"), rows=rows, note=note)


def _near(audit: Audited) -> Table:
    near = audit.near_duplicates
    levels = [] if near is None else near.by_threshold
    rows = [(f"≤ {item.threshold}", percent(item.rate), percent(item.expected_rate)) for item in levels]
    note = "" if near is None else f"Unrelated pairs: same modality, {near.unrelated}."
    columns = ("bits of 64 that differ", "% of test images", "% expected of unrelated images")
    return Table(title="Near-duplicates in train", columns=columns, rows=rows, note=note)


def _parts(axis: str, parts: Mapping[str, AuditedPart]) -> Table:
    rows = [
        (
            name,
            f"{part.n:,}",
            percent(part.image_leakage.share),
            percent(part.question_repeats.share),
            percent(part.chance),
            *map(percent, _by_rule(part.blind).values()),
        )
        for name, part in parts.items()
    ]
    columns = ("", "n", "image in train", "question in train", "chance", *map(_rule_name, BlindAccuracies.model_fields))
    return Table(title=f"By {axis} (%)", columns=columns, rows=rows)


def _one_sided(audit: Audited) -> Table:
    rows = [
        (" / ".join(item.options)[:100], f"{item.n:,}", item.answer[:40], percent(item.share))
        for item in audit.options["test"].one_sided
    ]
    return Table(title="One-sided option sets in test", columns=("options", "n", "usual answer", "%"), rows=rows)


def _faults(audit: Audited) -> Table:
    rows = [
        (what, *(f"{getattr(checks.faults, name):,}" for checks in (audit.options["train"], audit.options["test"])))
        for name, what in FAULTS.items()
    ]
    return Table(title="Faults of the options (questions)", columns=("", "train", "test"), rows=rows)


def _formats(audit: Audited) -> Table:
    test = audit.options["test"].format_giveaways
    texts = audit.options["test"].gold_texts
    rows = [
        ("start in lower case (%)", percent(test.gold_lower_case), percent(test.distractor_lower_case)),
        ("end with a full stop (%)", percent(test.gold_full_stop), percent(test.distractor_full_stop)),
        ("mean length", f"{test.gold_mean_length:.1f}", f"{test.distractor_mean_length:.1f}"),
        ("distinct texts", f"{texts.distinct:,}", f"{texts.distinct_distractors:,}"),
    ]
    note = (
        f"The format rule decides {percent(test.coverage)} % of the questions and is right in "
        f"{percent(test.hit_rate)} % of those; {percent(texts.distractors_never_right)} % of the wrong options "
        "are texts that are never right."
    )
    return Table(
        title="How right and wrong options are written (test)", columns=("", "right", "wrong"), rows=rows, note=note
    )


def _divisions(audit: Audited) -> list[tuple[str, dict[str, AuditedPart]]]:
    """The test set by modality, task and source, where it has more than one of them."""
    every = {"modality": audit.by_modality, "task": audit.by_task, "source": audit.by_source}
    return [(axis, parts) for axis, parts in every.items() if len(parts) > 1]


def _by_rule(blind: BlindAccuracies) -> dict[str, float | None]:
    """Accuracies by the names of the rules as figures and tables say them."""
    return {_rule_name(rule): accuracy for rule, accuracy in blind}


def _rule_name(rule: str) -> str:
    return rule.replace("_", " ")


# Figures -------------------------------------------------------------------------------------------------------------


@styled
def blind_bars(audit: Audited) -> "Figure":
    """Accuracy of every blind rule on the test set, with chance."""
    figure, (ax,) = new_figure(1, width=6.0, height=2.9)
    rules = _by_rule(audit.blind)
    heights = [100 * (accuracy or 0) for accuracy in rules.values()]
    above = [height - 100 * audit.chance > 3 for height in heights]
    bars = ax.bar(range(len(rules)), heights, color=[ACCENT if high else BASE for high in above], width=0.62)
    ax.bar_label(bars, fmt="%.1f", fontsize=9, padding=2)
    chance_line(ax, audit.chance, -0.5, len(rules) - 0.5, "chance")
    ax.set_xticks(range(len(rules)), list(map(wrapped, rules)), fontsize=9)
    percent_axis(ax, "accuracy without images (%)")
    legend_above(ax)
    return figure


@styled
def curve(audit: Audited) -> "Figure":
    """Accuracy of the text prior against the number of training questions it was fitted on."""
    points = [*audit.learning_curve, CurvePoint(n=audit.n_train, accuracy=audit.blind.text_prior or 0, std=0)]
    sizes = np.array([point.n for point in points])
    means, deviations = 100 * np.array([(point.accuracy, point.std) for point in points]).T
    figure, (ax,) = new_figure(1, width=5.0, height=2.9)
    ax.fill_between(sizes, means - deviations, means + deviations, color=OTHER, alpha=0.2, linewidth=0)
    ax.plot(sizes, means, color=OTHER, marker="o", markersize=4, label="text prior")
    chance_line(ax, audit.chance, sizes.min(), sizes.max(), "chance")
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8, rotation=40)
    ax.minorticks_off()
    ax.set_xlabel("training questions, text only")
    percent_axis(ax, "accuracy without images (%)")
    legend_above(ax)
    return figure


@styled
def part_bars(parts: Mapping[str, AuditedPart]) -> "Figure":
    """Text prior and leaked images of the `MAX_PARTS` largest parts, with their chance."""
    largest = sorted(parts, key=lambda name: -parts[name].n)[:MAX_PARTS]
    names = [name for name in reversed(list(parts)) if name in largest]
    rows = np.arange(len(names))
    figure, axes = new_figure(2, width=4.6, height=max(1.6, 0.7 + 0.3 * len(names)))
    values = (
        [100 * (parts[name].blind.text_prior or 0) for name in names],
        [100 * parts[name].image_leakage.share for name in names],
    )
    titles = ("Text prior, no image (%)", "Test questions whose image is in train (%)")
    for ax, shares, title, colour in zip(axes, values, titles, (OTHER, ACCENT), strict=True):
        bars = ax.barh(rows, shares, color=colour, height=0.62)
        ax.bar_label(bars, fmt="%.1f", fontsize=8, padding=3)
        ax.set(title=title, xlim=(0, 112), ylim=(-0.6, len(names) - 0.4))
        ax.set_xticks(range(0, 101, 20))
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
        ax.set_yticks(rows, [f"{name}  ({parts[name].n:,})" for name in names], fontsize=8)
    axes[1].set_yticklabels([])
    for row, name in zip(rows, names, strict=True):
        chance = parts[name].chance
        if chance is not None:
            axes[0].plot([100 * chance] * 2, [row - 0.42, row + 0.42], color=INK, linewidth=1.2)
    return figure


@styled
def answer_bars(audit: Audited) -> "Figure":
    """How often each letter is right, and the texts that are right most often, in train and test."""
    sets = {"train": (BASE, audit.options["train"]), "test": (OTHER, audit.options["test"])}
    letters = sorted({letter for _, options in sets.values() for letter in options.gold_letters})
    figure, (left, right) = new_figure(2, width=4.2, height=3.0)
    for offset, (name, (colour, options)) in zip((-0.2, 0.2), sets.items(), strict=True):
        counts = options.gold_letters
        shares = [100 * counts.get(letter, 0) / max(sum(counts.values()), 1) for letter in letters]
        left.bar(np.arange(len(letters)) + offset, shares, width=0.38, color=colour, label=name)
    left.set_xticks(range(len(letters)), letters)
    left.set_title("Right letter (%)", pad=22)
    legend_above(left)
    top = audit.options["test"].gold_texts.top
    texts = list(reversed(top))
    total = max(sum(audit.options["test"].gold_letters.values()), 1)
    right.barh(range(len(texts)), [100 * top[text] / total for text in texts], color=OTHER, height=0.62)
    right.set_yticks(range(len(texts)), [_short(text) for text in texts], fontsize=8)
    right.set_title("Commonest right texts in test (%)", pad=22)
    right.grid(visible=True, axis="x")
    right.grid(visible=False, axis="y")
    return figure


def _short(text: str, length: int = 32) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
