"""How the published systems read an answer, letter for letter, weaknesses included.

`letter` holds exactly what they extract, which need not be an option ('BB', 'K', 'b', a whole output); a completion is
right where `letter == sample.gold`. The status is ours: `OK` only for one of the question's own letters.

MedVLM-R1: arXiv 2502.19634. Med-R1: arXiv 2503.13939. AdvMed-R1 is a fork of Med-R1 with its own clean evaluation.
"""

import re
from collections.abc import Callable

from medr1.answers.default import option_letters
from medr1.answers.tags import answer_block, outside_thinking
from medr1.types import ParsedAnswer, ParseStatus, Sample

_CAPITAL = re.compile(r"<answer>\s*([A-Z])\s*</answer>")
_WORD = re.compile(r"<answer>\s*(\w+)\s*</answer>")
_WORD_ANY_CASE = re.compile(_WORD.pattern, re.IGNORECASE)


def one_capital(completion: str) -> str | None:
    """MedVLM-R1 `complex`: one capital letter between the first answer tags that hold just that."""
    match = _CAPITAL.search(completion)
    return match[1] if match else None


def whole_output(completion: str) -> str:
    """The raw output, unstripped: MedVLM-R1 `simple`, Med-R1 zero-shot, and Med-R1 no-think of Qwen2-VL."""
    return completion


def one_word(completion: str) -> str | None:
    """Med-R1: one word between answer tags, case-sensitive."""
    match = _WORD.search(completion)
    return match[1] if match else None


def one_word_or_whole_output(completion: str) -> str | None:
    """Med-R1 no-think of Qwen2.5-VL: `one_word` if the output contains "answer" anywhere, else the raw output."""
    return one_word(completion) if "answer" in completion else completion


def one_word_upper(completion: str) -> str | None:
    """AdvMed-R1: as Med-R1, but tags in any case, and the word is upper-cased."""
    match = _WORD_ANY_CASE.search(completion)
    return match[1].upper() if match else None


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "medvlm-r1/complex": one_capital,
    "medvlm-r1/simple": whole_output,
    "med-r1/think": one_word,
    "med-r1/nothink": one_word_or_whole_output,
    "med-r1/zeroshot": whole_output,
    "advmed-r1": one_word_upper,
}


def as_protocol(extract: Callable[[str], str | None]) -> Callable[[str, Sample], ParsedAnswer]:
    """A protocol that answers what `extract` extracts, with the status that says whether it is an option."""

    def protocol(completion: str, sample: Sample) -> ParsedAnswer:
        extracted = extract(completion)
        if extracted in option_letters(sample.options):
            return ParsedAnswer(extracted, ParseStatus.OK)
        return ParsedAnswer(extracted, _why_not(completion, extracted))

    return protocol


def _why_not(completion: str, extracted: str | None) -> ParseStatus:
    """Why what was extracted is no option's letter."""
    if not completion.strip():
        return ParseStatus.EMPTY
    if extracted is not None:
        return ParseStatus.NOT_AN_OPTION
    rest = outside_thinking(completion)
    if rest is None:
        return ParseStatus.TRUNCATED
    body, status = answer_block(rest)
    if status is not ParseStatus.OK:
        return status
    return ParseStatus.NOT_AN_OPTION if body else ParseStatus.EMPTY
