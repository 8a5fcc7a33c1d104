"""Tables of what is said of stored answers: by a judge beside the rules, and by their thinking."""

from medr1.report.tables import NONE, Table, estimated, percent
from medr1.results.answered import JudgeScores, Reasoning


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
