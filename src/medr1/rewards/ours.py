"""Our rewards: the right letter or blocks, answers without a single right option, thinking that concludes, length."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from medr1.answers import parse_answer
from medr1.answers.default import answer_text, read_answer
from medr1.answers.tags import TAG
from medr1.answers.without_options import LABEL_SEPARATOR, read_labels, read_number, read_words, read_yes_no
from medr1.answers.wording import conclusion
from medr1.errors import DataError
from medr1.types import LETTERS, AnswerType, ParseStatus, Sample, Score

Reward = Callable[[str, Sample], Score]
"""Scores one completion to one sample: pure, deterministic, 0 to 1; `DataError` for a sample that it cannot score."""


def gold_letter(sample: Sample) -> str:
    """Letter of the right option. Raises `DataError` where there is none."""
    if sample.gold is None:
        raise DataError(f"sample {sample.id} has no right option to reward: keep only samples with an answer_index")
    return sample.gold


def gold_answers(sample: Sample, answer_type: AnswerType) -> tuple[str, ...]:
    """Accepted answers of a sample of that type. Raises `DataError` where it has none, or another type."""
    if sample.answer_type != answer_type or not sample.answers:
        raise DataError(
            f"sample {sample.id} has the answer type {sample.answer_type} and {len(sample.answers)} answers: this "
            f"reward takes the type {answer_type} with answers; the reward 'answer' takes every type"
        )
    return sample.answers


def accuracy(completion: str, sample: Sample) -> Score:
    """1 where the default parser reads the gold letter, else 0; `readable` tells wrong from unreadable."""
    gold = gold_letter(sample)
    parsed = parse_answer(completion, sample)
    value = float(parsed.letter == gold)
    readable = float(parsed.status is ParseStatus.OK)
    return Score(value=value, answer=parsed.letter, breakdown={"accuracy": value, "readable": readable})


def think_format(completion: str, sample: Sample) -> Score:
    """1 for one think block, then one answer block, both with text in them, and nothing else but white space.

    >>> sample = Sample(id="1", images=(), question="Which?", options=("CT", "MRI"), answer_index=1)
    >>> [think_format(text, sample).value for text in ("<think>r</think> <answer>B</answer>", "<answer>B</answer>")]
    [1.0, 0.0]
    """
    return format_score(consists_of_blocks(completion, ("think", "answer")))


def nothink_format(completion: str, sample: Sample) -> Score:
    """1 for one answer block with text in it and nothing else but white space."""
    return format_score(consists_of_blocks(completion, ("answer",)))


def format_score(holds: bool) -> Score:
    """All or nothing."""
    return Score(value=float(holds), breakdown={"format": float(holds)})


def consists_of_blocks(completion: str, names: Sequence[str]) -> bool:
    """Whether the text is these blocks in this order, none of them empty, and no other think or answer tag."""
    tags = list(TAG.finditer(completion))
    wanted = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]
    if [tag[0] for tag in tags] != wanted:
        return False
    # The text before, between and behind the tags: inside a block at odd places, outside at even ones.
    edges = [0, *(edge for tag in tags for edge in tag.span()), len(completion)]
    pieces = [completion[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return all(
        _shows_something(piece) if place % 2 else not piece  # outside, what cannot be seen is too much as well
        for place, piece in enumerate(pieces)
    )


def _shows_something(text: str) -> bool:
    """Whether a character can be seen: zero-width and control characters alone leave a block empty."""
    return any(character.isprintable() and not character.isspace() for character in text)


Answer = TypeVar("Answer")

RELAXED = 0.05
"""Relative error that ChartQA's relaxed accuracy allows (arXiv 2203.10244, section 5)."""

LABEL_PRECISION, WORD_PRECISION = 1 / 2, 2 / 3
"""Shares of an answer that must be more than right for its F1 to count."""

TURNING_WORDS = frozenset(
    re.findall(
        r"\w+",
        "no not never none neither nor cannot without except but or versus vs "
        "isnt arent wasnt doesnt dont didnt hasnt cant absent denies excluded",
    )
)
"""Words that turn a finding into its opposite, or into one of several; an answer must use those of the gold answer."""

_BETWEEN_ANSWERS = re.compile(r"[,;/|\n]")


def yes_no(completion: str, sample: Sample) -> Score:
    """1 for the right one of yes and no, or for its letter where the sample lists them as options."""
    if sample.answer_type != "yes_no":
        raise DataError(f"sample {sample.id} is no yes/no question: filter by answer_type, or use the reward 'answer'")
    if sample.options:
        return accuracy(completion, sample)
    golds = {read_yes_no(answer) for answer in gold_answers(sample, "yes_no")}
    answer = _read(completion, read_yes_no)
    return _scored("accuracy", float(answer in golds and answer is not None), answer)


def number(relative_error: float = 0.0) -> Reward:
    """Reward of a number: 1 within that share of the gold value, else 0; what is no number is unreadable."""

    def reward(completion: str, sample: Sample) -> Score:
        golds = [read_number(answer) for answer in gold_answers(sample, "number")]
        answer = _read(completion, read_number)
        right = answer is not None and any(gold is not None and _close(answer, gold, relative_error) for gold in golds)
        return _scored("accuracy", float(right), None if answer is None else f"{answer:g}")

    return reward


def labels_exact(completion: str, sample: Sample) -> Score:
    """1 where the labels are exactly the gold ones, in any order."""
    gold, answer = _label_sets(completion, sample)
    return _scored("accuracy", float(answer == gold), _joined(answer and sorted(answer), LABEL_SEPARATOR))


def labels_f1(completion: str, sample: Sample) -> Score:
    """F1 of the labels; 0 unless more than half of those named are right.

    Plain F1 pays for naming everything: 2 gold labels among 14 give 0.25, more than an honest guess earns.
    """
    gold, answer = _label_sets(completion, sample)
    parts = f1(Counter(answer or ()), Counter(gold))
    return _scored(
        "f1", f1_of_precise(parts, LABEL_PRECISION), _joined(answer and sorted(answer), LABEL_SEPARATOR), parts
    )


def text_exact(completion: str, sample: Sample) -> Score:
    """1 where the words are exactly those of an accepted answer, in order: exact match of SQuAD (arXiv 1606.05250)."""
    golds = {read_words(answer) for answer in gold_answers(sample, "text")}
    words = _read(completion, read_words)
    return _scored("accuracy", float(words is not None and words in golds), _joined(words))


def text_f1(completion: str, sample: Sample) -> Score:
    """F1 of the words, the best over the accepted answers (SQuAD, arXiv 1606.05250), where the answer is no hedge.

    Plain word F1 gives 0.67 to "no pneumothorax" where "pneumothorax" is right, and pays for listing. So it is 0 here:

    - unless more than two thirds of the words are right;
    - where the answer has a word like "no" or "or" that the gold answer lacks, or the reverse;
    - where a part between commas shares no word with the gold answer.
    """
    golds = gold_answers(sample, "text")
    answer = _read(completion, lambda text: text if read_words(text) else None)
    against = [_text_f1(answer or "", gold) for gold in golds]
    value, parts = max(against, key=lambda scored: (scored[0], scored[1]["plain_f1"]))
    return _scored("f1", value, answer, parts)


def any_type(completion: str, sample: Sample) -> Score:
    """The reward of the sample's own answer type, for data of several types."""
    return BY_TYPE[sample.answer_type](completion, sample)


BY_TYPE: dict[AnswerType, Reward] = {
    "choice": accuracy,
    "yes_no": yes_no,
    "multi": labels_f1,
    "number": number(),
    "text": text_f1,
}


def f1(answer: Counter[str], gold: Counter[str]) -> dict[str, float]:
    """Precision, recall and their harmonic mean over items with counts; 0 where nothing is shared.

    >>> f1(Counter(["a", "b", "c"]), Counter(["a", "d"]))
    {'plain_f1': 0.4, 'precision': 0.3333333333333333, 'recall': 0.5}
    """
    shared = (answer & gold).total()
    if not shared:
        return {"plain_f1": 0.0, "precision": 0.0, "recall": 0.0}
    return {
        "plain_f1": 2 * shared / (answer.total() + gold.total()),
        "precision": shared / answer.total(),
        "recall": shared / gold.total(),
    }


def f1_of_precise(parts: Mapping[str, float], precision: float) -> float:
    """F1 where the precision is above that share, else 0."""
    return parts["plain_f1"] if parts["precision"] > precision else 0.0


def _read(completion: str, read: Callable[[str], Answer | None]) -> Answer | None:
    """The one answer of a completion as `read` takes it; None where it is unreadable."""
    body, status = answer_text(completion)
    return read(body) if status is ParseStatus.OK else None


def _scored(name: str, value: float, answer: str | None, parts: Mapping[str, float] | None = None) -> Score:
    readable = float(answer is not None)
    return Score(value=value, answer=answer, breakdown={name: value, "readable": readable, **(parts or {})})


def _close(value: float, gold: float, relative_error: float) -> bool:
    return math.isclose(value, gold, rel_tol=1e-9) or abs(value - gold) <= relative_error * abs(gold)


def _label_sets(completion: str, sample: Sample) -> tuple[frozenset[str], frozenset[str] | None]:
    """Gold labels, and those of the completion where it can be read."""
    golds = gold_answers(sample, "multi")
    gold = frozenset[str]().union(*(read_labels(answer, sample.options) or () for answer in golds))
    return gold, _read(completion, lambda text: read_labels(text, sample.options))


def _text_f1(answer: str, gold: str) -> tuple[float, dict[str, float]]:
    """The value of an answer against one gold answer, and the parts of plain F1."""
    words, gold_words = read_words(answer) or (), read_words(gold) or ()
    parts = f1(Counter(words), Counter(gold_words))
    same_sense = TURNING_WORDS.intersection(words) == TURNING_WORDS.intersection(gold_words)
    members = [read_words(member) or () for member in _BETWEEN_ANSWERS.split(answer)]
    one_answer = all(set(member) & set(gold_words) for member in members if member)
    return (f1_of_precise(parts, WORD_PRECISION) if same_sense and one_answer else 0.0), parts


def _joined(items: Iterable[str] | None, between: str = " ") -> str | None:
    return None if items is None else between.join(items)


# What follows is 0 for a completion that is not well-formed, so that none is earned without answering. Length counts
# characters (about four a token), since words are no measure of a text without spaces.
LIMIT = 1000
"""Characters from which on a completion earns nothing: about 250 tokens, what Med-R1 lets its models write."""
BUFFER = LIMIT // 5
"""Characters over which the punishment grows: DAPO's share, 4,096 of 20,480 tokens (arXiv 2503.14476, section 3.4)."""


def consistency(completion: str, sample: Sample) -> Score:
    """1 where the option that the thinking concludes is the one that is answered, right or wrong.

    `concluded` tells thinking that concludes no option from thinking that concludes another one.
    """
    if not sample.options:
        raise DataError(f"sample {sample.id} has no options to conclude: keep only questions with options")
    answer: str | None = None
    concluded: int | None = None
    if think_format(completion, sample).value:
        opening, closing, *_ = TAG.finditer(completion)
        thinking = completion[opening.end() : closing.start()]
        answer = read_answer(answer_text(completion)[0], sample.options).letter
        concluded = conclusion(thinking, sample.options)
    value = float(answer is not None and concluded is not None and answer == LETTERS[concluded])
    return Score(
        value=value, answer=answer, breakdown={"consistency": value, "concluded": float(concluded is not None)}
    )


def soft_overlong(limit: int = LIMIT, buffer: int = BUFFER) -> Reward:
    """Soft over-long punishment of DAPO (arXiv 2503.14476, equation 13), plus 1: from 1 down to 0.

    1 up to `limit - buffer` characters, then linearly less, 0 from `limit` on. It is the same to GRPO, which subtracts
    the mean of the group.
    """

    def reward(completion: str, sample: Sample) -> Score:
        left = (limit - len(completion)) / buffer
        value = min(1.0, max(0.0, left)) if _is_well_formed(completion, sample) else 0.0
        return Score(value=value, breakdown={"length": value, "characters": float(len(completion))})

    return reward


def cosine_length(limit: int = LIMIT, longest: float = 0.5) -> Reward:
    """What the answer earns, times a cosine from 1 for no length to `longest` at the limit (arXiv 2502.03373, eq. 1).

    Beyond the limit nothing. Their other half, a milder punishment for longer wrong answers, is left out: padding
    earns it.
    """

    def reward(completion: str, sample: Sample) -> Score:
        scored = any_type(completion, sample)
        falling = longest + (1 - longest) * (1 + math.cos(math.pi * len(completion) / limit)) / 2
        counts = len(completion) <= limit and _is_well_formed(completion, sample)
        length = falling if counts else 0.0
        breakdown = {"answer": scored.value, "length": length, "characters": float(len(completion))}
        return Score(value=scored.value * length, answer=scored.answer, breakdown=breakdown)

    return reward


def _is_well_formed(completion: str, sample: Sample) -> bool:
    return bool(think_format(completion, sample).value or nothink_format(completion, sample).value)
