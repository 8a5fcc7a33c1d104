"""Whether a completion refuses to answer. Protocols differ in what they make of that: some score it as an option."""

import re

from medr1.answers.tags import outside_thinking

_REFUSAL = re.compile(
    r"\b(?:i\s*(?:am|['’]m)\s+(?:very\s+|really\s+)?sorry|sorry,?\s+(?:but\s+)?i\b|i\s+apologi[sz]e"
    r"|as\s+an?\s+(?:ai|language\s+model)"
    r"|(?:i\s+)?(?:can\s*not|can['’]t|could\s+not|couldn['’]t|am\s+unable\s+to|['’]m\s+unable\s+to|unable\s+to)\s+"
    r"(?:\w+\s+){0,2}?(?:answer|determine|provide|diagnos\w*|identify|assist|help|view|see|interpret|analy[sz]e|tell|"
    r"process|comment)"
    r"|not\s+(?:possible\s+to|able\s+to)\s+(?:answer|determine|say|tell)"
    r"|insufficient\s+information|not\s+enough\s+information|no\s+image\s+(?:is|was|has\s+been)\s+(?:provided|attached)"
    r"|i\s+do(?:\s+not|n['’]t)\s+know)\b",
    re.IGNORECASE,
)


def is_refusal(completion: str) -> bool:
    """Whether what lies outside the thinking says that it gives no answer (English phrases).

    An answer block that holds just a letter is an answer, whatever is said beside it: the phrase must stand in the
    answer, or there must be no block.

    >>> is_refusal("I'm sorry, but without the image provided I cannot answer."), is_refusal("B, not A")
    (True, False)
    """
    rest = outside_thinking(completion)
    if rest is None:
        return False
    blocks = re.findall(r"<answer>(.*?)</answer>", rest, re.IGNORECASE | re.DOTALL)
    return bool(_REFUSAL.search(" ".join(blocks) if blocks else rest))
