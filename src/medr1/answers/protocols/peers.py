"""The rules of three small kits, as they are, with where they err.

OmniMedVQA's own question-answering score (OpenGVLab/Multi-Modality-Arena, MedicalEval, commit bd2999a): nothing is
normalised, case counts, and the most similar option wins; so letters are matched by shared characters (of Benign and
Malignant, "B" is Benign), and refusals and prose go to the longest option. Nothing in common at all makes the kit fail:
the item counts as wrong, here as unreadable. Not built: the prefix-based score, which compares likelihoods of the
options and reads no completion; and what its variants do to whole files (they skip the first item and divide by the
last index).

MedVLThinker (UCSC-VLAA/MedVLThinker, commit a3163b1): equality with the gold label, its text, or "label. text". Nothing
else is right: `B.`, `(B)`, `**B**` and `B: text` are wrong, and so is a full stop after the text. The rule that it has
for LLaVA-Med also takes the gold text anywhere inside what is compared ("ct" in "architectural").

MediX-R1 (mbzuai-oryx/MediX-R1, commit 94fd018): the part of its training reward that needs no language model. The text
of the answer must equal the gold text, case included. A bare letter, anything with a colon, a question mark or two
underscores is refused. All else goes to a judge and to embeddings there, and is unreadable here: that part, the whole
of its evaluation, and its rewards for format and modality are not built.
"""

import re
from collections.abc import Sequence
from typing import Literal

from medr1.answers.default import option_letters
from medr1.answers.protocols.kit import most_similar
from medr1.types import LETTERS

FEWEST = 4
"""Med-Flamingo and MedVInT always compare with four options, whether they exist or not."""
HEAD = 6


def question_answering(completion: str, options: Sequence[str]) -> str | None:
    """The option text most similar to the completion."""
    return _omnimedvqa_letter(most_similar(options, completion))


def med_flamingo(completion: str, options: Sequence[str]) -> str | None:
    """The six first characters against `A:text`; options that do not exist are `C:None_Option`."""
    texts = [*options, *["None_Option"] * (FEWEST - len(options))]
    lettered = [f"{letter}:{text}" for letter, text in zip(LETTERS, texts, strict=False)]
    return _omnimedvqa_letter(most_similar(lettered, completion[:HEAD]))


def medvint(completion: str, options: Sequence[str]) -> str | None:
    """The completion against the bare letters."""
    return _omnimedvqa_letter(most_similar(LETTERS[: max(FEWEST, len(options))], completion))


def _omnimedvqa_letter(position: int | None) -> str | None:
    return None if position is None else LETTERS[position]


_BODY = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")
_LEAD_INS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"answer:\s*(.*)\s*", r"answer is:\s*(.*)\s*", r"answer is\s*(.*)\s*", r"is:\s*(.*)\s*")
)


def medvlthinker(completion: str, options: Sequence[str]) -> list[str]:
    """While it evaluates: the first answer block, else everything."""
    body = _BODY.search(completion)
    return _equal_to_label(body[1] if body else completion, options)


def medvlthinker_regrade(completion: str, options: Sequence[str]) -> list[str]:
    """When it grades again: the first line of the last answer block, else what follows "answer is", else all."""
    return _equal_to_label(_regraded(completion), options)


def medvlthinker_regrade_llava_med(completion: str, options: Sequence[str]) -> list[str]:
    """The same, or the text of the option anywhere in what is compared."""
    text = _regraded(completion).lower()
    inside = [
        letter for letter, option in zip(option_letters(options), options, strict=False) if option.lower() in text
    ]
    return [*medvlthinker_regrade(completion, options), *inside]


def _regraded(completion: str) -> str:
    bodies = _BODY.findall(completion)
    if bodies:
        return next((line for line in bodies[-1].splitlines() if line.strip()), "")
    for lead_in in _LEAD_INS:
        found = lead_in.findall(completion)
        if found:
            return _TAGS.sub("", found[-1])
    return _TAGS.sub("", completion)


def _equal_to_label(text: str, options: Sequence[str]) -> list[str]:
    text = text.strip().lower()
    return [
        letter
        for letter, option in zip(option_letters(options), options, strict=False)
        if text in (f"{letter}. {option}".lower(), letter.lower(), option.lower())
    ]


def medvlthinker_text(completion: str, answer: str) -> bool:
    """Its rule while it evaluates, without labels."""
    body = _BODY.search(completion)
    return (body[1] if body else completion).strip().lower() == answer.lower()


_REFUSED = re.compile(r"__|:|\?")


def medix_r1_verdict(completion: str, answer: str) -> Literal["right", "refused", "judged"]:
    """What becomes of a completion: right, refused (scored 0), or left to the judge."""
    text = _medix_r1_answer(completion)
    if len(text) < 2 or _REFUSED.search(text):
        return "refused"
    return "right" if text == answer else "judged"


def medix_r1(completion: str, options: Sequence[str]) -> list[str]:
    """The letters of the options that are right without a judge."""
    letters = zip(option_letters(options), options, strict=False)
    return [letter for letter, option in letters if medix_r1_verdict(completion, option) == "right"]


def _medix_r1_answer(completion: str) -> str:
    text = re.sub(r"\s*([<>/])\s*", r"\1", completion)
    body = _BODY.search(text)
    return (body[1] if body else text).strip().strip(".")
