"""Interventions: the same question with another thinking put into the model's mouth, and the answer generated anew.

If the thinking carries the answer, a thinking that is cut, empty, another question's or concludes something else
should change it (arXiv:2307.13702 for text). Every intervention is an ordinary evaluation whose completions are forced
to begin with the changed thinking; `own` puts back the model's own words and measures what the forcing alone does:
greedy decoding should give the same answers, save where the tokens at the seam differ.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medr1.answers.tags import tags_of
from medr1.errors import DataError
from medr1.eval.measures import accuracy, group_of, is_right, share
from medr1.eval.permutation import chosen_option, question_of
from medr1.eval.runner import COMPLETION_PREFIX, Progress, evaluate, read_predictions
from medr1.records import short_hash
from medr1.rollout.engine import Engine, SamplingParams
from medr1.types import LETTERS, Prediction, Sample

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


INTERVENTIONS: dict[str, Change] = {
    "own": _own,
    "truncated": _truncated,
    "empty": _empty,
    "swapped": _swapped,
    "contradicting": _contradicting,
}
"""What can be done to a thinking, by name."""


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


def prepare(name: str, samples: Sequence[Sample], predictions: Sequence[Prediction], seed: int) -> list[Sample]:
    """The samples whose prediction (draw 0) has thinking and an answer, with what they are forced to think."""
    usable = {
        p.id: p
        for p in predictions
        if p.draw == 0 and thinking_span(p.completion) is not None and chosen_option(p) is not None
    }
    others = [usable[id] for id in sorted(usable)]
    prepared = []
    for sample in samples:
        if sample.id not in usable:
            continue
        prediction = usable[sample.id]
        altered = INTERVENTIONS[name](prediction, others, random.Random(f"{seed}:{name}:{sample.id}"))
        if altered is not None:
            extra = {**sample.extra, COMPLETION_PREFIX: forced_prefix(prediction.completion, altered.thinking)}
            if altered.planted is not None:
                extra[PLANTED] = str(altered.planted)
            prepared.append(replace(sample, extra=extra))
    return prepared


def score_intervention(
    originals: Sequence[Prediction], answers: Sequence[Prediction], prepared: Sequence[Sample]
) -> dict[str, Any]:
    """Answers after an intervention beside the original ones.

    `changed` is the share of other options among answers that can still be read; `follows`, for a contradicting
    thinking, the share that answers what it concludes. `original_accuracy` is over the same questions.
    """
    before = {question_of(p): p for p in originals}
    pairs = [(before[question_of(p)], p) for p in answers if question_of(p) in before]
    read = [(first, second) for first, second in pairs if chosen_option(second) is not None]
    planted = {s.id: int(s.extra[PLANTED]) for s in prepared if PLANTED in s.extra}
    groups = [group_of(first) for first, _ in read]
    scores: dict[str, Any] = {"n": len(pairs), "unreadable": len(pairs) - len(read)}
    if pairs:
        scores["accuracy"] = accuracy([second for _, second in pairs])["accuracy"]
        scores["original_accuracy"] = sum(is_right(first) for first, _ in pairs) / len(pairs)
    if read:
        scores["changed"] = share([chosen_option(a) != chosen_option(b) for a, b in read], groups, "share")
    if read and planted:
        scores["follows"] = share([chosen_option(b) == planted[b.id] for _, b in read], groups, "share")
    return scores


def intervene(
    name: str,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    engine: Engine,
    *,
    out: Path,
    prompt: str,
    protocol: str,
    params: SamplingParams,
    batch_size: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run one intervention as an evaluation into `out`, where a killed one goes on, and score it.

    `predictions` are those of the original images and of the same prompt and sampling. Raises `DataError` where none of
    them has thinking and an answer.
    """
    prepared = prepare(name, samples, predictions, seed)
    if not prepared:
        raise DataError(
            f"no answer of these samples has a closed think block, so {name!r} thinking cannot be put into one; "
            "evaluate with a prompt that asks for thinking, on the data that the run was made on"
        )
    evaluate(
        prepared,
        engine,
        out=out,
        params=replace(params, num_draws=1),
        batch_size=batch_size,
        seed=seed,
        prompt=prompt,
        protocol=protocol,
        arguments={"thinking": name, "prefixes": short_hash([s.extra[COMPLETION_PREFIX] for s in prepared])},
        progress=progress,
    )
    return score_intervention(predictions, read_predictions(out), prepared)
