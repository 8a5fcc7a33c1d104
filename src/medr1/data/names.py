"""What data call modalities and tasks, in the words of the record contract; the words stand in `words/names.tsv`."""

import re
from functools import cache, lru_cache
from typing import cast

from medr1.answers.wording import plain_words, word_rows
from medr1.types import Modality, Task


def _rows(kind: str) -> dict[str, str]:
    return {row["words"]: row["means"] for row in word_rows("names", "medr1.data") if row["kind"] == kind}


DATASET_MODALITY = cast(dict[str, Modality], _rows("data set"))
"""Modality of the OmniMedVQA data sets that have only one; RadImageNet and OCT & X-Ray 2017 have several."""


@lru_cache(maxsize=2**12)
def modality_of(name: str) -> Modality:
    """Modality that a name stands for, or the one whose words it has; "unknown" for none and for several.

    >>> modality_of("MR (Mag-netic Resonance Imaging)"), modality_of("Chest X-ray"), modality_of("OCT & X-Ray 2017")
    ('MRI', 'X-Ray', 'unknown')
    """
    known, words = _modality_words()
    whole = known.get(_letters(name))
    # A list of several is no name; a remark in brackets may repeat it in other words.
    named = {known[_letters(found)] for found in words.findall(plain_words(name))}
    found = whole or (named.pop() if len(named) == 1 else "unknown")
    return cast(Modality, found)


@cache
def _modality_words() -> tuple[dict[str, str], re.Pattern[str]]:
    """The table by its words without spaces, and a pattern for them in `plain_words`, longest first."""
    rows = {plain_words(words): means for words, means in _rows("modality").items()}
    alone = {plain_words(words): means for words, means in _rows("modality alone").items()}
    ordered = sorted(rows, key=len, reverse=True)
    # Latin words stand apart; Chinese ones have no spaces around them.
    latin = "|".join(re.escape(words) for words in ordered if words.isascii())
    other = "|".join(re.escape(words) for words in ordered if not words.isascii())
    pattern = re.compile(rf"(?<![a-z0-9])(?:{latin})(?![a-z0-9])|(?:{other})")
    return {_letters(words): means for words, means in {**rows, **alone}.items()}, pattern


@lru_cache(maxsize=4096)
def task_of(name: str) -> Task:
    """Task that a name stands for, whatever its case and punctuation; "unknown" when it stands for none."""
    return cast(Task, _task_words().get(_letters(name), "unknown"))


@cache
def _task_words() -> dict[str, str]:
    return {_letters(words): means for words, means in _rows("task").items()}


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
