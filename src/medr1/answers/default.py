"""Which option the text of an answer names: a letter, an option's text, or both when they agree.

Read: `B`, `b`, `(B)`, `B.`, `**B**`, `\\boxed{B}`, `Option B`, `The answer is B`, `B) Breast tissue`, `Breast tissue`.

Not read, on purpose:

- a letter with anything but its own text behind it ("A lesion", "B because …"): an article looks like a letter. Where
  the letter is marked as one ("B. Lung"), or the text is another option's ("C mass"), that is a contradiction;
- a part of an option's text, or more than it ("No" for "No diabetic retinopathy");
- letters of other alphabets that look like A to Z (full-width `Ｂ`, Cyrillic `В`): no prompt asks for them, and
  guessing across scripts would have no end.
"""

import re
import unicodedata
from collections.abc import Sequence

from medr1.answers.tags import AnswerFormat, answer_block, outside_thinking
from medr1.types import LETTERS, ParsedAnswer, ParseStatus, Sample

_SURROUNDING = " \t\r\n.,;:!?\"'`()[]{}*_$“”‘’。，、；：！？（）"
"""Punctuation that carries no meaning around an answer. Signs (+ - < > % =) stay: they may be all that differs."""
_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_LATEX_DEPTH = 4
"""Nested commands that are unwrapped. Without a bound, a completion that repeats one of them takes seconds to read."""
_LEAD_IN = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the|my)\s+)?(?:(?:correct|right|final|best|most likely)\s+)?"
    r"(?:answer|option|choice)\b(?:\s+is\b)?(?:\s*[:=])?(?:\s*\b(?:option|choice|letter)\b)?\s*",
    re.IGNORECASE,
)
_LETTER_AND_TEXT = re.compile(r"(?P<letter>[A-Za-z])(?P<between>\s+[-–—]\s+|[\s).:,;\]]+)(?P<text>\S.*)")
_MARKED_LETTER = re.compile(r"(?P<letter>[A-Za-z])\s*[).:\]]")
_BETWEEN_ANSWERS = re.compile(r"[,;/&\n]|\b(?:or|and)\b", re.IGNORECASE)
_LONE_CAPITAL = re.compile(r"(?<![\w'])[A-Z](?![\w'])")

_NOT_AN_OPTION = ParsedAnswer(None, ParseStatus.NOT_AN_OPTION)
_SEVERAL_LETTERS = ParsedAnswer(None, ParseStatus.SEVERAL_LETTERS)
_CONTRADICTION = ParsedAnswer(None, ParseStatus.CONTRADICTION)


def option_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The letters of a question's options: `("A", "B")` for two."""
    return tuple(LETTERS[: len(options)])


def normalise(text: str) -> str:
    """Text by which answers and options are compared: case, white space, markup and surrounding punctuation are gone.

    >>> normalise("**No**  diabetic\\nretinopathy.")
    'no diabetic retinopathy'
    """
    plain = " ".join(unicodedata.normalize("NFC", _without_markup(text)).split())
    # Nothing but punctuation is kept as it is: "!" and "?" may be the options.
    return (plain.strip(_SURROUNDING) or plain).casefold()


def read_answer(text: str, options: Sequence[str]) -> ParsedAnswer:
    """The option that an answer names; the letter is one of the question's own, or None.

    >>> read_answer("B) Breast tissue", ["CT", "Breast tissue"])
    ParsedAnswer(letter='B', status=<ParseStatus.OK: 'ok'>)
    """
    if not text.strip():
        return ParsedAnswer(None, ParseStatus.EMPTY)
    letters, texts = option_letters(options), [normalise(option) for option in options]
    text = _without_markup(text)
    answer = _read_one(text, letters, texts)
    lead_in = _LEAD_IN.match(text.strip(_SURROUNDING))
    if answer is _NOT_AN_OPTION and lead_in:
        text = lead_in.string[lead_in.end() :]
        answer = _read_one(text, letters, texts)
    if answer is not _NOT_AN_OPTION:
        return answer
    if len(_named(text, letters, texts)) > 1:
        return _SEVERAL_LETTERS
    marked = _MARKED_LETTER.match(text.strip(_SURROUNDING))
    return _CONTRADICTION if marked and marked["letter"].upper() in letters else _NOT_AN_OPTION


def _read_one(text: str, letters: Sequence[str], texts: Sequence[str]) -> ParsedAnswer:
    """Read a text that should name one option and nothing else; `texts` are the options, normalised."""
    bare = text.strip(_SURROUNDING)
    if len(bare) == 1 and bare.isascii() and bare.upper() in letters:
        return ParsedAnswer(bare.upper(), ParseStatus.OK)  # before the texts: prompts ask for a letter
    key = normalise(text)
    same_text = [letter for letter, option in zip(letters, texts, strict=False) if option == key and key]
    if same_text:
        return ParsedAnswer(same_text[0], ParseStatus.OK) if len(same_text) == 1 else _SEVERAL_LETTERS
    return _read_letter_and_text(bare, letters, texts)


def _read_letter_and_text(text: str, letters: Sequence[str], texts: Sequence[str]) -> ParsedAnswer:
    """Read "B. Breast tissue": the letter counts only beside its own text."""
    parts = _LETTER_AND_TEXT.fullmatch(" ".join(text.split()))
    if parts is None or parts["letter"].upper() not in letters:
        return _NOT_AN_OPTION
    letter, beside = parts["letter"].upper(), normalise(parts["text"])
    if texts[letters.index(letter)] == beside:
        return ParsedAnswer(letter, ParseStatus.OK)
    is_article = letter == "A" and not parts["between"].strip()
    return _CONTRADICTION if beside in texts and not is_article else _NOT_AN_OPTION


def _named(text: str, letters: Sequence[str], texts: Sequence[str]) -> set[str]:
    """Every option that the text mentions, as a lone capital or as one member of a list."""
    members = {_read_one(member, letters, texts).letter for member in _BETWEEN_ANSWERS.split(text)}
    capitals = set(_LONE_CAPITAL.findall(text)) & set(letters)
    return capitals | {letter for letter in members if letter}


def _without_markup(text: str) -> str:
    """Text without Markdown emphasis and without the LaTeX commands that only wrap an answer."""
    text = text.replace("*", "").replace("`", "")
    for _ in range(_LATEX_DEPTH):
        text = _LATEX.sub(r"\1", text)
    return text


def parse_answer(completion: str, sample: Sample, answer_format: AnswerFormat = "think") -> ParsedAnswer:
    """Read a completion; the letter is one of the question's options, or None with the reason as status.

    Thinking is removed first, so an answer inside it never counts. `think` and `nothink` are read alike: whether the
    thinking is there is a matter of the format reward. With `letter` the whole rest is the answer where there are no
    answer tags.

    >>> from medr1.types import Sample
    >>> sample = Sample(id="1", images=(), question="What is shown?", options=("CT", "Breast tissue"), answer_index=1)
    >>> parse_answer("<think>A?</think><answer>B. Breast tissue</answer>", sample).letter
    'B'
    """
    body, status = answer_text(completion, answer_format)
    return read_answer(body, sample.options) if status is ParseStatus.OK else ParsedAnswer(None, status)


def answer_text(completion: str, answer_format: AnswerFormat = "think") -> tuple[str, ParseStatus]:
    """What a completion gives as its one answer, whatever kind of answer that is, and `OK`; or why there is none.

    >>> answer_text("<think>About 12.</think><answer> 12.5 </answer>")
    ('12.5', <ParseStatus.OK: 'ok'>)
    """
    if not completion.strip():
        return "", ParseStatus.EMPTY
    rest = outside_thinking(completion)
    if rest is None:
        return "", ParseStatus.TRUNCATED
    body, status = answer_block(rest)
    if status is ParseStatus.MISSING_TAG and answer_format == "letter":
        return rest, ParseStatus.OK
    return body, status
