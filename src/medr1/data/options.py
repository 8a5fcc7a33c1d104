"""Options as their author wrote them: labels, letters that are left out, and options that speak of other options.

An option that is empty in the data is a letter that the question leaves out: it stays an empty text, so that the
letters of the others are those of the data. Prompts do not show it, and no gold names it.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache

from medr1.answers.wording import plain_words, word_rows
from medr1.types import LETTERS, Sample

_LABEL = re.compile(r"\s*[(\[（【]?([A-Za-z])\s?[).:\]、．。：）】]\s*(\S.*)", re.DOTALL)
"""`A. text`, `(A) text`, `a: text`, `A、text`."""
_JOINED = r"(?: |and|or|nor|but|not|plus|as|well|和|与|及|或|者|以|且|但)+"
"""What stands between letters in `A and B`, in the words of `plain_words`."""


def keeps_order(sample: Sample) -> bool:
    """Whether another order of the options would change what they say, so that none may be drawn.

    True where options speak of others, where a letter is left out, and where an option begins with its own letter.
    """
    labelled = (_label_of(option) == LETTERS[place] for place, option in enumerate(sample.options))
    return "" in sample.options or any(labelled) or options_refer(sample)


def options_refer(sample: Sample) -> bool:
    """Whether an option speaks of others: by letter ("Both A and B", a lone "C") or as "None of the above".

    The words are those of `words/option_references.tsv`, in English and Chinese.
    """
    offered = set(LETTERS[: len(sample.options)].lower())
    named = map(_letters_meant, sample.options)
    return any(letters is not None and letters <= offered for letters in named)


@lru_cache(maxsize=2**16)
def _letters_meant(option: str) -> frozenset[str] | None:
    """The letters that an option speaks of, small; none of them in "All of the above"; None where it speaks of none."""
    text = option.strip()
    # Small letters alone are more often the panels of a figure than options.
    found = None if len(text) == 1 and text.islower() else _references().search(plain_words(text))
    return None if found is None else frozenset(re.findall(r"(?<![a-z])[a-z](?![a-z])", found["letters"] or ""))


@cache
def _references() -> re.Pattern[str]:
    """One pattern over `plain_words` for all lines of the table."""
    one_of: dict[str, list[str]] = {"whole": [], "start": [], "anywhere": []}
    lettered = []
    for row in word_rows("option_references", "medr1.data"):
        pattern = re.escape(row["words"]).replace(r"\{letters\}", rf"[a-z](?:{_JOINED}[a-z])*").replace("\\ ", " ")
        (lettered if "{letters}" in row["words"] else one_of[row["where"]]).append(pattern)
    # Chinese has no spaces: there a phrase may touch other words.
    edges = [rf"(?<![a-z0-9])(?:{'|'.join(one_of['anywhere'])})(?![a-z0-9])", rf"^(?:{'|'.join(one_of['start'])})"]
    whole = [rf"^(?:{'|'.join(one_of['whole'])})$", rf"^(?P<letters>{'|'.join(lettered)})$"]
    return re.compile("|".join([*whole, *edges]))


def _label_of(option: str) -> str | None:
    found = _LABEL.fullmatch(option)
    return found[1].upper() if found else None


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """The texts of options that are written "A. text"; left alone unless every one is labelled with its own letter.

    >>> without_labels(["A. CT", "B. MRI"]), without_labels(["E. coli", "S. aureus"])
    (('CT', 'MRI'), ('E. coli', 'S. aureus'))
    """
    found = [_LABEL.fullmatch(option) for option in options]
    places = [place for place, option in enumerate(options) if option]
    labels = [match[1].upper() for match in found if match]
    if len(labels) == len(places) and labels == [LETTERS[place] for place in places]:
        return tuple("" if match is None else match[2].strip() for match in found)
    return tuple(option.strip() for option in options)
