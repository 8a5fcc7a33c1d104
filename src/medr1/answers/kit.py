"""From a rule of an evaluation kit to a protocol: what the kit extracts, and whether that is one of the options."""

from collections.abc import Callable, Sequence

from medr1.answers.reading import option_letters
from medr1.types import ParsedAnswer, ParseStatus, Sample

Extract = Callable[[str, Sequence[str]], str | None]
"""What a kit reads from a completion, given the option texts: a letter, another mark of its own, or None."""
Accept = Callable[[str, Sequence[str]], Sequence[str]]
"""The letters that a kit would accept as gold for a completion, given the option texts."""


def reads(extract: Extract) -> Callable[[str, Sample], ParsedAnswer]:
    """A protocol that answers what `extract` extracts; unreadable where that is no option of the question."""

    def protocol(completion: str, sample: Sample) -> ParsedAnswer:
        letter = extract(completion, sample.options) if sample.options else None
        return _parsed(letter, completion, sample)

    return protocol


def accepts(accept: Accept) -> Callable[[str, Sample], ParsedAnswer]:
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
