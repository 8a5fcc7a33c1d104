"""Option order: what a model answers when the same options stand behind other letters.

Every rotation of the options is one variant, so each option stands behind each letter once, and whatever the letters
are chosen for beyond their contents is bias. CircularEval (MMBench, arXiv:2307.06281) counts a question as right where
all rotations are answered right. RStd (arXiv:2309.03882) is the standard deviation of the recall over the letters.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from medr1.eval.measures import group_of, is_right
from medr1.results.evaluated import ChanceAgreement, Circular, LetterScore, OptionOrder
from medr1.stats import proportion
from medr1.types import LETTERS, Prediction
from medr1.variants.controls import ROTATIONS, chosen_option

Question = tuple[str, int]
"""Identity of a question over its variants: id and draw."""


def question_of(prediction: Prediction) -> Question:
    """What a prediction shares with those of the question's variants."""
    return prediction.id, prediction.draw


def complete_rotations(
    originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]
) -> dict[Question, list[Prediction]]:
    """The predictions of every rotation, the original first, for the questions that have all of them."""
    rotations = {question_of(prediction): [prediction] for prediction in originals}
    for name in ROTATIONS:
        for prediction in controls.get(name, ()):
            rotations.get(question_of(prediction), []).append(prediction)
    return {key: group for key, group in rotations.items() if len(group) == len(group[0].options) > 1}


def consistent(rotations: Sequence[Prediction]) -> bool:
    """Whether the same option was chosen in all of them."""
    return _all_chosen(rotations) and len({chosen_option(prediction) for prediction in rotations}) == 1


def score_option_order(
    originals: Sequence[Prediction], controls: Mapping[str, Sequence[Prediction]]
) -> OptionOrder | None:
    """Accuracy under all rotations, how often the answer follows its text or its letter, and bias to letters.

    Over the `n` questions that have every rotation: `circular` is the share right under all, with its chance for
    guesses (the mean of K^-K); `mean_accuracy` that of single rotations. Over those that chose an option each time:
    `same_option` and `same_letter` under all rotations, chance K^(1-K) each. By letter: how often it was `chosen`, how
    often choosing evenly would be, and its `recall`. None where no question has every rotation.
    """
    questions = list(complete_rotations(originals, controls).values())
    if not questions:
        return None
    groups = [group_of(rotations[0]) for rotations in questions]
    answered = [rotations for rotations in questions if _all_chosen(rotations)]
    everything = [prediction for rotations in questions for prediction in rotations]
    letters = _by_letter(everything)
    chances = [len(rotations) ** -len(rotations) for rotations in questions]
    return OptionOrder(
        n=len(questions),
        circular=Circular(
            accuracy=proportion([all(map(is_right, rotations)) for rotations in questions], groups),
            chance=fmean(chances),
        ),
        mean_accuracy=fmean(map(is_right, everything)),
        unreadable=sum(chosen_option(prediction) is None for prediction in everything),
        same_option=_agreement([consistent(rotations) for rotations in answered], answered),
        same_letter=_agreement([len({p.answer for p in rotations}) == 1 for rotations in answered], answered),
        letters=letters,
        recall_std=pstdev(score.recall for score in letters.values()),
    )


def _all_chosen(rotations: Sequence[Prediction]) -> bool:
    return all(chosen_option(prediction) is not None for prediction in rotations)


def _agreement(hits: Sequence[bool], questions: Sequence[Sequence[Prediction]]) -> ChanceAgreement | None:
    if not hits:
        return None
    groups = [group_of(rotations[0]) for rotations in questions]
    expected = fmean(len(rotations) ** (1 - len(rotations)) for rotations in questions)
    return ChanceAgreement(n=len(hits), share=proportion(hits, groups), chance=expected)


def _by_letter(predictions: Sequence[Prediction]) -> dict[str, LetterScore]:
    """For every letter that is right somewhere: shares chosen and expected of all answers that chose, and recall."""
    chosen = [p for p in predictions if chosen_option(p) is not None]
    hits: dict[str, list[bool]] = defaultdict(list)
    for prediction in predictions:
        if prediction.gold is not None:
            hits[prediction.gold].append(is_right(prediction))
    expected = {
        letter: sum(1 / len(p.options) for p in chosen if letter in LETTERS[: len(p.options)]) for letter in hits
    }
    return {
        letter: LetterScore(
            chosen=sum(p.answer == letter for p in chosen) / max(1, len(chosen)),
            expected=expected[letter] / max(1, len(chosen)),
            recall=fmean(hits[letter]),
        )
        for letter in sorted(hits)
    }
