"""What a text names, and which option a chain of thought comes to; for rewards, evaluations and comparisons alike.

A name counts as whole words, where it is not denied shortly before: "not the lung", "rather than MRI", "compared to
MRI". The rule knows no paraphrase ("pulmonary" for "Lung"), sees a denial only within the four words of a clause before
what it denies, and takes any "no" for the option "No".
"""

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from medr1.types import LETTERS


def word_rows(name: str, package: str = "medr1.answers") -> list[dict[str, str]]:
    """The lines of a word list, `words/NAME.tsv` of a package, by the columns of its first line.

    Word lists are tables that a physician can read and correct. Lines that begin with # are remarks.
    """
    lines = (files(package) / "words" / f"{name}.tsv").read_text("utf-8").splitlines()
    return list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t", strict=True))


def words_of(name: str, **wanted: str) -> list[str]:
    """The column `words` of the rows that have these values in the others, longest first."""
    found = [row["words"] for row in word_rows(name) if all(row[column] == value for column, value in wanted.items())]
    return sorted(found, key=len, reverse=True)


DENIAL_REACH = 4
"""Words before a name among which a denial counts."""
DENIALS = frozenset(words_of("denials", kind="denied"))
"""Words that deny what follows."""
_WINDOW = 200
"""Characters before a name in which its denial is looked for. Bounded, so that long thinking is read in linear time."""
_COMPARED = re.compile(rf"\b(?:{'|'.join(words_of('denials', kind='compared'))})\b")
"""What is only compared with is as little concluded as what is denied; "contrast" alone is a word of radiology."""
_NEGATED = re.compile(r"\b(?:ca|wo|is|are|was|were|do|does|did|has|have|had|could|would|should|must)n t\b")
"""What `plain_words` makes of "isn't"."""
_BREAK = re.compile(r"[,;:.!?\n]+")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+(?=\s*[^\sa-z])")
_LETTER = re.compile(
    r"\b(?i:option|answer|choice)(?:\s+is)?\s*[:=]?\s*\(?"
    r"(?:(?P<named>[B-HJ-Z])(?!\w)|(?P<first>[AI])(?=\)|\s*(?:[.,;:!?]|$)))"
    r"|\((?P<bracketed>[A-Z])\)|(?<![\w(])(?P<listed>[A-Z])\)"
    r"|\b(?i:is|be|to|as|so|hence|thus|therefore|choose|pick|select|say)\s+(?P<last>[A-Z])[.!]?\s*\Z",
    re.MULTILINE,
)
"""A letter that stands for an option. Only capitals: "a)" numbers a list; "the answer is A lesion" and "hepatitis B"
have none."""


@lru_cache(maxsize=2**17)
def plain_words(text: str) -> str:
    """Lower-case words and numbers, without punctuation: `The "CT."` and `the ct` are the same text.

    For questions and options, which come again and again.
    """
    return _plain_words(text)


def _plain_words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def clauses(text: str) -> str:
    """Plain words with a bar after the clauses: a denial ends with its clause.

    >>> clauses("Not the lung, it is the Liver.")
    'not the lung | it is the liver |'
    """
    *ended, last = map(_plain_words, _BREAK.split(text))
    joined = " ".join([*(f"{clause} |" for clause in ended if clause), last]).strip()
    return _COMPARED.sub("unlike", _NEGATED.sub("not", joined))


def denied(before: str) -> bool:
    """Whether a text of `clauses` ends with a denial: "not the", "no sign of", "rather than"."""
    clause = re.split(r"\||\bbut\b", before[-_WINDOW:])[-1]
    return not DENIALS.isdisjoint(clause.split()[-DENIAL_REACH:])


def mentioned(text: str, names: Sequence[str]) -> set[int]:
    """Positions of the names, in plain words, that a text has as whole words and does not deny.

    Longer names go first, and what they cover does not count for shorter ones.

    >>> sorted(mentioned("I see no tumor but a cyst, not a stone", ["tumor", "no tumor", "cyst", "stone"]))
    [1, 2]
    """
    rest = clauses(text)
    found = set()
    for position in sorted(range(len(names)), key=lambda i: -len(names[i])):
        if not names[position]:
            continue
        words = r"(?: \|)? ".join(map(re.escape, names[position].split()))
        pattern = re.compile(rf"(?<!\S){words}(?!\S)")
        if any(not denied(rest[max(0, match.start() - _WINDOW) : match.start()]) for match in pattern.finditer(rest)):
            found.add(position)
        rest = pattern.sub(lambda match: re.sub(r"\w", "_", match[0]), rest)
    return found


def conclusion(thinking: str, options: Sequence[str]) -> int | None:
    """Position of the option that a thinking concludes; None where it names none, or several in its last such sentence.

    An option is named by its whole text (`Breast tissue`), by `option B` or `answer: B`, by `(B)` or `B)`, and by a
    sentence that ends with "is B".

    >>> conclusion("Not the liver. I see the lung. The borders are sharp.", ["Liver", "Lung"])
    1
    >>> conclusion("Compared to MRI, this is CT.", ["CT", "MRI"])
    0
    >>> conclusion("It could be lung or liver.", ["Liver", "Lung"]) is None
    True
    """
    texts = [plain_words(option) for option in options]
    for sentence in reversed(_SENTENCE_END.split(thinking)):
        named = mentioned(sentence, texts) | _lettered(sentence, len(options))
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _lettered(sentence: str, num_options: int) -> set[int]:
    """Positions of the options that a sentence names by their letters and does not deny."""
    letters = LETTERS[:num_options]
    return {
        letters.index(match[match.lastgroup or 0])
        for match in _LETTER.finditer(sentence)
        if match[match.lastgroup or 0] in letters
        and not denied(clauses(sentence[max(0, match.start() - _WINDOW) : match.start()]))
    }
