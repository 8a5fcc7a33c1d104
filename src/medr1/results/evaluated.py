"""What is measured on the answers of one run: `results.json`, and a line of `reliance.jsonl`."""

from typing import Annotated

from medr1.results import (
    ABSENT,
    Accuracy,
    CountedShare,
    FullAccuracy,
    FullValue,
    Record,
    Scored,
    Share,
    Written,
)
from medr1.types import Estimate


class Void(Record):
    """A number that cannot mean anything, by its place in the results, and why."""

    what: str
    why: str


class Overlap(Record):
    """Test questions that the training data have: wholly, and by a picture."""

    questions: int
    pictures: int


class Part(Scored):
    """The accuracy of a part of the questions beside its chance."""

    chance: float | None


class ModalityTask(Part):
    """Of one task in one modality."""

    modality: str
    task: str


class Subgroup(Record):
    """Of one task in one modality of one source, by the number of options; no accuracy where it is small."""

    modality: str
    task: str
    source: str
    num_options: int
    n: int
    n_groups: int
    ci_method: str
    chance: float | None
    accuracy: Annotated[Estimate | None, Written("accuracy", n="n", groups="n_groups", method="ci_method", merged=True)]


class Blind(Record):
    """Accuracies that are reached without looking; None where that was not asked."""

    text_prior: float | None
    format_rule: float | None
    longest_option: float | None
    blank_image: float | None
    swapped_image: float | None


class BlindSplit(Record):
    """Accuracy on what can be answered without looking, and on the rest; see `medr1.eval.scoring.score_by_blind`."""

    answerable: Part | None
    not_answerable: Part | None
    by: list[str]
    not_checked: int
    reason: str | None


class Intervention(Record):
    """Answers after another thinking, beside those before."""

    n: int
    unreadable: int
    accuracy: Annotated[float | None, ABSENT] = None
    original_accuracy: Annotated[float | None, ABSENT] = None
    changed: Annotated[Share | None, ABSENT] = None
    follows: Annotated[Share | None, ABSENT] = None


class ConfidenceChange(Record):
    """Mean probability of the right letter before and after a change."""

    n: int
    before: float
    after: float
    difference: Annotated[Estimate, Written("difference", n="n", groups="n_groups", method="ci_method", merged=True)]


class Control(Record):
    """Answers to a control, beside the original ones to the same questions."""

    n: int
    dropped: int
    failed: int
    accuracy: Annotated[
        Estimate | None, Written("accuracy", n="n", groups="n_groups", method="ci_method", merged=True), ABSENT
    ] = None
    parse: Annotated[dict[str, int] | None, ABSENT] = None
    original: Annotated[Accuracy | None, ABSENT] = None
    difference: Annotated[FullValue | None, ABSENT] = None
    follows: Annotated[CountedShare | None, ABSENT] = None
    thinking: Annotated[Intervention | None, ABSENT] = None
    confidence: Annotated[ConfidenceChange | None, ABSENT] = None


class ProtocolScore(Record):
    """The completions under one published protocol; see `medr1.eval.measures`. Of open questions only the accuracy."""

    n: Annotated[int | None, ABSENT] = None
    accuracy: Annotated[Estimate, Written("accuracy", merged=True)]
    unreadable: Annotated[float | None, ABSENT] = None
    refused: Annotated[float | None, ABSENT] = None
    refused_but_read: Annotated[float | None, ABSENT] = None
    with_guesses: Annotated[float | None, ABSENT] = None


class Spread(Record):
    """Of a single draw's accuracy over the draws."""

    by_draw: list[float]
    min: float
    max: float
    sd: float | None


class Sampling(Record):
    """Several draws of every question; see `medr1.eval.scoring`."""

    num_draws: int
    n_questions: int
    mean: Annotated[Estimate, Written("accuracy", n="n", groups="n_groups", method="ci_method")]
    spread: Spread
    majority: FullAccuracy
    pass_at_k: dict[str, Annotated[Estimate | None, Written("share", n="n", groups="n_groups", method="ci_method")]]


class Calibration(Record):
    """Confidence against accuracy."""

    mean_confidence: float
    overconfidence: float
    ece: float
    brier: float
    log_loss: Annotated[float | None, ABSENT] = None


class Scaled(Calibration):
    """After the logits were divided by temperatures fitted on other questions."""

    temperatures: list[float]


class Confidence(Calibration):
    """Calibration and selective answering by one kind of confidence."""

    n: int
    left_out: int
    accuracy: float
    aurc: float
    accuracy_at_80_percent: float
    risk_coverage: list[tuple[float, float]]


class OptionConfidence(Confidence):
    """By the probabilities of the options."""

    temperature_scaled: Scaled | None


class Confidences(Record):
    """By both kinds; None for what is not there."""

    options: OptionConfidence | None
    votes: Confidence | None


class ChanceShare(Record):
    """A share beside what chance gives."""

    share: Annotated[Estimate, Written("share", merged=True)]
    chance: float


class ChanceAgreement(ChanceShare):
    """The same, with how many questions it is of."""

    n: int


class ControlChange(Record):
    """Answers that a control changed, of those readable in both."""

    n: int
    unreadable: int
    changed: Annotated[Share | None, ABSENT] = None


class Reliance(Record):
    """How far answers depend on their image; see `medr1.eval.reliance`."""

    n: int
    reliant: ChanceShare
    right_and_reliant: Share
    right_without_image: Share
    by_control: dict[str, ControlChange]
    quadrants: dict[str, Share] | None


class RelianceRow(Record):
    """One question: its answer, whether that is right, and what became of it under each control without evidence."""

    id: str
    draw: int
    group: str
    num_options: int
    answer: str | None
    right: bool
    controls: dict[str, str]
    """`same`, `changed` or `unreadable`."""
    reliant: bool | None
    """None where no verdict is possible."""
    quadrant: str | None


class Circular(Record):
    """Right under all rotations."""

    accuracy: Annotated[Estimate, Written("accuracy", merged=True)]
    chance: float


class LetterScore(Record):
    """How often a letter was chosen, how often choosing evenly would, and how often it was found where it is right."""

    chosen: float
    expected: float
    recall: float


class OptionOrder(Record):
    """What rotating the options does; see `medr1.eval.reliance`."""

    n: int
    circular: Circular
    mean_accuracy: float
    unreadable: int
    same_option: ChanceAgreement | None
    same_letter: ChanceAgreement | None
    letters: dict[str, LetterScore]
    recall_std: float


class Results(Scored):
    """`results.json`: accuracy beside all that it has to beat. What has a default here, older files may lack."""

    void: list[Void] | None = None
    failed: int
    chance: float | None
    majority_letter: float | None
    blind: Blind
    train_overlap: Overlap | None = None
    parse: dict[str, int]
    mean_tokens: float
    protocols: dict[str, ProtocolScore]
    by_modality: dict[str, Part]
    by_task: dict[str, Part]
    by_source: dict[str, Part]
    by_modality_and_task: list[ModalityTask]
    by_blind: BlindSplit | None = None
    by_num_options: dict[str, Part]
    subgroups: list[Subgroup]
    sampling: Sampling | None
    confidence: Confidences | None
    controls: dict[str, Control]
    image_reliance: Reliance | None
    option_order: OptionOrder | None
