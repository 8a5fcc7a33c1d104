"""What the rules of several evaluation kits share, and how a kit's rule becomes a protocol."""

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from medr1.answers.default import option_letters
from medr1.types import ParsedAnswer, ParseStatus, Sample

Protocol = Callable[[str, Sample], ParsedAnswer]
"""Reads a completion to a question. Never raises: a bad completion is data."""
Extract = Callable[[str, Sequence[str]], str | None]
"""What a kit reads from a completion, given the option texts: a letter, another mark of its own, or None."""
Accept = Callable[[str, Sequence[str]], Sequence[str]]
"""The letters that a kit would accept as gold for a completion, given the option texts."""


def reads(extract: Extract) -> Protocol:
    """A protocol that answers what `extract` extracts; unreadable where that is no option of the question."""

    def protocol(completion: str, sample: Sample) -> ParsedAnswer:
        letter = extract(completion, sample.options) if sample.options else None
        return _parsed(letter, completion, sample)

    return protocol


def accepts(accept: Accept) -> Protocol:
    """A protocol of a kit that never extracts a letter but compares with the gold: gold where that is accepted.

    Where two options have the same text a completion may fit several; only the gold one makes it right.
    """

    def protocol(completion: str, sample: Sample) -> ParsedAnswer:
        accepted = accept(completion, sample.options)
        letter = sample.gold if sample.gold in accepted else next(iter(accepted), None)
        return _parsed(letter, completion, sample)

    return protocol


def _parsed(letter: str | None, completion: str, sample: Sample) -> ParsedAnswer:
    if letter in option_letters(sample.options):
        return ParsedAnswer(letter, ParseStatus.OK)
    return ParsedAnswer(letter, ParseStatus.NOT_AN_OPTION if completion.strip() else ParseStatus.EMPTY)


def single_pass_strip(text: str, characters: str) -> str:
    """`text` without these characters at its ends, each removed once and in this order, as the kits do.

    >>> single_pass_strip("B.,", ",."), "B.,".strip(",.")
    ('B', 'B')
    >>> single_pass_strip("B,.", ",."), "B,.".strip(",.")
    ('B,', 'B')
    """
    for character in characters:
        text = text.strip(character)
    return text


def most_similar(candidates: Sequence[str], text: str) -> int | None:
    """Position of the candidate with the highest `SequenceMatcher(None, candidate, text).ratio()`.

    The first of equal ones; None where no candidate shares a character. Where it errs: the longest option attracts
    whatever is no answer (refusals, prose), and in texts of 200 characters or more difflib ignores every character
    that makes up more than 1 % of them.
    """
    matcher: SequenceMatcher[str] = SequenceMatcher(None, "", text)
    best, best_ratio = None, 0.0
    for position, candidate in enumerate(candidates):
        matcher.set_seq1(candidate)
        # The two bounds are never below the ratio and much cheaper: only what may win is computed.
        if matcher.real_quick_ratio() > best_ratio and matcher.quick_ratio() > best_ratio:
            ratio = matcher.ratio()
            if ratio > best_ratio:
                best, best_ratio = position, ratio
    return best


SHORTEST_PROSE = 6
"""Words from which on option texts are looked for."""


class Candidates(NamedTuple):
    """A form in which letters are looked for, and the form whose last place decides between several."""

    form: str
    decided_by: str = " {} "


def latest_letter(text: str, options: Sequence[str], forms: Sequence[Candidates], *, by_text: bool) -> str | None:
    """The letter that `text` (padded with spaces) names by MMMU's rule, which has many copies.

    Of the first form that any letter has, the last to occur. `by_text` looks for option texts where no form is found
    and the text has more than five words. None where nothing is found: there the kits draw an option at random. Ties,
    letters that the deciding form never finds among them, go to the first option.
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
