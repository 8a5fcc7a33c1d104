"""The page of an audit: verdicts first, then what they rest on."""

from collections.abc import Mapping, Sequence
from typing import Any

from medr1.report.audit_plots import MAX_PARTS, RULES, answer_bars, blind_bars, curve, part_bars, shown_axes
from medr1.report.html import Fact, FigureItem, Finding, Report
from medr1.report.plots import to_svg
from medr1.report.tables import NONE, Table, percent

Audit = Mapping[str, Any]

AXIS_NAMES = {"by_modality": "modality", "by_task": "task", "by_source": "source"}

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


def audit_report(audit: Audit, manifest: Mapping[str, Any] | None = None) -> Report:
    """Everything that the page of an audit shows, from the values of `audit.json`."""
    return Report(
        title=f"Audit: {audit['test']} against {audit['train']}",
        intro=_what(audit),
        findings=[finding(line) for line in audit["verdicts"]],
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


def audit_tables(audit: Audit) -> list[Table]:
    """Every table of the page."""
    tables = [overview(audit), _shared(audit), _slices(audit), _near(audit)]
    tables += [_parts(audit, axis) for axis in shown_axes(audit)]
    tables += [_one_sided(audit), _faults(audit), _formats(audit)]
    return [table for table in tables if table.rows]


def overview(audit: Audit) -> Table:
    """The figures that a split is judged by, in percent: also what the terminal shows."""
    near = audit["near_duplicates"]
    rows = [
        ("image is in train", percent(audit["image_leakage"]["share"])),
        ("near-duplicate image in train", NONE if near is None else percent(near["rate"])),
        ("the same, expected of unrelated images", NONE if near is None else percent(near["expected_rate"])),
        ("question and options are in train", percent(audit["question_repeats"]["share"])),
        ("chance", percent(audit["chance"])),
        *((f"{name}, no image", percent(audit["blind"][rule])) for rule, name in RULES.items()),
    ]
    note = (
        f"{audit['n_test']:,} test questions, {audit['n_train']:,} in train; rules are fitted on train only, "
        "but for the majority letter."
    )
    return Table(title=f"Audit of {audit['test']}", columns=("", "% of test"), rows=rows, note=note)


def _what(audit: Audit) -> str:
    return (
        f"{audit['n_test']:,} test questions were compared with {audit['n_train']:,} training questions, and answered "
        "without looking at any image. ✗ must be mended before an accuracy means anything, ! must be reported with it, "
        "– could not be checked."
    )


def _headline(audit: Audit) -> list[Fact]:
    leak, near, blind = audit["image_leakage"], audit["near_duplicates"], audit["blind"]
    chance = f"chance is {percent(audit['chance'])} %"
    facts = [
        Fact(label="Test images in train", value=f"{percent(leak['share'])} %", note=f"{leak['records']:,} questions"),
        Fact(label="Text prior, no image", value=f"{percent(blind['text_prior'])} %", note=chance),
        Fact(label="Linear text model, no image", value=f"{percent(blind['linear_text'])} %", note=chance),
        Fact(
            label="Questions word for word in train",
            value=f"{percent(audit['question_repeats']['share'])} %",
            note=f"{audit['question_repeats']['records']:,} with the same options",
        ),
    ]
    if near is not None:
        note = f"unrelated images: {percent(near['expected_rate'])} %"
        facts.insert(1, Fact(label="Near-duplicates in train", value=f"{percent(near['rate'])} %", note=note))
    return facts


def _figures(audit: Audit) -> list[FigureItem]:
    figures = [
        FigureItem(
            title="Answering without the image",
            caption="Rules fitted on train only. Orange: more than 3 points above chance.",
            image=to_svg(blind_bars(audit)),
        )
    ]
    if audit["learning_curve"]:
        figures.append(
            FigureItem(
                title="How few questions teach the answers",
                caption="A counter of right option texts, fitted on random training questions; band: ± 1 std.",
                image=to_svg(curve(audit)),
            )
        )
    figures += [
        FigureItem(
            title=f"By {AXIS_NAMES[axis]}",
            caption=f"Number of test questions in brackets; the dark stroke is chance; the {MAX_PARTS} largest.",
            image=to_svg(part_bars(audit, axis)),
        )
        for axis in shown_axes(audit)
    ]
    answers = FigureItem(
        title="What is right",
        caption="An even spread of letters says little: look at how few texts are ever right.",
        image=to_svg(answer_bars(audit)),
    )
    return [*figures, answers]


def _shared(audit: Audit) -> Table:
    rows = [(what, f"{audit[name]['records']:,}", percent(audit[name]["share"])) for name, what in LEVELS.items()]
    compared = audit["images_compared"]
    found = ", ".join(f"{count:,} questions by {basis}" for basis, count in compared["found_by"].items() if count)
    note = (
        f"{audit['shared_images']:,} distinct images are in both{f' ({found})' if found else ''}; images were compared "
        f"by {compared['basis'] or 'nothing: one of the two has none'}."
    )
    return Table(title="What test shares with train", columns=("test questions", "n", "%"), rows=rows, note=note)


def _slices(audit: Audit) -> Table:
    found = audit["slice_neighbours"] or {}
    rows = [(f"within {gap}", f"{value['images']:,}", percent(value["share"])) for gap, value in found.items()]
    note = "Distinct test images, not themselves in train, with a training slice of the same folder and prefix so near."
    return Table(title="Neighbouring slices", columns=("slice numbers", "images", "%"), rows=rows, note=note)


def _near(audit: Audit) -> Table:
    near = audit["near_duplicates"]
    levels: Sequence[Mapping[str, Any]] = [] if near is None else near["by_threshold"]
    rows = [(f"≤ {item['threshold']}", percent(item["rate"]), percent(item["expected_rate"])) for item in levels]
    note = "" if near is None else f"Unrelated pairs: same modality, {near['unrelated']}."
    columns = ("bits of 64 that differ", "% of test images", "% expected of unrelated images")
    return Table(title="Near-duplicates in train", columns=columns, rows=rows, note=note)


def _parts(audit: Audit, axis: str) -> Table:
    rows = [
        (
            name,
            f"{part['n']:,}",
            percent(part["image_leakage"]["share"]),
            percent(part["question_repeats"]["share"]),
            percent(part["chance"]),
            *(percent(part["blind"][rule]) for rule in RULES),
        )
        for name, part in audit[axis].items()
    ]
    columns = ("", "n", "image in train", "question in train", "chance", *RULES.values())
    return Table(title=f"By {AXIS_NAMES[axis]} (%)", columns=columns, rows=rows)


def _one_sided(audit: Audit) -> Table:
    rows = [
        (" / ".join(item["options"])[:100], f"{item['n']:,}", item["answer"][:40], percent(item["share"]))
        for item in audit["options"]["test"]["one_sided"]
    ]
    return Table(title="One-sided option sets in test", columns=("options", "n", "usual answer", "%"), rows=rows)


def _faults(audit: Audit) -> Table:
    rows = [
        (what, *(f"{audit['options'][part]['faults'][name]:,}" for part in ("train", "test")))
        for name, what in FAULTS.items()
    ]
    return Table(title="Faults of the options (questions)", columns=("", "train", "test"), rows=rows)


def _formats(audit: Audit) -> Table:
    test = audit["options"]["test"]["format_giveaways"]
    texts = audit["options"]["test"]["gold_texts"]
    rows = [
        ("start in lower case (%)", percent(test["gold_lower_case"]), percent(test["distractor_lower_case"])),
        ("end with a full stop (%)", percent(test["gold_full_stop"]), percent(test["distractor_full_stop"])),
        ("mean length", f"{test['gold_mean_length']:.1f}", f"{test['distractor_mean_length']:.1f}"),
        ("distinct texts", f"{texts['distinct']:,}", f"{texts['distinct_distractors']:,}"),
    ]
    note = (
        f"The format rule decides {percent(test['coverage'])} % of the questions and is right in "
        f"{percent(test['hit_rate'])} % of those; {percent(texts['distractors_never_right'])} % of the wrong options "
        "are texts that are never right."
    )
    return Table(
        title="How right and wrong options are written (test)", columns=("", "right", "wrong"), rows=rows, note=note
    )
