"""MedEvalKit (alibaba-damo-academy/MedEvalKit, commit 9b12e3b): the rules of its `utils/utils.py`.

Multiple choice never ends unread: what names no letter becomes the most similar option, so refusals and garbage are
right wherever the gold is the longest option, and an empty text is option A. `(B).` after "answer is" is not seen as a
letter. Thinking is read as if it were the answer. Results depend on how options are written ("A. text" or "text").
The rules for yes/no look for the letters "yes" and "no" anywhere: "normal", "unknown" and "none" are a no.

Not built: its judge by a language model, BLEU and ROUGE (nltk, rouge), and its averaging of open questions, which
divides their accuracy by their number twice.
"""

import re
from collections.abc import Callable, Sequence

from medr1.answers.default import option_letters
from medr1.answers.protocols.kit import Candidates, latest_letter, most_similar, single_pass_strip
from medr1.answers.tags import boxed

MARKERS = (
    "**answer**:",
    "**answer**",
    "*answer*:",
    "**answer:**",
    "answer is",
    "answer:",
    "答案:",
    "final answer",
    "final answer is",
)
_BODY = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def multiple_choice(option_format: str) -> Callable[[str, Sequence[str]], str | None]:
    """The rule with options written as `option_format` says, from `{letter}` and `{text}`."""

    def extract(completion: str, options: Sequence[str]) -> str | None:
        letters = option_letters(options)
        lower = [letter.lower() for letter in letters]
        texts = [
            option_format.format(letter=letter, text=text).lower()
            for letter, text in zip(letters, options, strict=False)
        ]
        text = _unmarked(_lone_paragraph(answer_bodies(completion).lower(), lower)).strip().lower().replace("\n", "")
        head = text.split(".")[0].split(":")[-1]
        if head in lower:
            return letters[lower.index(head)]
        if head in texts:
            return letters[texts.index(head)]
        return letters[most_similar(texts, text) or 0]

    return extract


def mmmu(completion: str, options: Sequence[str]) -> str | None:
    """Its MMMU-Medical rule; None is where it draws an option at random."""
    text = answer_bodies(completion)
    content = boxed(text)
    text = single_pass_strip((text if content is None else content).strip(), ",.!?;:'")
    return latest_letter(
        f" {text} ", options, (Candidates("({})", decided_by="({})"), Candidates(" {} ")), by_text=True
    )


def judgement(completion: str, options: Sequence[str]) -> str | None:
    """VQA-RAD and PathVQA: exactly one of "yes" and "no" occurs, as letters anywhere."""
    text = free_text(completion).replace("\n", "").replace(".", "")
    said = [word for word in ("yes", "no") if word in text]
    return _letter_of(said[0], options) if len(said) == 1 else None


def closed(completion: str, options: Sequence[str]) -> str | None:
    """SLAKE with a capitalised gold: the text equals an option, case aside; spaces and punctuation count."""
    return _letter_of(free_text(completion).replace("\n", "").replace(".", ""), options)


def exact_match(completion: str, answer: str) -> bool:
    """Open questions: the text equals the answer, case aside. The headline figure of its open questions."""
    return free_text(completion) == answer.lower()


def token_f1(completion: str, answer: str) -> tuple[float, float, float]:
    """F1, precision and recall of the sets of words; the kit prints them under each other's names.

    An empty completion scores 0; the kit fails on it.
    """
    said, wanted = set(free_text(completion).split()), set(answer.lower().split())
    common = len(said & wanted)
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def free_text(completion: str) -> str:
    """What is left of a free answer: the box or the answer tags opened, lower case, from the last marker on."""
    content = boxed(completion)
    text = answer_bodies(completion) if content is None else content
    return _unmarked(text.lower().strip())


def answer_bodies(text: str) -> str:
    """What stands between all pairs of `<answer>` tags, joined by spaces; the text where that is nothing."""
    return " ".join(_BODY.findall(text)).strip() or text


def _lone_paragraph(text: str, letters: Sequence[str]) -> str:
    """The first or the last paragraph where it is just a letter (the last one up to its first full stop)."""
    paragraphs = text.split("\n\n")
    last = paragraphs[-1].split(".")[0]
    if paragraphs[0] in letters:
        return paragraphs[0]
    return last if last in letters else text


def _unmarked(text: str) -> str:
    """The text behind the last of each marker, in their order; a box that is never closed reads "None"."""
    if "boxed" in text:
        content = boxed(text)
        text = "None" if content is None else content
    elif "<answer>" in text:
        text = answer_bodies(text)
    for marker in MARKERS:
        text = text.rpartition(marker)[2]
    return text


def _letter_of(text: str, options: Sequence[str]) -> str | None:
    texts = [option.lower() for option in options]
    return option_letters(options)[texts.index(text)] if text in texts else None
