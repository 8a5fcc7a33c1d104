"""How the kits judge an answer to an open question: whether it equals the gold answer.

The judges by language models that most of them put beside or above these rules: `medr1.eval.judge`.
"""

import re
from collections.abc import Callable

from medr1.answers.default import answer_text, without_lead_in
from medr1.answers.protocols import lmms_eval, medevalkit, peers
from medr1.answers.without_options import read_number, read_words, read_yes_no
from medr1.types import ParseStatus

OpenProtocol = Callable[[str, str], float]
"""Score of a completion in 0..1 against one gold answer."""

_SENTENCE = re.compile(r"\.\s(?=[A-Z])|\n")
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBER = re.compile(r"(?<![\d.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?")


def mmmu(completion: str, answer: str) -> float:
    """MMMU's own rule: the answer occurs in a key part of the completion, or equals one of its numbers.

    The copies of it in lmms-eval (75571cf) and in the validation runner of MedEvalKit (9b12e3b) compare single
    characters and are never right; they are not built.
    """
    wanted, parts = answer.strip().lower(), _key_parts(completion)
    number = _number(answer)
    if number is not None:
        return float(number in [_number(found) for part in parts for found in (part, *_NUMBER.findall(part))])
    said = [form for part in parts for form in _spaced(part)]
    return float(any(form in part for form in _spaced(wanted) for part in said))


def _spaced(text: str) -> list[str]:
    """A single letter must stand beside a space, or it would occur in most words."""
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _number(text: str) -> float | None:
    """The number that a text is, to two decimals; None where it is none."""
    plain = text.strip().replace(",", "")
    return round(float(plain), 2) if re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", plain) else None


def _key_parts(completion: str) -> list[str]:
    """The shortest end of each sentence behind a word that announces an answer; all of it where there is none."""
    whole = completion.strip().strip(".").lower()
    sentences = _SENTENCE.split(whole)
    parts = []
    for number, sentence in enumerate(sentences, start=1):
        indicators = (*_INDICATORS, "=") if number == len(sentences) else _INDICATORS
        ends = [sentence.rpartition(word)[2].strip() for word in indicators if word in sentence]
        parts += [min(ends, key=len)] if ends else []
    return [part for part in parts if part.strip(",.!?;:'")] or [whole]


def same_answer(completion: str, answer: str) -> float:
    """Ours: what the completion gives as its answer is the gold one, as yes or no, as a number, or word by word."""
    said, status = answer_text(completion, "letter")
    if status is not ParseStatus.OK:
        return 0.0
    said = without_lead_in(said)
    for read in (read_yes_no, read_number, read_words):
        wanted = read(answer)
        if wanted is not None:
            return float(read(said) == wanted)
    return 0.0


OPEN_PROTOCOLS: dict[str, OpenProtocol] = {
    "medr1-open": same_answer,
    "medevalkit-em@9b12e3b": lambda completion, answer: float(medevalkit.exact_match(completion, answer)),
    "medevalkit-f1@9b12e3b": lambda completion, answer: medevalkit.token_f1(completion, answer)[0],
    "lmms-slake@75571cf": lambda completion, answer: float(lmms_eval.slake_match(completion, answer)),
    "mmmu-open": mmmu,
    "medvlthinker@a3163b1": lambda completion, answer: float(peers.medvlthinker_text(completion, answer)),
    "medix-r1-reward@94fd018": lambda completion, answer: float(peers.medix_r1_verdict(completion, answer) == "right"),
}
"""Rules for open questions by kit and commit."""
