"""Tables of results, judges and thinking: the same cells on the terminal (Rich) and in the HTML report.

No accuracy stands alone: its interval, chance, and what blind rules reach stand beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medr1.results.answered import JudgeScores, Reasoning
from medr1.results.compared import Comparison
from medr1.results.evaluated import Confidence, OptionConfidence, Part, ProtocolScore, Results, Sampling, Void
from medr1.types import Estimate

if TYPE_CHECKING:
    from rich.console import RenderableType

NONE = "–"
FURTHER_CONTROLS = {
    "noise": "noise image",
    "no_image": "no image",
    "low_resolution": "image at an eighth of its resolution",
    "shuffled": "image of another question",
    "other_modality": "image of another modality",
    "none_of_the_above": "none of the above in place of the right option",
}
"""Labels of the controls that stand beside the accuracy where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text cells under column names; the first column names the row, the others hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    warnings: Sequence[str] = ()
    """What stands above it: figures of it that cannot mean anything."""


def percent(value: float | None) -> str:
    """A share as percent with one decimal.

    >>> percent(0.7104), percent(None)
    ('71.0', '–')
    """
    return NONE if value is None else f"{100 * value:.1f}"


def estimated(found: Estimate | None) -> str:
    """An estimate in percent with its 95 % interval.

    >>> estimated(Estimate(value=0.5, low=0.401, high=0.599, n=96, groups=96, method="wilson")), estimated(None)
    ('50.0 [40.1, 59.9]', '–')
    """
    return NONE if found is None else f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"


def overview(results: Results, title: str = "Results") -> Table:
    """Accuracy beside everything that it has to beat, in percent."""
    blind = results.blind
    unreadable = 1 - results.parse.get("ok", 0) / results.n
    rows = [
        ("accuracy [95 % interval]", estimated(results.accuracy)),
        ("chance", percent(results.chance)),
        ("majority letter", percent(results.majority_letter)),
        ("format rule, no image", percent(blind.format_rule)),
        ("longest option, no image", percent(blind.longest_option)),
        ("text prior, no image", percent(blind.text_prior)),
        ("blank image", percent(blind.blank_image)),
        ("swapped image", percent(blind.swapped_image)),
        *(
            (label, percent(_value(results.controls[name].accuracy)))
            for name, label in FURTHER_CONTROLS.items()
            if name in results.controls
        ),
        *_blind_rows(results),
        *_reliance_rows(results),
        ("unreadable answers", percent(unreadable)),
    ]
    note = (
        f"{results.n:,} answers, {results.failed:,} failed generations; "
        f"interval: {results.accuracy.method}, {results.accuracy.groups:,} groups."
    )
    return Table(title=title, columns=("", "%"), rows=rows, note=note, warnings=warnings(results.void))


def warnings(found: Sequence[Void] | None) -> list[str]:
    """Figures of results that cannot mean anything, a line each."""
    return [f"void: {item.what}: {item.why}." for item in found or ()]


def by_blind(results: Results, title: str = "By what is answered without looking") -> Table:
    """Accuracy on the questions that a blank image or the text counter answers, and on the others, in percent."""
    found = results.by_blind
    names = ("answered without looking", "needs the picture, as far as these tell")
    rows = [
        (label, f"{part.n:,}", estimated(part.accuracy), percent(part.chance))
        for label, part in zip(names, (found.answerable, found.not_answerable) if found else (), strict=False)
        if part
    ]
    asked = {"blank_image": "the model on a blank image", "text_prior": "the text prior"}
    note = f"Without looking: {' or '.join(asked[name] for name in found.by) if found else ''} is right."
    if found and found.not_checked:
        note += f" Not checked: {found.not_checked:,} answers."
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows, note=note)


def _blind_rows(results: Results) -> list[tuple[str, str]]:
    """Accuracy on the questions that can be answered without looking, and on the others."""
    found = results.by_blind
    rows = []
    if found and found.answerable:
        rows.append((f"on {found.answerable.n:,} answered without looking", estimated(found.answerable.accuracy)))
    if found and found.not_answerable:
        rows.append((f"on the {found.not_answerable.n:,} others", estimated(found.not_answerable.accuracy)))
    return rows


def _reliance_rows(results: Results) -> list[tuple[str, str]]:
    """What the controls say about single questions, where there were any."""
    rows = []
    if reliance := results.image_reliance:
        rows.append(("answers that change without the image", estimated(reliance.reliant.share)))
        rows.append(("right, whatever image is shown", estimated(reliance.right_without_image)))
    if order := results.option_order:
        rows.append(("right under every rotation of the options", estimated(order.circular.accuracy)))
        rows.append(
            ("same option under every rotation", estimated(order.same_option.share if order.same_option else None))
        )
    return rows


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value


def comparison(compared: Comparison, labels: Sequence[str] = ("before", "after")) -> Table:
    """Two runs on the same samples (what `medr1.eval.compare.compare` returns), in percent, with the paired test."""
    rows = [
        (labels[0], estimated(compared.base)),
        (labels[1], estimated(compared.other)),
        ("difference (points)", estimated(compared.difference.change)),
        ("wrong → right", f"{compared.flips.wrong_to_right:,}"),
        ("right → wrong", f"{compared.flips.right_to_wrong:,}"),
        ("exact McNemar p", f"{compared.mcnemar_p:.2g}"),
    ]
    note = f"{compared.n:,} answers that both runs gave."
    return Table(title="Paired comparison", columns=("", "accuracy [95 % interval]"), rows=rows, note=note)


def parts(found: Mapping[str, Part], title: str) -> Table:
    """Accuracy by modality, task or source, in percent."""
    rows = [(name, f"{part.n:,}", estimated(part.accuracy), percent(part.chance)) for name, part in found.items()]
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows)


def controls(results: Results, title: str = "Controls") -> Table:
    """What is left when the image is taken away, on the same samples, in percent."""
    rows = [
        (
            name,
            f"{scores.n:,}",
            f"{scores.dropped:,}",
            *map(estimated, (scores.original, scores.accuracy, scores.difference, scores.follows)),
        )
        for name, scores in results.controls.items()
    ]
    columns = ("", "n", "without variant", "original image", "control", "change", "answers the shown image")
    return Table(title=title, columns=columns, rows=rows)


def reading(results: Results, title: str = "How the answers could be read") -> Table:
    """Completions by parse status."""
    rows = [
        (status.replace("_", " "), f"{count:,}", percent(count / results.n)) for status, count in results.parse.items()
    ]
    return Table(title=title, columns=("", "n", "%"), rows=rows)


def protocols(
    scored: Mapping[str, ProtocolScore], title: str = "The same completions under every published protocol"
) -> Table:
    """Accuracy by protocol, in percent, and what each could not read, where any protocol tells that."""
    shares = ("unreadable", "refused", "refusals read", "with guesses")
    found = {
        name: (scores.unreadable, scores.refused, scores.refused_but_read, scores.with_guesses)
        for name, scores in scored.items()
    }
    shown = [n for n in range(len(shares)) if any(values[n] is not None for values in found.values())]
    rows = [
        (name, estimated(scores.accuracy), *(percent(found[name][n]) for n in shown)) for name, scores in scored.items()
    ]
    return Table(title=title, columns=("", "accuracy [95 % interval]", *(shares[n] for n in shown)), rows=rows)


def subgroups(results: Results, title: str = "Modality × task × source × options") -> Table:
    """Accuracy of every combination, where there is more than one; small ones are counted only."""
    found = results.subgroups
    rows = [
        (
            " · ".join((scores.modality, scores.task, scores.source, f"{scores.num_options} options")),
            f"{scores.n:,}",
            estimated(scores.accuracy),
            percent(scores.chance),
        )
        for scores in (found if len(found) > 1 else ())
    ]
    note = "No accuracy where there are too few independent questions."
    return Table(title=title, columns=("", "n", "accuracy [95 % interval]", "chance"), rows=rows, note=note)


def sampling(drawn: Sampling, title: str = "Several draws of every question") -> Table:
    """Mean, spread, majority vote and pass@k of a run with several draws, in percent."""
    rows = [
        ("one draw, mean", estimated(drawn.mean)),
        ("one draw, least and most", f"{percent(drawn.spread.min)} to {percent(drawn.spread.max)}"),
        ("majority vote", estimated(drawn.majority)),
        *((f"pass@{k}", estimated(found)) for k, found in drawn.pass_at_k.items()),
    ]
    note = f"{drawn.num_draws} draws of {drawn.n_questions:,} questions; sd over draws: {percent(drawn.spread.sd)}."
    return Table(title=title, columns=("", "accuracy [95 % interval]"), rows=rows, note=note)


def confidence(found: Confidence) -> Table:
    """Calibration and selective answering; shares in percent."""
    scaled = found.temperature_scaled if isinstance(found, OptionConfidence) else None
    rows = [
        ("accuracy, all answers", percent(found.accuracy)),
        ("accuracy, most confident 80 %", percent(found.accuracy_at_80_percent)),
        ("mean confidence", percent(found.mean_confidence)),
        ("expected calibration error", percent(found.ece)),
        *([("the same, temperature scaled", percent(scaled.ece))] if scaled else []),
        ("Brier score (0 to 2)", f"{found.brier:.3f}"),
        ("area under risk-coverage", f"{found.aurc:.3f}"),
    ]
    note = f"{found.n:,} answers, {found.left_out:,} without a confidence."
    source = "option probabilities" if isinstance(found, OptionConfidence) else "votes of the draws"
    return Table(title=f"Confidence by {source}", columns=("", "value"), rows=rows, note=note)


def all_tables(results: Results) -> list[Table]:
    """Every table that the results have rows for."""
    sure = results.confidence
    tables = [
        overview(results),
        parts(results.by_modality, "By modality"),
        parts(results.by_task, "By task"),
        parts(results.by_source, "By source"),
        parts(results.by_num_options, "By number of options"),
        by_blind(results),
        subgroups(results),
        *([sampling(results.sampling)] if results.sampling else []),
        *(confidence(found) for found in ((sure.options, sure.votes) if sure else ()) if found),
        controls(results),
        reading(results),
        protocols(results.protocols),
    ]
    return [table for table in tables if table.rows]


def rich_table(table: Table) -> "RenderableType":
    """The table for the terminal, its warnings above it; brackets in names are text, not markup.

    Columns that do not stand side by side without breaking a word go on below, each time behind the names of the rows.
    """
    from rich.console import Console, Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = [Text(line, style="bold red") for line in table.warnings]
    blocks = column_blocks([table.columns, *table.rows], Console().width)
    for number, block in enumerate(blocks):
        rich = RichTable(
            title=Text(table.title) if number == 0 and table.title else None,
            caption=Text(table.note) if number == len(blocks) - 1 and table.note else None,
            title_justify="left",
        )
        for position, width in block.items():
            name, side = Text(table.columns[position]), "right" if position else "left"
            rich.add_column(name, justify=side, overflow="fold", width=width)
        for row in table.rows:
            rich.add_row(*(Text(row[position]) for position in block))
        parts.append(rich)
    return Group(*parts)


def column_blocks(rows: Sequence[Sequence[str]], width: int) -> list[dict[int, int]]:
    """Columns that fit beside the first one without breaking a word, with their widths, block after block.

    >>> column_blocks([["name", "accuracy", "chance"], ["a", "50.0", "25.0"]], 24)
    [{0: 4, 1: 8}, {0: 4, 2: 6}]
    """
    columns = range(len(rows[0]))
    least = [max(len(word) for row in rows for word in [*row[column].split(), ""]) for column in columns]
    blocks: list[dict[int, int]] = [{0: least[0]}]
    for column in columns[1:]:
        if len(blocks[-1]) > 1 and _drawn([*blocks[-1].values(), least[column]]) > width:
            blocks.append({0: least[0]})
        blocks[-1][column] = least[column]
    for block in blocks:
        for column in block:  # what is left goes to those that would fold, from the left
            whole = max(len(row[column]) for row in rows)
            block[column] += max(0, min(whole - least[column], width - _drawn(block.values())))
    return blocks


def _drawn(widths: Iterable[int]) -> int:
    """Width of a table with its borders."""
    return 1 + sum(width + 3 for width in widths)


def judge_tables(scores: JudgeScores) -> list[Table]:
    """Verdicts, and the agreement with the rules where there is any."""
    return [_verdicts(scores), *([_agreement(scores)] if scores.agreement else [])]


def reasoning_tables(result: Reasoning, title: str) -> list[Table]:
    """Thinking against answers and records, and answers after another thinking; those that have rows."""
    every = (_consistency(result, title), _record(result), _interventions(result))
    return [table for table in every if table.rows]


def _verdicts(scores: JudgeScores) -> Table:
    rows = [
        (
            f"{name} questions",
            f"{part.n:,}",
            estimated(part.accuracy),
            percent(part.unparsable / part.n),
            f"{part.failed:,}",
        )
        for name, part in (("closed", scores.closed), ("open", scores.open))
        if part is not None
    ]
    columns = ("", "n", "right [95 % interval]", "unparsable", "failed requests")
    note = "Right: of the answers with a verdict. Unparsable verdicts are neither right nor wrong."
    return Table(title=f"Judged by {scores.engine['model']}, %", columns=columns, rows=rows, note=note)


def _agreement(scores: JudgeScores) -> Table:
    rows = [
        (name, f"{found.n:,}", estimated(found.agreement), NONE if found.kappa is None else f"{found.kappa:.2f}")
        for name, found in scores.agreement.items()
    ]
    note = "Where the judge has a verdict and the rule can read the answer. No kappa where both always say the same."
    columns = ("", "n", "same verdict, % [95 % interval]", "Cohen's kappa")
    return Table(title="The judge beside the rules", columns=columns, rows=rows, note=note)


def _consistency(result: Reasoning, title: str) -> Table:
    found = result.consistency
    parts = [] if found is None else [found.consistent, found.inconsistent, found.no_conclusion]
    rows = [
        (name, f"{part.n:,}", estimated(part.share), percent(part.accuracy))
        for name, part in zip(("consistent", "inconsistent", "no conclusion"), parts, strict=False)
    ]
    words = result.words.all
    note = f"{result.n:,} answers with thinking, {result.without_thinking:,} without"
    if words is not None:
        note += f"; words: median {words.median:.0f}, 90 % from {words.q05:.0f} to {words.q95:.0f}"
    columns = ("answer and thinking", "n", "share [95 % interval]", "accuracy")
    return Table(title=f"Thinking of {title}", columns=columns, rows=rows, note=f"{note}.")


def _record(result: Reasoning) -> Table:
    found = result.contradictions
    rows = [
        (name, f"{part.n:,}", f"{part.named:,}", estimated(part.contradicting))
        for name, part in (("modality", found.modality), ("anatomy", found.anatomy))
        if part is not None
    ]
    columns = ("", "record knows it", "named", "contradicting, % [95 % interval]")
    return Table(title="Thinking against the record", columns=columns, rows=rows)


def _interventions(result: Reasoning) -> Table:
    rows = [
        (
            name,
            f"{part.n:,}",
            f"{part.unreadable:,}",
            estimated(part.changed),
            estimated(part.follows),
            percent(part.original_accuracy),
            percent(part.accuracy),
        )
        for name, part in result.interventions.items()
    ]
    columns = ("thinking", "n", "unreadable", "changed, %", "as planted, %", "accuracy", "after")
    note = "Changed: another option than before. As planted: the option that the changed thinking concludes."
    return Table(title="Answers after changed thinking", columns=columns, rows=rows, note=note)
