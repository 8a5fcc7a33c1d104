"""When two answers may not stand side by side: because they say the same, or because one of them implies the other.

Rules come first (the words of one answer are among those of the other), and a short list holds what rules cannot know.
The list, `words/synonyms.tsv`, was written from the answers of the public data sets; a pair in it is a claim that a
reader can check.
"""

import re
from functools import cache

from medr1.answers.wording import plain_words, word_rows

NO_ABNORMALITY = "No abnormality"


def _members(kind: str) -> list[tuple[str, ...]]:
    """The members of every row of a kind."""
    return [tuple(row["words"].split(" | ")) for row in _ROWS if row["kind"] == kind]


_ROWS = word_rows("synonyms", "medr1.data")
WORD = {word: row["means"] for row in _ROWS if row["kind"] == "same word" for word in row["words"].split(" | ")}
"""Words that name the same thing in this field's answers."""
_FILLERS = frozenset(*_members("filler"))
_NEGATIONS = frozenset(*_members("negation"))
_POLAR_FILLERS = _FILLERS.union(*_members("filler of yes/no questions"))
TRUE_TOGETHER: frozenset[frozenset[str]] = frozenset(
    frozenset((one, other)) for group in _members("true together") for one in group for other in group if one != other
)
"""Pairs of answers of which one may be true where the other is, although their words do not tell."""

IMAGING: tuple[tuple[str, str], ...] = (
    (r"(chest )?x rays?( radiography)?|radiography|xray", "X-ray"),
    (r"mammograph?y|mammogram", "Mammography"),
    (r"(ct|computed tomography( ct)?|ct scan)", "Computed tomography (CT)"),
    (r"(mri|mr|magnetic resonance imaging( mri)?)", "Magnetic resonance imaging (MRI)"),
    (r"(ultrasound|ultrasonography)( imaging)?", "Ultrasound"),
    (r"(dermoscopy|dermoscopic imaging|dermatoscopy)", "Dermoscopy"),
    (r"(oct|optical coherence tomography( oct)?)", "Optical coherence tomography (OCT)"),
    (r".*\bfundus (imaging|photography)|retinal photography", "Fundus photography"),
    (r"(.*\b)?microscopy|histopathology|.*histological image", "Microscopy"),
)
"""Answers to the question for the imaging technique, and the one name that they all get."""

_NORMAL_ANSWERS = (
    r"(no )?(it s |its )?(a )?normal( image)?|no abnormality detected( normal)?|no abnormality|"
    r"no the image appears normal|no this is a normal chest x ray image|the lungs appear healthy and normal|"
    r"the diagnosis is normal lung|there are no specific abnormalities observed in this image|"
    r"in this image there are no apparent abnormalities it represents a normal or fundus of high myopia"
)
"""Answers that find nothing, to whatever question about the whole image."""


def imaging_technique(answer: str) -> str | None:
    """The one name of the imaging technique that an answer names, or None.

    >>> imaging_technique("Retinal Fundus imaging."), imaging_technique("Fundus of high myopia")
    ('Fundus photography', None)
    """
    plain = plain_words(answer)
    return next((name for pattern, name in IMAGING if re.fullmatch(pattern, plain)), None)


UNCLEAR_ANSWERS = frozenset({"intra"})
"""Answers, tidied, that say nothing: labels of a data set that never became a text."""


def finds_nothing(answer: str) -> bool:
    """Whether an answer says that the image as a whole is normal; a bare "No" depends on its question and does not."""
    return re.fullmatch(_NORMAL_ANSWERS, plain_words(answer)) is not None


@cache
def words_of(answer: str) -> tuple[frozenset[str], bool]:
    """The content words of an answer, synonyms made one, and whether it denies something."""
    words = [WORD.get(word, word) for word in plain_words(answer).split()]
    return frozenset(words) - _FILLERS - _NEGATIONS, not _NEGATIONS.isdisjoint(words)


@cache
def exclusive(one: str, other: str) -> bool:
    """Whether at most one of two answers can be right, as far as rules and list know.

    >>> exclusive("Thyroid", "Thyroid nodule"), exclusive("Bowel abnormality", "Bowel inflammation")
    (False, False)
    >>> exclusive("No diabetic retinopathy", "Mild diabetic retinopathy")
    True
    """
    if frozenset((plain_words(one), plain_words(other))) in TRUE_TOGETHER or _is_stage(one) != _is_stage(other):
        return False
    (words_one, denies_one), (words_other, denies_other) = words_of(one), words_of(other)
    if denies_one != denies_other:
        return True
    return not (_names(words_one) <= words_other or _names(words_other) <= words_one)


def _is_stage(answer: str) -> bool:
    """A stage is true beside a diagnosis, which never contradicts it."""
    return plain_words(answer).startswith("stage ")


def _names(words: frozenset[str]) -> frozenset[str]:
    """What another answer must name to be a case of this one: "bowel abnormality" includes "bowel inflammation"."""
    return words - {"finding"}


_ABNORMAL_PHRASES = re.compile(r"\bout of the ordinary\b|\bdeviat\w+ from (the |what is )?norm\w*", re.IGNORECASE)


def topic(question: str) -> str:
    """What a yes/no question asks about: its content words in order of the alphabet, negations kept.

    >>> topic("Does this CT image show any irregularities?"), topic("Is there anything out of the ordinary?")
    ('finding', 'finding')
    """
    words = plain_words(_ABNORMAL_PHRASES.sub("abnormality", question)).split()
    return " ".join(sorted({WORD.get(word, word) for word in words} - _POLAR_FILLERS))


def tidy(answer: str) -> str:
    """An answer without what betrays it: outer space, underscores, a closing full stop, a small first letter, a "No, ".

    >>> tidy(" x_ray."), tidy("No, the tail appears to be normal")
    ('X ray', 'The tail appears to be normal')
    """
    text = " ".join(answer.replace("_", " ").split()).rstrip(".").rstrip()
    text = re.sub(r"^(yes|no), (?=\w)|(?<=\w) type of radimagenet dataset$", "", text, flags=re.IGNORECASE)
    return text[:1].upper() + text[1:]
