"""What of an evaluation cannot mean anything: rules on counts, so that no number stands without its warning."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from medr1.results.evaluated import Overlap, Void

LEAK_FAIL = 0.01
"""Share of test questions in train above which a split is refused and an accuracy void."""
MIN_READABLE = 0.1
"""Share of readable answers below which an accuracy says how a format is kept, and nothing of what is known."""
MAX_FAILED = 0.5
"""Share of questions that could not be asked, above which the rest is a sample of nobody's choice."""
FEW = 10
"""Questions of which fewer may all have one letter by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the rules look at, of the answers of one run to one variant of its questions."""

    given: Counter[str | None]
    """Answers by letter; None for what could not be read."""
    statuses: Mapping[str, int]
    """Answers by how they were read."""
    gold: Counter[str | None]
    """Right letters of the same."""
    questions: int
    """Distinct ones, each with one or several draws."""
    failed: int = 0
    """Draws that could not be asked."""


def void(answers: Answers, overlap: Overlap | None = None, receipts: Iterable[str] = ()) -> list[Void]:
    """What is wrong with the accuracy on the questions as they are; nothing where it is a measurement.

    Args:
        overlap: with the data that the text prior was fitted on.
        receipts: what the receipts of the pictures say against it, a line each.
    """
    found = [*receipts, *unreadable(answers), *_one_letter(answers), *_one_gold(answers)]
    number = answers.given.total()
    known = [Void(what="accuracy", why=why) for why in found]
    if overlap and overlap.questions > LEAK_FAIL * number:
        why = (
            f"{overlap.questions:,} of {number:,} questions are in the training data as they are, so what was "
            "learnt by heart counts as right"
        )
        known += [Void(what=what, why=why) for what in ("accuracy", "blind.text_prior")]
    elif overlap and overlap.pictures > LEAK_FAIL * number:
        why = f"{overlap.pictures:,} of {number:,} questions show a picture of the training data"
        known.append(Void(what="accuracy", why=why))
    return known


def unreadable(answers: Answers) -> Iterator[str]:
    """Nothing, or next to nothing, that could be read or even asked."""
    number, lost = answers.given.total(), answers.given[None]
    asked = number + answers.failed
    if answers.failed > MAX_FAILED * asked:
        yield f"{answers.failed:,} of {asked:,} answers failed, so the rest is a sample of nobody's choice"
    if number and number - lost < MIN_READABLE * number:
        how = ", ".join(
            f"{status.replace('_', ' ')} {count:,}" for status, count in answers.statuses.items() if status != "ok"
        )
        yield (
            f"{lost:,} of {number:,} answers could not be read ({how}), so it says nothing of what the model sees; "
            "read some completions, and ask with the prompt that the model was trained with"
        )


def _one_letter(answers: Answers) -> Iterator[str]:
    """The same letter whatever is asked."""
    letters = [letter for letter in answers.given if letter is not None]
    count = answers.given.total() - answers.given[None]
    if len(letters) == 1 and min(count, answers.questions) >= FEW and set(answers.gold) - set(letters):
        yield f"all {count:,} readable answers are {letters[0]}, whatever was asked"


def _one_gold(answers: Answers) -> Iterator[str]:
    """Data whose right letter is always the same."""
    if len(answers.gold) == 1 and answers.questions >= FEW:
        letter = next(iter(answers.gold))
        yield f"the right answer to all {answers.questions:,} questions is {letter}, so always saying that is right"
