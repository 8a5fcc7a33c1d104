"""What the text of an answer says where it is no option's letter: yes or no, a number, several labels, free text.

Each reader returns None for what is no answer of its kind. They are strict for the reason that `reading.py` gives:
what a reward reads, training finds.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

from medr1.answers.default import normalise, option_letters, without_lead_in
from medr1.answers.wording import word_rows
from medr1.types import Sample

_YES_OR_NO = {row["words"]: row["answer"] for row in word_rows("yes_no")}
_NUMBER = re.compile(r"[-+]?(?:\d+(?:[.,]\d+)*|[.,]\d+)", re.ASCII)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_BETWEEN_LABELS = re.compile(r"[;,|\n；，｜、]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
LABEL_SEPARATOR = "; "


def is_visible(text: str) -> bool:
    """Whether something stands there and every character of it shows: no zero-width, control or format character.

    >>> is_visible("left lobe"), is_visible(" "), is_visible("left\\u200b lobe")
    (True, False, False)
    """
    plain = " ".join(text.split())
    return bool(plain) and plain.isprintable()


def read_yes_no(text: str) -> str | None:
    """`Yes` or `No` where the text says just that (`words/yes_no.tsv`), maybe after "The answer is".

    >>> [read_yes_no(text) for text in ("yes.", "The answer is No", "是。", "答案：没有", "yes or no", "A")]
    ['Yes', 'No', 'Yes', 'No', None, None]
    """
    plain = normalise(text)
    return _YES_OR_NO.get(plain) or _YES_OR_NO.get(normalise(without_lead_in(plain)))


def read_number(text: str) -> float | None:
    """The number that the text is, in digits and without a unit.

    A comma is a decimal sign unless it stands before groups of three digits.

    >>> [read_number(text) for text in ("12.50", "-3", "1,234", "0,125", "12.5 mm", "1 or 2", "twelve")]
    [12.5, -3.0, 1234.0, 0.125, None, None, None]
    """
    plain = text.strip().removesuffix(".").strip("*`$ ").removesuffix(".").replace("\N{MINUS SIGN}", "-")
    if not _NUMBER.fullmatch(plain):
        return None
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain.replace(",", ".")
    return float(plain) if plain.count(".") <= 1 else None


def read_labels(text: str, options: Sequence[str] = ()) -> frozenset[str] | None:
    """The labels that the text lists, normalised; with options, their letters stand for them.

    Semicolons, commas, bars and line breaks stand between labels.

    >>> sorted(read_labels("Effusion; **cardiomegaly**, effusion"))
    ['cardiomegaly', 'effusion']
    """
    if not is_visible(text):
        return None
    by_letter = dict(zip(option_letters(options), map(normalise, options), strict=False))
    parts = [part.strip() for part in _BETWEEN_LABELS.split(text)]
    labels = {by_letter.get(part.strip(".() ").upper(), normalise(part)) for part in parts if part}
    return frozenset(label for label in labels if label) or None


def read_words(text: str) -> tuple[str, ...] | None:
    """The words of a free text, normalised as in SQuAD (arXiv 1606.05250, its evaluation script).

    Lower case; punctuation (there: ASCII only) and the articles a, an, the are gone.

    >>> read_words("The left, upper lobe."), read_words("是。")
    (('left', 'upper', 'lobe'), ('是',))
    """
    if not is_visible(text):
        return None
    kept = (c for c in text.lower() if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return tuple(_ARTICLES.sub(" ", "".join(kept)).split()) or None


def gold_text(sample: Sample) -> str | None:
    """What a right completion gives as its answer, whatever the type; None where the sample has no gold answer."""
    if sample.gold is not None:
        return sample.gold
    if sample.answer_type == "multi":
        return LABEL_SEPARATOR.join(sample.answers) or None
    return next(iter(sample.answers), None)
