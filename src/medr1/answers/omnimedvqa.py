"""OmniMedVQA's own question-answering score (OpenGVLab/Multi-Modality-Arena, MedicalEval, commit bd2999a).

Nothing is normalised, case counts, and the most similar option wins; so letters are matched by shared characters (of
Benign and Malignant, "B" is Benign), and refusals and prose go to the longest option. Nothing in common at all makes
the kit fail: the item counts as wrong, here as unreadable.

Not built: the prefix-based score, which compares likelihoods of the options and reads no completion; and what the
variants below do to whole files (they skip the first item and divide by the last index).
"""

from collections.abc import Sequence

from medr1.answers.similarity import most_similar
from medr1.types import LETTERS

FEWEST = 4
"""Med-Flamingo and MedVInT always compare with four options, whether they exist or not."""
HEAD = 6


def question_answering(completion: str, options: Sequence[str]) -> str | None:
    """The option text most similar to the completion."""
    return _letter(most_similar(options, completion))


def med_flamingo(completion: str, options: Sequence[str]) -> str | None:
    """The six first characters against `A:text`; options that do not exist are `C:None_Option`."""
    texts = [*options, *["None_Option"] * (FEWEST - len(options))]
    lettered = [f"{letter}:{text}" for letter, text in zip(LETTERS, texts, strict=False)]
    return _letter(most_similar(lettered, completion[:HEAD]))


def medvint(completion: str, options: Sequence[str]) -> str | None:
    """The completion against the bare letters."""
    return _letter(most_similar(LETTERS[: max(FEWEST, len(options))], completion))


def _letter(position: int | None) -> str | None:
    return None if position is None else LETTERS[position]
