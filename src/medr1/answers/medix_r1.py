"""MediX-R1 (mbzuai-oryx/MediX-R1, commit 94fd018): the part of its training reward that needs no language model.

The text of the answer must equal the gold text, case included. A bare letter, anything with a colon, a question mark or
two underscores is refused. All else goes to a judge and to embeddings there, and is unreadable here: that part, the
whole of its evaluation, and its rewards for format and modality are not built.
"""

import re
from collections.abc import Sequence
from typing import Literal

from medr1.answers.reading import option_letters

_BODY = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_REFUSED = re.compile(r"__|:|\?")


def verdict(completion: str, answer: str) -> Literal["right", "refused", "judged"]:
    """What becomes of a completion: right, refused (scored 0), or left to the judge."""
    text = _answer(completion)
    if len(text) < 2 or _REFUSED.search(text):
        return "refused"
    return "right" if text == answer else "judged"


def exact(completion: str, options: Sequence[str]) -> list[str]:
    """The letters of the options that are right without a judge."""
    letters = zip(option_letters(options), options, strict=False)
    return [letter for letter, option in letters if verdict(completion, option) == "right"]


def _answer(completion: str) -> str:
    text = re.sub(r"\s*([<>/])\s*", r"\1", completion)
    body = _BODY.search(text)
    return (body[1] if body else text).strip().strip(".")
