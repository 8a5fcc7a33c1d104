"""Which option a chain of thought comes to: the one that it names last and does not deny."""

import re
from collections.abc import Sequence

from medr1.answers.reading import option_letters

_DENIED = re.compile(
    r"(?:\b(?:not|no|nor|neither|never|without|unlike|exclud(?:e|es|ing)|rul(?:e|es|ing) out|rather than|instead of)"
    r"|n't)\s+(?:(?:a|an|the|be|is|option|answer|choice)\s+)*[\"'(]?\Z",
    re.IGNORECASE,
)
_DENIAL_LENGTH = 60
"""Characters before a name in which its denial may stand. Bounded, so that long thinking is read in linear time."""


def conclusion(thinking: str, options: Sequence[str]) -> str | None:
    """The letter of the option that the thinking names last, by letter or by text; None where it names none.

    A letter counts where it is marked as one: "answer is B", "option B", "(B)", "B) …", "B." or the last word. A name
    that is denied ("not B", "rather than MRI") does not count.

    >>> conclusion("An MRI? No bone marrow signal, so it is CT, not MRI.", ["CT", "MRI"])
    'A'
    >>> conclusion("The bright rim points to B.", ["CT", "MRI"])
    'B'
    """
    named = None
    for mention in _mentions(options).finditer(thinking):
        before = thinking[max(0, mention.start() - _DENIAL_LENGTH) : mention.start()]
        if not _DENIED.search(before):
            named = mention["letter"] or mention.lastgroup
    return named


def _mentions(options: Sequence[str]) -> re.Pattern[str]:
    """Pattern of an option's name: the group `letter`, or a group that is called as the letter whose text it holds.

    A longer text goes before one that it contains ("CT angiography", "CT").
    """
    letters = option_letters(options)
    texts = {letter: text.split() for letter, text in zip(letters, options, strict=False) if text.strip()}
    by_length = sorted(texts, key=lambda letter: -len(" ".join(texts[letter])))
    spelled = [rf"(?P<{letter}>(?i:" + r"\s+".join(map(re.escape, texts[letter])) + "))" for letter in by_length]
    one = f"[{''.join(letters)}]" if letters else "(?!)"
    marked = [
        rf"(?<=\(){one}(?=\))",
        rf"{one}(?=[).:](?:\s|\Z)|\s*\Z)",
        *(rf"(?<=\b(?i:{word})\s){one}" for word in ("option", "choice", "answer", r"answer\sis")),
    ]
    names = "|".join([*spelled, f"(?P<letter>{'|'.join(marked)})"])
    return re.compile(rf"(?<!\w)(?:{names})(?!\w)")
