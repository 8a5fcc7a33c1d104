"""Options and the right one as their author wrote them: labels, spellings, letters left out, words for other options.

An option that is empty in the data is a letter that the question leaves out: it stays an empty text, so that the
letters of the others are those of the data. Prompts do not show it, and no gold names it. What stands for pictures in a
text is taken out, as pictures are shown by themselves.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Literal

from medr1.answers.default import read_answer
from medr1.answers.wording import plain_words, word_rows
from medr1.errors import DataError
from medr1.types import LETTERS, ParseStatus, Sample

Says = Literal["letter", "text", "either"]
"""What a format promises of its answers, where one option's text is another one's letter."""

MISSING = frozenset({"", "nan", "<na>", "#n/a", "null"})
"""How programs write a cell that holds nothing; "None" and "NA" may be answers."""

_LABEL = re.compile(r"\s*[(\[（【]?([A-Za-z])\s?[).:\]、．。：）】]\s*(\S.*)", re.DOTALL)
"""`A. text`, `(A) text`, `a: text`, `A、text`."""
_ANSWER_TAGS = re.compile(r"\s*<answer>(.*)</answer>\s*", re.IGNORECASE | re.DOTALL)
_LETTER = re.compile(r"[(\[（【]?\s*([A-Za-z])\s*[)\].:）】。．]?\.?")
_JOINED = r"(?: |and|or|nor|but|not|plus|as|well|和|与|及|或|者|以|且|但)+"
"""What stands between letters in `A and B`, in the words of `plain_words`."""


def absent(value: Any) -> bool:
    """Whether a cell holds nothing: null, white space, or what programs write for a number that is none.

    >>> absent(None), absent(" "), absent("nan"), absent(float("nan")), absent("None")
    (True, True, True, True, False)
    """
    if value is None:
        return True
    if isinstance(value, str):
        if len(value) > 8:
            return value.isspace()
        return not value or value.isspace() or value.strip().casefold() in MISSING
    return isinstance(value, float) and value != value


def given_options(values: Sequence[Any]) -> tuple[str, ...]:
    """The options in cells that may be empty, without their labels; empty ones behind the last option are dropped.

    `DataError` for an option that is no text, and for labels in another order than the options.
    """
    filled = ["" if absent(value) else value for value in values]
    if any(not isinstance(value, str) for value in filled):
        raise DataError("an option is not a text; put it in quotes")
    while filled and not filled[-1]:
        filled.pop()
    return without_labels(filled)


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """The texts of options that are written "A. text"; left alone unless every one is labelled.

    `DataError` where all are labelled, with the letters of this question, but in another order.

    >>> without_labels(["A. CT", "B. MRI"]), without_labels(["E. coli", "S. aureus"])
    (('CT', 'MRI'), ('E. coli', 'S. aureus'))
    """
    if not _LABEL.fullmatch(next(filter(None, options), "")):  # of nearly all questions
        return tuple(option.strip() for option in options)
    found = [_LABEL.fullmatch(option) for option in options]
    places = [LETTERS[place] for place, option in enumerate(options[: len(LETTERS)]) if option]
    labels = [match[1].upper() for match in found if match]
    if len(places) < 2 or sorted(labels) != places:
        return tuple(option.strip() for option in options)
    if labels != places:
        wrong = next(place for place, label in zip(places, labels, strict=True) if place != label)
        raise DataError(f"option {wrong} has the label of another option; put the options in the order of their labels")
    return tuple("" if match is None else match[2].strip() for match in found)


def gold_index(answer: str, options: Sequence[str], says: Says = "either") -> int:
    """Position of the right option: by its letter, its text or both, in any spelling that can mean but one option.

    `DataError` where the answer names no option, several, or one by its letter and another by its text.

    >>> [gold_index(answer, ["CT", "MRI"]) for answer in ("B", "b", "(B)", "B. MRI", "mri", "<answer> B </answer>")]
    [1, 1, 1, 1, 1, 1]
    """
    tagged = _ANSWER_TAGS.fullmatch(answer)
    bare = (tagged[1] if tagged else answer).strip()
    exact = [place for place, option in enumerate(options) if option.strip() == bare and bare]
    if exact and says == "text":
        return exact[0]
    letter = _LETTER.fullmatch(unicodedata.normalize("NFKC", bare))
    if letter is not None:
        return _by_letter(letter[1].upper(), exact, options, says)
    if exact:
        return exact[0]
    read = read_answer(bare, options)
    if read.letter is not None and options[LETTERS.index(read.letter)]:
        return LETTERS.index(read.letter)
    why = {
        ParseStatus.SEVERAL_LETTERS: "names more than one option; name the one that is right",
        ParseStatus.CONTRADICTION: "has the letter of one option and the text of another; correct one of them",
    }.get(read.status, "is not among the options; write it as its option, or as a letter")
    raise DataError(f"the answer {bare[:80]!r} {why}")


def _by_letter(letter: str, exact: Sequence[int], options: Sequence[str], says: Says) -> int:
    """Position of a letter; `exact` are the options that are this text."""
    place = LETTERS.index(letter)
    is_there = place < len(options) and bool(options[place])
    if is_there and says == "either" and exact and place not in exact:
        raise DataError(f"the answer {letter} is the letter of one option and the text of another; rewrite that option")
    if is_there:
        return place
    if exact:
        return exact[0]
    offered = [LETTERS[i] for i, option in enumerate(options[: len(LETTERS)]) if option]
    where = "is left out of" if place < len(options) else "is outside"
    raise DataError(f"the gold letter {letter} {where} the options {' '.join(offered)}; correct the letter")


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


# --- Places of pictures ---------------------------------------------------------------------------------------------

_UNNUMBERED = (
    r"(?:<(?:image|img|ImageHere|image-placeholder|start_of_image|\|image\|)>"
    r"|(?:<\|vision_start\|>)?(?:<\|(?:image|video)_pad\|>)+(?:<\|vision_end\|>)?)"
)
"""What stands for a picture in texts that models are trained on: of LLaVA, InternLM, Gemma, Llama, Qwen-VL."""
_PLACE = re.compile(rf"<\|?(?:image|img)[ _]?(?P<number>[1-9]\d?)\|?>|{_UNNUMBERED}")
"""Those, and the numbered ones of MMMU and Phi."""
_OUTSIDE = re.compile(rf"(?P<before>(?:\s|{_UNNUMBERED})*)(?P<text>.*?)(?:\s|{_UNNUMBERED})*", re.DOTALL)
_OWN_LINE = re.compile(rf"^[ \t]*{_UNNUMBERED}[ \t]*\n", re.MULTILINE)


def without_places(text: str, num_images: int) -> str:
    """A text without the places of its pictures; one amid the words, or with a number, becomes "image 2".

    Around the text they say nothing: pictures are shown in their order. `DataError` for more places than pictures.

    >>> without_places("<image> Which?", 1), without_places("Is <image> older than <image>?", 2)
    ('Which?', 'Is image 1 older than image 2?')
    """
    if "<" not in text:
        return text.strip()
    numbers = [int(found["number"] or 0) for found in _PLACE.finditer(text)]
    if max([numbers.count(0), *numbers]) > num_images:
        raise DataError(f"the text has places for more pictures than the {num_images} of the record; name them all")
    if num_images == 1:
        text = _OWN_LINE.sub("", text)
    inside = _OUTSIDE.fullmatch(text)
    assert inside is not None, "every part may be empty"
    count = itertools.count(1 + len(_PLACE.findall(inside["before"])))
    words, behind = inside["text"], text[inside.end("text") :]
    if words and words[-1].isalnum() and "\n" not in behind:  # the sentence ends with the picture
        words = (words + behind).rstrip()
    return _PLACE.sub(lambda found: f"image {found['number'] or next(count)}", words)
