"""The only code that turns a completion into an answer.

    tags.py            what lies outside the thinking, what the answer block holds
    reading.py         which option the text of an answer names
    typed.py           what it says where it is yes or no, a number, several labels or free text
    mentions.py        what a text names, and which option the thinking comes to
    parser.py          the default parser, shared by rewards and evaluation
    refusal.py         whether a completion refuses to answer
    published.py       the rules of MedVLM-R1, Med-R1 and AdvMed-R1, as they are
    medevalkit.py, vlmevalkit.py, lmms_eval.py, omnimedvqa.py, medvlthinker.py, medix_r1.py
                       the rules of the evaluation kits, as they are, with where they err
    latest_letter.py, similarity.py, kit.py
                       what several kits share
    open_ended.py      the kits' rules for open questions

A completion is right under a protocol where `PROTOCOLS[name](completion, sample).letter == sample.gold`. Names carry
the commit whose behaviour they are, and the form of the options where that changes the result.
"""

from collections.abc import Callable

from medr1.answers import lmms_eval, medevalkit, medix_r1, medvlthinker, omnimedvqa, vlmevalkit
from medr1.answers.kit import accepts, reads
from medr1.answers.open_ended import OPEN_PROTOCOLS, OpenProtocol
from medr1.answers.parser import AnswerFormat, parse_answer
from medr1.answers.published import EXTRACTORS, as_protocol
from medr1.answers.refusal import is_refusal
from medr1.types import ParsedAnswer, Sample

Protocol = Callable[[str, Sample], ParsedAnswer]
"""Reads a completion to a question. Never raises: a bad completion is data."""

PROTOCOLS: dict[str, Protocol] = {
    "default": parse_answer,
    **{name: as_protocol(extract) for name, extract in EXTRACTORS.items()},
    "medevalkit@9b12e3b/A.text": reads(medevalkit.multiple_choice("{letter}. {text}")),
    "medevalkit@9b12e3b/text": reads(medevalkit.multiple_choice("{text}")),
    "medevalkit-mmmu@9b12e3b": reads(medevalkit.mmmu),
    "medevalkit-judgement@9b12e3b": reads(medevalkit.judgement),
    "medevalkit-closed@9b12e3b": reads(medevalkit.closed),
    "vlmevalkit-exact@e8e78f0": reads(vlmevalkit.exact_matching),
    "vlmevalkit-exact@e8e78f0/verbose": reads(vlmevalkit.exact_matching_verbose),
    "vlmevalkit-yorn@e8e78f0": reads(vlmevalkit.yes_or_no),
    "lmms-mmmu@75571cf": reads(lmms_eval.mmmu),
    "lmms-mcq@75571cf": reads(lmms_eval.mcq),
    "lmms-medqa@75571cf": reads(lmms_eval.medqa),
    "lmms-slake@75571cf": reads(lmms_eval.slake),
    "omnimedvqa-qa@bd2999a": reads(omnimedvqa.question_answering),
    "omnimedvqa-qa@bd2999a/med-flamingo": reads(omnimedvqa.med_flamingo),
    "omnimedvqa-qa@bd2999a/medvint": reads(omnimedvqa.medvint),
    "medvlthinker@a3163b1": accepts(medvlthinker.inline),
    "medvlthinker-regrade@a3163b1": accepts(medvlthinker.regrade),
    "medvlthinker-regrade@a3163b1/llava-med": accepts(medvlthinker.regrade_llava_med),
    "medix-r1-reward@94fd018": accepts(medix_r1.exact),
}

GUESSING = frozenset({"medevalkit-mmmu@9b12e3b", "lmms-mmmu@75571cf", "lmms-medqa@75571cf"})
"""Protocols whose kit draws an option at random where it finds none: unreadable here, worth 1/K on average there."""

YES_NO_ONLY = frozenset({"medevalkit-judgement@9b12e3b", "vlmevalkit-yorn@e8e78f0"})
"""Protocols that read only questions whose options are yes and no."""


def applies(name: str, sample: Sample) -> bool:
    """Whether a protocol is made for this question."""
    return name not in YES_NO_ONLY or {option.lower().rstrip(".") for option in sample.options} == {"yes", "no"}


__all__ = [
    "GUESSING",
    "OPEN_PROTOCOLS",
    "PROTOCOLS",
    "YES_NO_ONLY",
    "AnswerFormat",
    "OpenProtocol",
    "Protocol",
    "applies",
    "is_refusal",
    "parse_answer",
]
