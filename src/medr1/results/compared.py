"""What is measured on pairs of runs: `compare.json`, `corruptions.json`, and the demo's `summary.json`."""

from typing import Annotated

from pydantic import JsonValue

from medr1.results import Accuracy, CountedShare, FullAccuracy, FullValue, Interval, Record, Scored, Value, Written
from medr1.results.evaluated import Part, Void
from medr1.types import Estimate


class Difference(Record):
    """A change of accuracy, with the interval by bootstrap beside it."""

    change: Annotated[Estimate, Written("value", n="n", method="ci_method", merged=True)]
    bootstrap_ci95: Interval


class TestedDifference(Difference):
    """The same, with its p-value, and that adjusted for the family of tests."""

    p: float
    p_holm: float


class Turns(Record):
    """How many answers went from wrong to right, and the other way."""

    wrong_to_right: int
    right_to_wrong: int


class Paired(Record):
    """Two runs on what both answered; see `medr1.eval.compare.compare`."""

    n: int
    n_groups: int
    difference: Difference
    p: float
    test: str
    mcnemar_p: float
    flips: Turns
    agreement: float
    detectable_difference: float | None
    only_in_base: int
    only_in_other: int


class Comparison(Paired):
    """With both accuracies."""

    base: Accuracy
    other: Accuracy


class NamedPair(Paired):
    """With the names of both runs."""

    base: str
    other: str
    p_holm: float


class StageShares(Record):
    """How many answers took each step to being right, of those that took the step before."""

    format: CountedShare | None
    finding: CountedShare | None
    letter: CountedShare | None


class StageParts(Record):
    """What each step brought."""

    format: float
    finding: float
    letter: float


class Steps(Record):
    """A gain in accuracy, split among the steps to a right answer."""

    gain: float
    parts: StageParts
    base: StageShares
    other: StageShares


class GainParts(Record):
    """What a gain came from."""

    format: Value
    lookup: Value
    seeing: Value


class Gain(Record):
    """A gain in accuracy, split by what can be reached without an image."""

    gain: float
    blind: str
    parts: GainParts


class RunScore(Scored):
    """One run of a comparison."""

    void: list[Void] | None = None
    unreadable: float
    prompt: str
    chance: float | None
    controls: dict[str, Scored]


class RankedRun(RunScore):
    """With the best and the worst rank that the data leave open."""

    rank: tuple[int, int]


class TwinLead(Record):
    """A run's lead over the blind twin."""

    difference: Difference
    p: float
    p_holm: float


class BlindTwin(RunScore):
    """The run trained on blank images, and what the others have beyond it."""

    name: str
    runs: dict[str, TwinLead]


class ComparedPart(Record):
    """A part of the questions; small ones are counted only."""

    n: int
    n_groups: int
    runs: dict[str, Scored]
    differences: dict[str, TestedDifference]


class Disputed(Record):
    """A question that some runs got right and others not."""

    id: str
    draw: int
    modality: str
    task: str
    gold: str | None
    answers: dict[str, str | None]


class Compared(Record):
    """`compare.json`."""

    n: int
    left_out: dict[str, int]
    differing_arguments: dict[str, dict[str, JsonValue]]
    runs: dict[str, RankedRun]
    pairs: list[NamedPair]
    blind_twin: BlindTwin | None
    gain: dict[str, Gain | None]
    steps: dict[str, Steps]
    by: dict[str, dict[str, ComparedPart]]
    flipped: list[Disputed]


class Shift(Record):
    """A measure of calibration on clean and on corrupted images."""

    clean: float
    corrupted: float
    shift: float


class CalibrationShift(Record):
    """Of the option probabilities."""

    ece: Shift
    overconfidence: Shift
    mean_confidence: Shift


class CorruptionMeans(Record):
    """Accuracy on clean and corrupted images; every corruption, and within it every severity, weighs alike."""

    n: int
    clean: FullAccuracy
    corrupted: FullAccuracy
    drop: Value
    relative_drop: Value | None
    flip_rate: CountedShare | None
    """Of changed options among the answers readable on both images."""


class Severity(Scored):
    """One corruption at one severity."""

    clean: Accuracy
    difference: FullValue
    relative_drop: float | None
    flip_rate: CountedShare | None
    unreadable: float
    calibration: CalibrationShift | None


class CorruptionScores(CorruptionMeans):
    """One corruption."""

    severities: dict[str, Severity]


class Corruptions(CorruptionMeans):
    """`corruptions.json`."""

    without_clean: int
    image_reliant: CorruptionMeans | None
    corruptions: dict[str, CorruptionScores]


class DemoScore(Record):
    """An accuracy of the demo."""

    accuracy: Annotated[Estimate, Written("accuracy", merged=True)]


class DemoGain(DemoScore):
    """With the gain over the warm start."""

    gain: Difference


class DemoSeed(DemoGain):
    """One seed of the reinforcement learning."""

    mcnemar_p: float
    blank_accuracy: float | None
    swapped_accuracy: float | None
    by_task: dict[str, Part]


class DemoSummary(Record):
    """`summary.json` of the demo."""

    n_test: int
    chance: float | None
    colour_baseline: Accuracy
    warm_start_checkpoint: str
    warm_start: Accuracy
    grpo: Accuracy
    gain: Difference
    mcnemar_p: float
    blank_accuracy: float | None
    swapped_accuracy: float | None
    follows_swapped_image: CountedShare | None
    blind_twin: DemoGain
    seeds: dict[str, DemoSeed]
    shuffled_images: DemoGain | None
    by_task: dict[str, dict[str, Part]]
    decomposition: Steps
    seconds: dict[str, float]
