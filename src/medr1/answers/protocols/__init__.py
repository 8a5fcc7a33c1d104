"""Every way to read a completion that somebody published, and ours, by name.

    seeds.py           MedVLM-R1, Med-R1 and AdvMed-R1
    medevalkit.py, vlmevalkit.py, lmms_eval.py, peers.py
                       the evaluation kits, as they are, with where they err
    open_ended.py      the rules for open questions
    kit.py             what several kits share

A completion is right under a protocol where `PROTOCOLS[name](completion, sample).letter == sample.gold`. Names carry
the commit whose behaviour they are, and the form of the options where that changes the result.
"""

from medr1.answers.default import parse_answer
from medr1.answers.protocols import lmms_eval, medevalkit, peers, vlmevalkit
from medr1.answers.protocols.kit import Protocol, accepts, reads
from medr1.answers.protocols.open_ended import OPEN_PROTOCOLS, OpenProtocol
from medr1.answers.protocols.seeds import EXTRACTORS, as_protocol
from medr1.types import Sample

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
    "omnimedvqa-qa@bd2999a": reads(peers.question_answering),
    "omnimedvqa-qa@bd2999a/med-flamingo": reads(peers.med_flamingo),
    "omnimedvqa-qa@bd2999a/medvint": reads(peers.medvint),
    "medvlthinker@a3163b1": accepts(peers.medvlthinker),
    "medvlthinker-regrade@a3163b1": accepts(peers.medvlthinker_regrade),
    "medvlthinker-regrade@a3163b1/llava-med": accepts(peers.medvlthinker_regrade_llava_med),
    "medix-r1-reward@94fd018": accepts(peers.medix_r1),
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
    "OpenProtocol",
    "Protocol",
    "applies",
]
