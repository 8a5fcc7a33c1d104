"""Thinking: the same question with another thinking put into the model's mouth, and the answer generated anew.

If the thinking carries the answer, a thinking that is cut, empty, another question's or concludes something else
should change it (arXiv:2307.13702 for text). The completions are forced to begin with the changed thinking;
`thinking:own` puts back the model's own words and measures what the forcing alone does: greedy decoding should give the
same answers, save where the tokens at the seam differ.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medr1.answers.tags import tags_of
from medr1.streams import choices
from medr1.types import LETTERS, Prediction, Sample
from medr1.variants.controls import chosen_option
from medr1.variants.variant import Assign, Variant, group_of

COMPLETION_PREFIX = "completion_prefix"
"""Key of `Sample.extra`: text that the completion is forced to begin with."""
PLANTED = "planted_option"
"""Key of `Sample.extra`: position of the option that a contradicting thinking concludes."""
KEPT_SHARE = 0.5
"""Share of the words that truncated thinking keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """What takes the place of a thinking."""

    thinking: str
    planted: int | None = None
    """Position of the option that it was made to conclude."""


Change = Callable[[Prediction, Sequence[Prediction], random.Random], Altered | None]
"""Prediction, all predictions with thinking, chance → what takes the place of its thinking; None where nothing can."""


def thinking_span(completion: str) -> tuple[int, int] | None:
    """First and last + 1 character of the thinking, without outer white space; None where none was closed.

    >>> thinking_span("<think> A lung. </think><answer>B</answer>")
    (8, 15)
    """
    tags = tags_of(completion, "think")
    closing = next((tag for opens, tag in tags if not opens), None)
    if closing is None:
        return None
    start = next((tag.end() for opens, tag in tags if opens and tag.start() < closing.start()), 0)
    inner = completion[start : closing.start()]
    start += len(inner) - len(inner.lstrip())
    return start, start + len(inner.strip())


def forced_prefix(completion: str, thinking: str) -> str:
    """The completion up to the end of its thinking, with another thinking inside the same tags and white space."""
    span = thinking_span(completion)
    assert span is not None, "only completions with thinking get another one"
    closing = next(tag for opens, tag in tags_of(completion, "think") if not opens)
    return completion[: span[0]] + thinking + completion[span[1] : closing.end()]


def own_thinking(prediction: Prediction) -> str:
    """The words inside the think tags."""
    span = thinking_span(prediction.completion)
    assert span is not None, "only completions with thinking have one"
    return prediction.completion[slice(*span)]


def _own(prediction: Prediction, others: Sequence[Prediction], chance: random.Random) -> Altered:
    return Altered(thinking=own_thinking(prediction))


def _empty(prediction: Prediction, others: Sequence[Prediction], chance: random.Random) -> Altered:
    return Altered(thinking="")


def _truncated(prediction: Prediction, others: Sequence[Prediction], chance: random.Random) -> Altered:
    words = own_thinking(prediction).split()
    return Altered(thinking=" ".join(words[: int(len(words) * KEPT_SHARE)]))


def _swapped(prediction: Prediction, others: Sequence[Prediction], chance: random.Random) -> Altered | None:
    """The thinking of a random question about another image."""
    start = chance.randrange(len(others))
    order = (others[(start + i) % len(others)] for i in range(len(others)))
    other = next((p for p in order if group_of(p) != group_of(prediction)), None)
    return None if other is None else Altered(thinking=own_thinking(other))


def _contradicting(prediction: Prediction, others: Sequence[Prediction], chance: random.Random) -> Altered | None:
    """Its own thinking, made to conclude a random option that was not the answer."""
    answer = chosen_option(prediction)
    rest = [position for position, option in enumerate(prediction.options) if option and position != answer]
    if answer is None or not rest:
        return None
    planted = chance.choice(rest)
    thinking = plant(own_thinking(prediction), prediction.options, answer, planted)
    return Altered(thinking=thinking, planted=planted)


def plant(thinking: str, options: Sequence[str], answer: int, planted: int) -> str:
    """A thinking in which two options have changed places, text and letter, so that it concludes the other one.

    Where it names neither, a sentence that concludes the planted option is added.

    >>> plant("Finding Lung, so B) Lung", ["Liver", "Lung"], 1, 0)
    'Finding Liver, so A) Liver'
    """
    pairs = {options[answer]: options[planted], options[planted]: options[answer]}
    letters = {LETTERS[answer]: LETTERS[planted], LETTERS[planted]: LETTERS[answer]}
    texts = "|".join(re.escape(text) for text in sorted(pairs, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:(?P<text>{texts})(?!\w)|(?P<letter>[{''.join(letters)}])(?=\)))", re.IGNORECASE)
    folded = {text.casefold(): other for text, other in pairs.items()}

    def other(match: re.Match[str]) -> str:
        found = match[0]
        return letters.get(found, found) if match["letter"] else folded.get(found.casefold(), found)

    changed = pattern.sub(other, thinking)
    if changed != thinking:
        return changed
    return f"{thinking} The right option is {LETTERS[planted]}) {options[planted]}.".lstrip()


def _assign(name: str, change: Change) -> Assign:
    def assign(samples: Sequence[Sample], seed: int, answers: Sequence[Prediction]) -> list[Sample]:
        """The samples whose answer (draw 0) has thinking and an option, with what they are forced to think."""
        usable = {
            p.id: p
            for p in answers
            if not p.variant
            and p.draw == 0
            and thinking_span(p.completion) is not None
            and chosen_option(p) is not None
        }
        others = [usable[id] for id in sorted(usable)]
        prepared = []
        for sample in samples:
            if sample.id not in usable:
                continue
            answer = usable[sample.id]
            altered = change(answer, others, choices(seed, name, sample.id))
            if altered is not None:
                extra = {**sample.extra, COMPLETION_PREFIX: forced_prefix(answer.completion, altered.thinking)}
                if altered.planted is not None:
                    extra[PLANTED] = str(altered.planted)
                prepared.append(replace(sample, extra=extra))
        return prepared

    return assign


CHANGES: dict[str, Change] = {
    "own": _own,
    "truncated": _truncated,
    "empty": _empty,
    "swapped": _swapped,
    "contradicting": _contradicting,
}
"""What can be done to a thinking, by name."""

THINKING: tuple[Variant, ...] = tuple(
    Variant(name=f"thinking:{name}", assign=_assign(name, change), pairs=change is _swapped, reads_answers=True)
    for name, change in CHANGES.items()
)
