"""The rule of MMMU in its many copies: gather the letters that occur in a form, and take the one that occurs last."""

from collections.abc import Sequence
from typing import NamedTuple

from medr1.answers.reading import option_letters

SHORTEST_PROSE = 6
"""Words from which on option texts are looked for."""


class Candidates(NamedTuple):
    """A form in which letters are looked for, and the form whose last place decides between several."""

    form: str
    decided_by: str = " {} "


def latest_letter(text: str, options: Sequence[str], forms: Sequence[Candidates], *, by_text: bool) -> str | None:
    """The letter that `text` (padded with spaces) names: of the first form that any letter has, the last to occur.

    `by_text` looks for option texts where no form is found and the text has more than five words. None where nothing is
    found: there the kits draw an option at random. Ties, letters that the deciding form never finds among them, go to
    the first option.
    """
    letters = option_letters(options)
    for form, decided_by in forms:
        found = [letter for letter in letters if form.format(letter) in text]
        if found:
            return max(found, key=lambda letter: text.rfind(decided_by.format(letter))) if len(found) > 1 else found[0]
    if by_text and len(text.split()) >= SHORTEST_PROSE:
        lower = text.lower()
        places = {letter: lower.rfind(option.lower()) for letter, option in zip(letters, options, strict=False)}
        named = [letter for letter in letters if places[letter] >= 0]
        return max(named, key=places.__getitem__) if named else None
    return None
