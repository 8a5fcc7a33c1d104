"""What is said of answers: to one question (`ask.json`), and of stored ones (`rescore.json`, `reasoning.json`)."""

from typing import Annotated

from pydantic import ConfigDict

from medr1.results import ABSENT, Record, Share, Written
from medr1.results.evaluated import Intervention, ProtocolScore, Results
from medr1.types import Estimate, Receipt


class ReadingSpread(Record):
    """The protocols that give the same completions least and most."""

    lowest: str
    highest: str
    difference: float


class OpenScores(Record):
    """Open questions under every protocol for them."""

    n: int
    failed: int = 0
    protocols: dict[str, ProtocolScore]


class Judged(Record):
    """Verdicts on one kind of questions; the accuracy is of those with a verdict."""

    n: int
    decided: int
    accuracy: Annotated[Estimate | None, Written("accuracy", merged=True)]
    unparsable: int
    failed: int


class Agreement(Record):
    """Of a judge with a rule, where both come to a verdict."""

    n: int
    agreement: Annotated[Estimate, Written("agreement", merged=True)]
    kappa: float | None


class JudgeScores(Record):
    """What a judge says of closed and of open questions, and how far it agrees with the rules."""

    engine: dict[str, str]
    closed: Annotated[Judged | None, ABSENT] = None
    open: Annotated[Judged | None, ABSENT] = None
    agreement: dict[str, Agreement]


class RescoreArguments(Record):
    """What was asked for."""

    predictions: str
    data: str | None
    train_data: str | None
    limit: int | None


class RescoreManifest(Record):
    """What a rescoring went from; what else a manifest holds is kept."""

    model_config = ConfigDict(extra="allow")

    arguments: RescoreArguments
    seed: int
    scored_hash: str
    train_data_hash: str | None


class RescoredOpen(Record):
    """`rescore.json` where no question has a single right option."""

    stored_as: str
    failed_calls: Annotated[dict[str, int] | None, ABSENT] = None
    """What stood in place of completions, by its text."""
    receipts: Annotated[list[str] | None, ABSENT] = None
    """What speaks against the pictures that were shown."""
    open: Annotated[OpenScores | None, ABSENT] = None
    judge: Annotated[JudgeScores | None, ABSENT] = None
    manifest: Annotated[RescoreManifest | None, ABSENT] = None


class Rescored(Results, RescoredOpen):
    """`rescore.json`: the results of stored completions, and how far apart the protocols read them."""

    spread: ReadingSpread


class Conclusion(Record):
    """Answers that their thinking concludes, contradicts or leaves open."""

    n: int
    share: Annotated[Estimate, Written("share", merged=True)]
    accuracy: float | None


class Consistency(Record):
    """Whether readable answers follow from their thinking."""

    n: int
    unreadable: int
    consistent: Conclusion
    inconsistent: Conclusion
    no_conclusion: Conclusion


class Contradicting(Record):
    """Thinkings about another modality or anatomy than the record's."""

    n: int
    named: int
    contradicting: Share


class Contradictions(Record):
    """By what is contradicted; None where no record knows its own."""

    modality: Contradicting | None
    anatomy: Contradicting | None


class Lengths(Record):
    """Words of thinking."""

    mean: float
    median: float
    q05: float
    q95: float
    max: float


class Words(Record):
    """Lengths by what the answer was."""

    all: Lengths | None
    right: Lengths | None
    not_right: Lengths | None


class Thinking(Record):
    """What stored answers tell about their thinking."""

    n: int
    without_thinking: int
    consistency: Consistency | None
    contradictions: Contradictions
    words: Words


class Reasoning(Thinking):
    """`reasoning.json`."""

    interventions: dict[str, Intervention]


class Reply(Record):
    """One answer of a model."""

    answer: str | None
    """Letter of the option, or the text where there are no options; None for what cannot be read."""
    parse_status: str
    thinking: str | None
    completion: str
    num_tokens: int
    finished: bool
    """Whether it came to its end within the limit of tokens."""
    option_logprobs: tuple[float, ...] | None
    """Of the option letters, where the answer begins; None where nobody tells."""
    probabilities: tuple[float, ...] | None
    """The same as shares of the options, which add up to 1."""


class Asked(Record):
    """What `medr1 ask --json` prints."""

    question: str
    options: tuple[str, ...]
    prompt: str
    protocol: str
    engine: dict[str, str]
    images: tuple[Receipt, ...]
    """Of the pictures as the model got them."""
    reply: Reply
    blank: Reply | None
    """With grey pictures in their place; None where that was not asked for, or not answered."""
    warnings: tuple[str, ...]
    notice: str
