"""Whether a completion refuses to answer. Protocols differ in what they make of that: some score it as an option."""

import re

from medr1.answers.tags import outside_thinking
from medr1.answers.wording import words_of


def _any(kind: str, language: str) -> str:
    """A pattern of the words of that kind; white space may be of any width."""
    words = words_of("refusals", kind=kind, language=language)
    return "(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words) + ")"


_REFUSAL = re.compile(
    rf"\b(?:{_any('phrase', 'en')}|{_any('inability', 'en')}\s+(?:\w+\s+){{0,2}}?{_any('deed', 'en')})\b"
    rf"|{_any('phrase', 'zh')}|{_any('inability', 'zh')}{_any('deed', 'zh')}",
    re.IGNORECASE,
)


def is_refusal(completion: str) -> bool:
    """Whether what lies outside the thinking says that it gives no answer, in English or Chinese.

    An answer block that holds just a letter is an answer, whatever is said beside it: the phrase must stand in the
    answer, or there must be no block.

    >>> is_refusal("I'm sorry, but without the image provided I cannot answer."), is_refusal("B, not A")
    (True, False)
    """
    rest = outside_thinking(completion)
    if rest is None:
        return False
    blocks = re.findall(r"<answer>(.*?)</answer>", rest, re.IGNORECASE | re.DOTALL)
    said = " ".join(blocks) if blocks else rest
    return bool(_REFUSAL.search(said.replace("’", "'")))
