"""The demo's report and closing table, from its results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medr1.data.images import open_image, png_bytes
from medr1.diagnosis import LogLine
from medr1.eval.compare import compare, thinking_of
from medr1.eval.measures import is_right
from medr1.records import read_json, read_jsonl
from medr1.report import plots
from medr1.report.html import Fact, FigureItem, Finding, GalleryItem, Report, write_report
from medr1.report.tables import Table, all_tables, comparison, estimated, percent, warnings
from medr1.results.compared import DemoGain, DemoSummary
from medr1.results.evaluated import Results
from medr1.types import Estimate, Prediction, Sample

GALLERY_RIGHT, GALLERY_WRONG = 10, 6
LABELS = ("warm start", "after GRPO")

INTRO = (
    "A real Qwen2.5-VL with about a million parameters answered multiple-choice questions about procedurally drawn "
    "medical images. It started from the warm start that the package ships, which knows the answer format and half of "
    "the way, and learned the rest by GRPO from two rewards: the right letter and the right format. Beside it stands "
    "its blind twin: the same recipe, trained on grey images. Every accuracy is on test images with a shifted range of "
    "nuisances, on which no setting was chosen."
)


def demo_table(summary: DemoSummary) -> Table:
    """The table that ends the demo."""
    rows = [("chance", percent(summary.chance), "")]
    rows.append(("colour statistics", estimated(summary.colour_baseline), ""))
    rows.append(("warm start", estimated(summary.warm_start), ""))
    for name, scores in summary.seeds.items():
        rows.append((name, *_with_gain(scores)))
        rows.append(("    with a blank image", percent(scores.blank_accuracy), ""))
        rows.append(("    with a swapped image", percent(scores.swapped_accuracy), ""))
    rows.append(("blind twin", *_with_gain(summary.blind_twin)))
    if summary.shuffled_images is not None:
        rows.append(("trained on shuffled images", *_with_gain(summary.shuffled_images)))
    note = (
        f"n = {summary.n_test}; exact McNemar p against the warm start {summary.mcnemar_p:.1e}; "
        f"{summary.seconds['total']:.0f} seconds."
    )
    columns = ("", "accuracy [95 %]", "gain, points [95 %]")
    return Table(title="Demo", columns=columns, rows=rows, note=note)


def _with_gain(scores: DemoGain) -> tuple[str, str]:
    return estimated(scores.accuracy), estimated(scores.gain.change)


def write_demo_report(
    path: Path,
    folder: Path,
    summary: DemoSummary,
    results: Mapping[str, Results],
    predictions: Callable[[str], list[Prediction]],
    log: Path,
    test: Sequence[Sample],
) -> None:
    """Write `report.html` of the demo.

    Args:
        path: of the page.
        folder: of the demo.
        results: of every evaluation, by name.
        predictions: gives those of an evaluation.
        log: `train_log.jsonl` of the main training.
    """
    answers = predictions("grpo")
    tables = [
        demo_table(summary),
        comparison(compare(predictions("warm_start"), answers), LABELS),
        *all_tables(results["grpo"])[1:],
    ]
    manifest = {
        "training": read_json(log.parent / "manifest.json"),
        "evaluation": read_json(folder / "eval" / "grpo" / "manifest.json"),
        "seconds": summary.seconds,
    }
    write_report(
        path,
        Report(
            title="medr1 demo: a tiny model learns to look",
            intro=INTRO,
            findings=[Finding(level="fail", text=line) for line in warnings(results["grpo"].void)],
            headline=_headline(summary),
            figures=_figures(summary, results, read_jsonl(log)),
            tables=tables,
            gallery=_gallery(answers, test),
            manifest=manifest,
        ),
    )


def _figures(summary: DemoSummary, results: Mapping[str, Results], log: Sequence[LogLine]) -> list[FigureItem]:
    """The plots, each with what to read from it."""
    warm, main = results["warm_start"], results["grpo"]
    figures = {
        "Training": (
            plots.training_curves(log),
            "Rewards and completion length of the sampled training completions. Thin: every step; thick: running mean.",
        ),
        "Before and after": (
            plots.before_after(warm, main, by_task=True, labels=LABELS),
            "Greedy accuracy on the test images by task. Whiskers: 95 % intervals; dashes: chance.",
        ),
        "Does it look?": (
            plots.control_bars({"after GRPO": main, "blind twin": results["blind_twin"]}),
            "With a blank image an honest model falls to chance; with the image of another question it answers what "
            "that image shows.",
        ),
        "Where the gain came from": (
            plots.decomposition_bars(summary.decomposition, LABELS),
            "A right answer needs a readable format, the right finding in the thinking, and the letter that belongs "
            "to it.",
        ),
        "Modality by task": (
            plots.heat_map(main.by_modality_and_task),
            "Accuracy after GRPO; cells with few questions are grey.",
        ),
    }
    return [
        FigureItem(title=title, caption=caption, image=plots.to_svg(figure))
        for title, (figure, caption) in figures.items()
    ]


def _headline(summary: DemoSummary) -> list[Fact]:
    gain, before = summary.gain.change, percent(summary.warm_start.value)
    return [
        Fact(
            label="accuracy",
            value=f"{percent(summary.grpo.value)} %",
            note=f"95 % interval {_interval(summary.grpo)}; warm start {before} %",
        ),
        Fact(
            label="gain by GRPO",
            value=f"{100 * gain.value:+.1f} points",
            note=f"95 % interval {_interval(gain)}; exact McNemar p = {summary.mcnemar_p:.1e}",
        ),
        Fact(
            label="with a blank image",
            value=f"{percent(summary.blank_accuracy)} %",
            note=f"chance is {percent(summary.chance)} %",
        ),
        Fact(
            label="with a swapped image",
            value=f"{percent(summary.swapped_accuracy)} %",
            note="on the original answer: it answers the image that it is given",
        ),
        Fact(
            label="blind twin",
            value=f"{percent(summary.blind_twin.accuracy.value)} %",
            note="the same recipe, trained on grey images",
        ),
        Fact(
            label="colour statistics",
            value=f"{percent(summary.colour_baseline.value)} %",
            note="a guesser that sees 18 colour numbers and no shape",
        ),
    ]


def _interval(found: Estimate) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _gallery(answers: Sequence[Prediction], test: Sequence[Sample]) -> list[GalleryItem]:
    """The first right and wrong answers, in the order of the test set, one question kind after another."""
    samples = {sample.id: sample for sample in test}
    right = _spread([a for a in answers if is_right(a)], samples, GALLERY_RIGHT)
    wrong = _spread([a for a in answers if not is_right(a)], samples, GALLERY_WRONG)
    return [
        GalleryItem(
            image=png_bytes(open_image(samples[answer.id].images[0])),
            question=samples[answer.id].question,
            options=answer.options,
            thinking=thinking_of(answer.completion),
            answer=answer.answer,
            gold=answer.gold or "",
            right=is_right(answer),
            note=f"{answer.modality} · {answer.task}",
        )
        for answer in right + wrong
    ]


def _spread(answers: Sequence[Prediction], samples: Mapping[str, Sample], count: int) -> list[Prediction]:
    """`count` answers that take turns among modalities, without choosing by what was answered."""
    turns: dict[str, list[Prediction]] = {}
    for answer in answers:
        turns.setdefault(samples[answer.id].modality, []).append(answer)
    rounds = [queue[k] for k in range(count) for queue in turns.values() if k < len(queue)]
    return rounds[:count]
