"""VLMEvalKit (open-compass/VLMEvalKit, commit e8e78f0) with `--judge exact_matching`: what it does without a judge.

Where it errs: after "answer is" the first A to D counts even inside a word ("is clearly" is C, "is CT" is C); an "A"
among the last four words is option A although it may be an article; option texts are looked for inside words ("ct" in
"fracture"); lower-case letters, `"B"` and full-width punctuation are not read. `Z` stands for "none".

Not built: its judges by a language model (the default), after which it draws at random from the letters and `Z`.
"""

import re
from collections.abc import Sequence

from medr1.answers.default import option_letters

NONE = "Z"
API_FAILURE = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
LAST_WORDS = 4
_TO_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_SPACED_OR_DROPPED = ';/[]"{}()=+\\_-><@`,?!'


def exact_matching(completion: str, options: Sequence[str]) -> str:
    """Its rule for multiple choice."""
    return _by_letter(completion, options, careful_with_a=False) or _by_text(completion, options) or NONE


def exact_matching_verbose(completion: str, options: Sequence[str]) -> str:
    """The same where the environment has a non-empty VERBOSE (`0` too): no letter is read beside a word "A"."""
    return _by_letter(completion, options, careful_with_a=True) or _by_text(completion, options) or NONE


def _by_letter(completion: str, options: Sequence[str], *, careful_with_a: bool) -> str | None:
    letters = option_letters(options)
    if API_FAILURE in completion:
        return None
    if any(refusal in completion for refusal in REFUSALS):
        return NONE
    words = completion.translate(_TO_SPACES).split()
    found = [letter for letter in letters if letter in words]
    if len(found) == 1:
        if careful_with_a and len(words) > 3 and "A" in words:
            return None
        if words.index(found[0]) >= len(words) - LAST_WORDS:
            return found[0]
    if not found and NONE in words:
        return NONE
    stated = _ANSWER_IS.search(completion)
    return stated[1].upper() if stated and stated[1].upper() in letters else None


def _by_text(completion: str, options: Sequence[str]) -> str | None:
    text = completion.lower()
    if len(text) > 2 * sum(map(len, options)):
        return None
    named = [letter for letter, option in zip(option_letters(options), options, strict=False) if option.lower() in text]
    return named[0] if len(named) == 1 else None


def yes_or_no(completion: str, options: Sequence[str]) -> str | None:
    """Its rule for yes/no sets: the word "yes" or the word "no", not both. It has no medical set of this kind."""
    words = _without_punctuation(completion.lower()).split()
    said = [word for word in ("yes", "no") if word in words]
    texts = [option.lower() for option in options]
    return option_letters(options)[texts.index(said[0])] if len(said) == 1 and said[0] in texts else None


def _without_punctuation(text: str) -> str:
    """The normalisation of the VQA challenge: punctuation is dropped beside a space, and a space within words."""
    drop_all = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _SPACED_OR_DROPPED:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if drop_all or beside_space else " ")
    return re.sub(r"\.(?!\d)", "", cleaned)
