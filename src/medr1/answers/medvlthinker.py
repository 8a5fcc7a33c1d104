"""MedVLThinker (UCSC-VLAA/MedVLThinker, commit a3163b1): equality with the gold label, its text, or "label. text".

Nothing else is right: `B.`, `(B)`, `**B**` and `B: text` are wrong, and so is a full stop after the text. The rule that
it has for LLaVA-Med also takes the gold text anywhere inside what is compared ("ct" in "architectural").
"""

import re
from collections.abc import Sequence

from medr1.answers.reading import option_letters

_BODY = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")
_LEAD_INS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"answer:\s*(.*)\s*", r"answer is:\s*(.*)\s*", r"answer is\s*(.*)\s*", r"is:\s*(.*)\s*")
)


def inline(completion: str, options: Sequence[str]) -> list[str]:
    """While it evaluates: the first answer block, else everything."""
    body = _BODY.search(completion)
    return _equal(body[1] if body else completion, options)


def regrade(completion: str, options: Sequence[str]) -> list[str]:
    """When it grades again: the first line of the last answer block, else what follows "answer is", else all."""
    return _equal(_regraded(completion), options)


def regrade_llava_med(completion: str, options: Sequence[str]) -> list[str]:
    """The same, or the text of the option anywhere in what is compared."""
    text = _regraded(completion).lower()
    inside = [
        letter for letter, option in zip(option_letters(options), options, strict=False) if option.lower() in text
    ]
    return [*regrade(completion, options), *inside]


def _regraded(completion: str) -> str:
    bodies = _BODY.findall(completion)
    if bodies:
        return next((line for line in bodies[-1].splitlines() if line.strip()), "")
    for lead_in in _LEAD_INS:
        found = lead_in.findall(completion)
        if found:
            return _TAGS.sub("", found[-1])
    return _TAGS.sub("", completion)


def _equal(text: str, options: Sequence[str]) -> list[str]:
    text = text.strip().lower()
    return [
        letter
        for letter, option in zip(option_letters(options), options, strict=False)
        if text in (f"{letter}. {option}".lower(), letter.lower(), option.lower())
    ]


def text_match(completion: str, answer: str) -> bool:
    """Its rule while it evaluates, without labels."""
    body = _BODY.search(completion)
    return (body[1] if body else completion).strip().lower() == answer.lower()
